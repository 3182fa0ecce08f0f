#!/usr/bin/env python
# Hooks only; the rest comes from the command line. One has an argument without a name.
from __future__ import annotations

from logging import config as settings


def post_worker_init(_):
    print(settings.DEFAULT_LOGGING_CONFIG_PORT, "ready")


def on_starting(server):
    from importlib import metadata

    server.plugins = list(metadata.entry_points())

"""Fixtures: a folder with an app in it, and a server that leaves nothing behind."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.server import APP, Server, is_gone, port_is_free


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., Server]]:
    """Starts servers; afterwards none of their processes is left and the port is free."""
    servers: list[Server] = []

    def start_one(*options: str, **details: Any) -> Server:
        servers.append(Server(details.pop("folder", folder), *options, **details))
        return servers[-1]

    yield start_one
    for server in servers:
        ended = server.has_ended()
        left = [pid for pid in server.seen_pids if not is_gone(pid)] if ended else []
        server.clean_up()
        assert not left, f"orphans {left}:\n{server.log}"
        assert "a fault in forkserve itself" not in server.log, server.log
        port = re.search(r"listens on http://127\.0\.0\.1:(\d+)", server.log)
        assert not ended or not port or port_is_free(int(port[1])), server.log

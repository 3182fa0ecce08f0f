"""Loads the app and runs uvicorn on it; a failure to do so is told to the master."""

from __future__ import annotations

import asyncio
from typing import Any

import uvicorn

from forkserve.channel import BootFailed
from forkserve.config.settings import Settings
from forkserve.supervisor.events import BootFailure
from forkserve.worker import logs
from forkserve.worker.app import BootError, explain, load_app
from forkserve.worker.birth import Job
from forkserve.worker.server import WorkerServer
from forkserve.worker.tracking import tracked

BOOT_FAILED = 3
"""The exit code of a worker whose app cannot start; uvicorn uses the same."""


def serve(job: Job) -> int:
    """Serve until told to leave. Returns the exit code."""
    troubles = logs.configure(job.settings.log_level)
    try:
        config = job.loaded or load(job.settings)
    except BootError as exc:
        return _give_up(job, exc.failure)
    config.loaded_app = tracked(config.loaded_app, job.row)
    server = WorkerServer(config, job, on_ready=troubles.stand_aside)
    try:
        with troubles:
            server.run(sockets=list(job.sockets))
    except asyncio.CancelledError:
        return 0  # asked to leave before it was ready
    except SystemExit:
        if server.started:
            raise
        return _give_up(job, troubles.failure(job.settings.app))
    except Exception as exc:
        if server.started:
            raise
        return _give_up(job, explain(exc, "could not be started"))
    return 0


def load(settings: Settings) -> uvicorn.Config:
    """Import the app and make uvicorn ready for it. Raises BootError."""
    app = load_app(settings.app, app_dir=settings.app_dir, factory=settings.factory)
    try:
        config = _uvicorn_config(app, settings)
        config.load()
    except (Exception, SystemExit) as exc:
        raise BootError(explain(exc, f"{settings.app} could not be loaded")) from exc
    return config


def _uvicorn_config(app: Any, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_config=None,
        log_level=None,
        timeout_keep_alive=settings.keep_alive,  # type: ignore[arg-type]  # call_later takes floats
        workers=1,
    )


def _give_up(job: Job, failure: BootFailure) -> int:
    job.channel.send(BootFailed(failure.headline, failure.where, failure.details))
    return BOOT_FAILED

"""Loads the app and runs uvicorn on it; a failure to do so is told to the master."""

from __future__ import annotations

import asyncio
import concurrent.futures.thread  # noqa: F401  # every event loop asks for it
import inspect
import logging
from collections.abc import Sequence
from typing import Any

import uvicorn

from forkserve import boot
from forkserve.channel import BootFailed
from forkserve.config.settings import Settings
from forkserve.supervisor.events import BootFailure
from forkserve.worker import identity, logs
from forkserve.worker.app import BootError, explain, load_app, load_function
from forkserve.worker.asking import BadAnswerError, ask
from forkserve.worker.birth import Job
from forkserve.worker.server import WorkerServer

logger = logging.getLogger("uvicorn.error")

WARM_ROUNDS = 5
"""How often each path is asked for; more makes no difference (tests/bench)."""

BOOT_FAILED = 3
"""The exit code of a worker whose app cannot start; uvicorn uses the same."""


def load(settings: Settings) -> uvicorn.Config:
    """Import the app, warm it up, and make uvicorn ready for it. Raises BootError."""
    app = load_app(settings.app, app_dir=settings.app_dir, factory=settings.factory)
    try:
        config = _uvicorn_config(app, settings)
        config.load()
        config.get_loop_factory()  # imports the event loop, which else each worker does
    except (Exception, SystemExit) as exc:
        raise BootError(explain(exc, f"{settings.app} could not be loaded")) from exc
    if settings.warmup:
        _warm_up(settings.warmup)
    if settings.warm_path:
        _answer_some(config.loaded_app, settings.warm_path)
    return config


def serve(job: Job) -> int:
    """Serve until told to leave. Returns the exit code."""
    boot.tell_through(job.channel)
    identity.take(job)
    try:
        if job.loaded is None:
            logs.configure(job.settings, job.log)
        config = job.loaded or load(job.settings)
    except BootError as exc:
        return _give_up(job, exc.failure)
    logs.begin_anew(job.settings)
    troubles = logs.Troubles()
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
    except BadAnswerError as exc:
        return _give_up(job, exc.failure)
    except Exception as exc:
        if server.started:
            raise
        return _give_up(job, explain(exc, f"{job.settings.app} could not be started"))
    return 0


def _warm_up(target: str) -> None:
    function = load_function(target)
    if inspect.iscoroutinefunction(function):
        headline = f"--warmup {target} is an async function; a plain one is needed."
        raise BootError(BootFailure(headline))
    try:
        function()
    except KeyboardInterrupt:
        raise
    except BaseException as exc:
        raise BootError(explain(exc, f"--warmup {target} failed")) from exc


def _answer_some(app: Any, paths: Sequence[str]) -> None:
    """Have the app answer requests, so that what it makes on first use is made, and shared.

    CPython specialises its bytecode in this way too (PEP 659). The app's lifespan has not
    begun, so an answer may fail; that is said, and harms nobody.
    """

    with asyncio.Runner() as runner:
        for path in paths:
            try:
                for _ in range(WARM_ROUNDS):
                    runner.run(ask(app, path, "--warm-path", {}))
            except Exception as exc:
                why = f"{exc} ({type(exc).__name__})"
                said = "--warm-path %s: a request before the start failed, and is left out: %s"
                logger.warning(said, path, why)
                return


def _uvicorn_config(app: Any, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_config=None,
        log_level=None,
        # h11's own limit: --max-header-size is the same with every parser.
        h11_max_incomplete_event_size=1 << 62,
        timeout_keep_alive=settings.keep_alive,  # type: ignore[arg-type]  # call_later takes floats
        workers=1,
    )


def _give_up(job: Job, failure: BootFailure) -> int:
    job.channel.send(BootFailed(failure.headline, failure.where, failure.details))
    return BOOT_FAILED

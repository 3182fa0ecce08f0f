"""Loads the app and runs uvicorn on it; a failure to do so is told to the master."""

from __future__ import annotations

import asyncio
import concurrent.futures.thread  # noqa: F401  # every event loop asks for it
import inspect
import logging
import os
from collections.abc import Sequence
from typing import Any

import uvicorn

from forkserve import boot
from forkserve.channel import BootFailed
from forkserve.config.settings import Settings
from forkserve.hooks.of_a_worker import WorkerHooks
from forkserve.supervisor.failures import BootFailure
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
    os.environ.update(settings.env)
    try:
        config = _uvicorn_config(settings)  # reads the environment file, which the app may need
    except (Exception, SystemExit) as exc:
        raise BootError(explain(exc, "uvicorn refused its settings")) from exc
    config.app = load_app(settings.app, app_dir=settings.app_dir, factory=settings.factory)
    try:
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
        hooks = job.hooks or _hooks_for(job)
    except BootError as exc:
        return _give_up(job, exc.failure)
    try:
        return _serve(job, hooks)
    finally:
        hooks.at_the_end()


def _hooks_for(job: Job) -> WorkerHooks:
    hooks = WorkerHooks(job.settings, job.master_pid)
    hooks.before_the_fork(job.worker_id, job.generation, job.slot)
    return hooks


def _serve(job: Job, hooks: WorkerHooks) -> int:
    try:
        hooks.after_the_fork()
        config = job.loaded or load(job.settings)
    except BootError as exc:
        return _give_up(job, exc.failure)
    logs.begin_anew(job.settings)
    troubles = logs.Troubles()
    server = WorkerServer(config, job, hooks.when_ready, on_ready=troubles.stand_aside)
    try:
        with troubles:
            server.run(sockets=list(job.sockets))
    except asyncio.CancelledError:
        return 0  # asked to leave before it was ready
    except SystemExit:
        if server.started:
            raise
        return _give_up(job, troubles.failure(job.settings.app))
    except (BadAnswerError, BootError) as exc:
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


def _uvicorn_config(settings: Settings) -> uvicorn.Config:
    passed_on = dict(settings.uvicorn)
    if headers := passed_on.pop("headers", None):
        passed_on["headers"] = [_name_and_value(header) for header in headers]
    own: dict[str, Any] = {
        "log_config": None,
        "log_level": None,
        # h11's own limit: --max-header-size is the same with every parser.
        "h11_max_incomplete_event_size": 1 << 62,
        "timeout_keep_alive": settings.keep_alive,
        "workers": 1,
    }
    return uvicorn.Config(settings.app, **passed_on | own)


def _name_and_value(header: str) -> tuple[str, str]:
    name, _, value = header.partition(":")
    return name, value.strip()  # h11 refuses to send a blank before it


def _give_up(job: Job, failure: BootFailure) -> int:
    job.channel.send(BootFailed(failure.headline, failure.where, failure.details))
    return BOOT_FAILED

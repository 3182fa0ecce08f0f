"""The hooks in the life of a worker. A template begins with them, and its workers go on."""

from __future__ import annotations

import os

from forkserve.config.hooks import OF_A_WORKER
from forkserve.config.settings import Settings
from forkserve.hooks.calling import Hooks
from forkserve.hooks.views import Server, Worker, log
from forkserve.worker.app import BootError


class WorkerHooks:
    """``pre_fork``, ``post_fork``, ``worker_ready`` and ``worker_exit``, in this order."""

    def __init__(self, settings: Settings, master_pid: int) -> None:
        """Raises BootError if one of them cannot be found, or cannot be called."""
        self._hooks = Hooks(settings.hooks, settings.app_dir, OF_A_WORKER)
        self._server = Server(settings, master_pid)
        self._worker = Worker(0, 0, 0, master_pid)
        self._failure: BootError | None = None

    def before_the_fork(self, worker_id: int, generation: int, slot: int) -> None:
        """If it raises, that is the worker's failure: the template lives on."""
        master_pid, cfg = self._server.pid, self._server.cfg
        self._worker = Worker(worker_id, generation, slot, master_pid, cfg=cfg)
        self._failure = None
        try:
            self._hooks.call("pre_fork", self._server, self._worker)
        except BootError as exc:
            self._failure = exc

    def after_the_fork(self) -> None:
        """Raises BootError, for the hook before the fork too."""
        self._worker.pid = os.getpid()
        if self._failure is not None:
            raise self._failure
        self._hooks.call("post_fork", self._server, self._worker)

    def when_ready(self) -> None:
        """Raises BootError."""
        self._hooks.call("worker_ready", self._worker)

    def at_the_end(self) -> None:
        """What is wrong with it is logged: the worker leaves anyway."""
        try:
            self._hooks.call("worker_exit", self._server, self._worker)
        except BootError as exc:
            log.error("%s", exc.failure)

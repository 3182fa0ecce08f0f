"""From the fork to the exit of a template."""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from forkserve import boot, titles
from forkserve.channel import (
    BootFailed,
    Channel,
    Hello,
    LogReopened,
    Ready,
    Spawn,
    Spawned,
    SpawnFailed,
    Unfit,
)
from forkserve.config.settings import Settings
from forkserve.logs.files import STANDARD_STREAMS, LogFds, take_over
from forkserve.scoreboard import Scoreboard
from forkserve.switchboard.queues import Exchange
from forkserve.template import audit, sharing, twofold
from forkserve.worker import birth, lifeline

if TYPE_CHECKING:
    import uvicorn

    from forkserve.hooks.of_a_worker import WorkerHooks

BOOT_FAILED = 3
"""The exit code of a template whose app cannot be imported, as of a worker's."""


@dataclass(frozen=True, slots=True)
class Errand:
    """All that a template gets from the master."""

    generation: int
    settings: Settings
    sockets: Sequence[socket.socket]
    channel: Channel
    scoreboard: Scoreboard
    last_words: int
    """A file for the fault handler; the master reads it after the template's end."""

    master_pid: int

    exchange: Exchange | None = None
    """The workers' way to the switchboard, if there is one."""

    log: LogFds = STANDARD_STREAMS

    def fds(self) -> set[int]:
        exchange = self.exchange.fds() if self.exchange else set()
        sockets = {s.fileno() for s in self.sockets}
        return {self.channel.fileno(), self.last_words} | sockets | exchange | self.log.fds()


def run(errand: Errand) -> NoReturn:
    """Be a template. Called in the new child, with every signal blocked; never returns."""
    birth.live_and_leave(lambda: _be_a_template(errand))


def _be_a_template(errand: Errand) -> int:
    birth.forget_the_parent(errand.fds(), errand.last_words, errand.master_pid)
    # It serves nobody, so nothing of the app may hold it back.
    lifeline.die_with_the_master(errand.master_pid, signal.SIGKILL)
    lifeline.take_no_notice_of(signal.SIGINT)  # Ctrl-C is for the master to act on
    titles.show(f"template gen {errand.generation}", "forkserve-tmpl", errand.settings.name)
    boot.tell_through(errand.channel)
    from forkserve.hooks.of_a_worker import WorkerHooks
    from forkserve.worker import logs
    from forkserve.worker.app import BootError

    try:
        logs.configure(errand.settings, errand.log)
        # What the log is written to is not the app's.
        before = audit.Baseline.take(errand.fds())
        from forkserve.worker.serve import load

        # First: what such a file sets up, in the environment say, is for the app to find.
        hooks = WorkerHooks(errand.settings, errand.master_pid)
        loaded = load(errand.settings)
    except BootError as exc:
        failure = exc.failure
        errand.channel.send(BootFailed(failure.headline, failure.where, failure.details))
        return BOOT_FAILED
    if errand.settings.preload is None and (findings := audit.audit(before)):
        errand.channel.send(Unfit(audit.summary(findings)))
        return 0
    # The app may have set a handler of its own as it was imported; ours is to go at once.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if errand.settings.share == "immortal":
        sharing.immortalise(loaded)
    else:
        sharing.freeze()
    errand.channel.send(Ready())
    _fork_until_dismissed(errand, loaded, hooks)
    return 0


def _fork_until_dismissed(errand: Errand, loaded: uvicorn.Config, hooks: WorkerHooks) -> None:
    """Fork what the master asks for, until the master is gone.

    A dismissal is a SIGTERM, which simply ends us: nobody waits for a template.
    """
    poll = select.poll()
    poll.register(errand.channel.fileno(), select.POLLIN)
    while not errand.channel.closed:
        poll.poll()
        for message, fds in errand.channel.receive_with_fds():
            try:
                if isinstance(message, Spawn):
                    _spawn(errand, loaded, hooks, message, fds)
                elif isinstance(message, LogReopened):
                    take_over(errand.channel, message, fds)
            finally:
                for fd in fds:
                    os.close(fd)


def _spawn(
    errand: Errand, loaded: uvicorn.Config, hooks: WorkerHooks, wanted: Spawn, fds: Sequence[int]
) -> None:
    hooks.before_the_fork(wanted.worker_id, errand.generation, wanted.slot)
    child = partial(_be_a_worker, errand, loaded, hooks, wanted, fds)
    try:
        pid = twofold.fork_for(errand.master_pid, child)
    except OSError as exc:
        errand.channel.send(SpawnFailed(wanted.worker_id, exc.strerror or str(exc)))
    else:
        errand.channel.send(Spawned(wanted.worker_id, pid))


def _be_a_worker(
    errand: Errand, loaded: uvicorn.Config, hooks: WorkerHooks, wanted: Spawn, fds: Sequence[int]
) -> NoReturn:
    channel_fd, last_words = fds
    titles.be_called("forkserve")
    channel = Channel(socket.socket(fileno=channel_fd))
    channel.send(Hello(os.getpid()))
    errand.channel.close()
    os.close(errand.last_words)
    job = birth.Job(
        wanted.worker_id,
        errand.generation,
        wanted.slot,
        errand.settings,
        errand.sockets,
        channel,
        errand.scoreboard.row(wanted.slot),
        last_words,
        errand.master_pid,
        spare=bool(wanted.spare),
        loaded=loaded,
        exchange=errand.exchange,
        hooks=hooks,
        log=errand.log,
    )
    birth.run(job)

"""From the fork to the exit of a hook runner: a process that calls one hook for the master."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from forkserve import boot, titles
from forkserve.channel import BootFailed, Channel
from forkserve.config.settings import Settings
from forkserve.hooks.calling import Hooks
from forkserve.hooks.views import Cfg, Server, Worker
from forkserve.logs.files import LogFds
from forkserve.worker import birth, lifeline
from forkserve.worker.app import BootError

FAILED = 3
"""The exit code if the hook has failed, as of a worker whose app cannot start."""


@dataclass(frozen=True, slots=True)
class Errand:
    """All that a hook runner gets from the master."""

    hook: str
    workers: Sequence[Worker]
    """Whose end child_exit is told, one after the other."""

    settings: Settings
    channel: Channel
    last_words: int
    """A file for the fault handler; the master reads it after the runner's end."""

    master_pid: int
    log: LogFds


def run(errand: Errand) -> NoReturn:
    """Be a hook runner. Called in the new child, with every signal blocked; never returns."""
    birth.live_and_leave(lambda: _call(errand))


def _call(errand: Errand) -> int:
    keep = {errand.channel.fileno(), errand.last_words} | errand.log.fds()
    birth.forget_the_parent(keep, errand.last_words, errand.master_pid)
    lifeline.die_with_the_master(errand.master_pid, signal.SIGKILL)
    for number in (signal.SIGINT, signal.SIGTERM):
        # They may go to the whole group; the master knows what is to be done about them.
        lifeline.take_no_notice_of(number)
    titles.show(f"hook {errand.hook}", "forkserve-hook", errand.settings.name)
    boot.tell_through(errand.channel)
    settings, name = errand.settings, errand.hook
    server = Server(settings, errand.master_pid)
    failures = 0
    try:
        hooks = Hooks(settings.hooks, settings.app_dir, [name])
    except BootError as exc:
        return _confess(errand, exc)
    for worker in errand.workers:
        worker.cfg = Cfg(settings)
    calls: list[tuple[Server | Worker, ...]] = [(server, worker) for worker in errand.workers]
    for arguments in calls or [(server,)]:
        try:
            hooks.call(name, *arguments)
        except BootError as exc:
            failures = _confess(errand, exc)
    return failures


def _confess(errand: Errand, error: BootError) -> int:
    failure = error.failure
    errand.channel.send(BootFailed(failure.headline, failure.where, failure.details))
    return FAILED

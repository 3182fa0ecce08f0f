"""From the fork to the exit of a worker.

Nothing of uvicorn is imported here but in the child: the master stays small, and a
reload brings a new uvicorn too.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from forkserve import titles
from forkserve.channel import Channel, close_all_but
from forkserve.config.settings import Settings
from forkserve.logs.files import STANDARD_STREAMS, LogFds
from forkserve.scoreboard import Row
from forkserve.switchboard.queues import Exchange
from forkserve.worker import lifeline


@dataclass(frozen=True, slots=True)
class Job:
    """All that a worker gets from its parent."""

    worker_id: int
    generation: int
    slot: int
    settings: Settings
    sockets: Sequence[socket.socket]
    channel: Channel
    row: Row
    last_words: int
    """A file for the fault handler; the master reads it after the worker's end."""

    master_pid: int
    spare: bool = False
    """It is ready without accepting, until it is promoted."""

    loaded: Any = None
    """The ``uvicorn.Config`` that the template has loaded, if one has forked us."""

    exchange: Exchange | None = None
    """The way to the switchboard, if there is one."""

    log: LogFds = STANDARD_STREAMS

    hooks: Any = None
    """The ``WorkerHooks`` that the template has begun with, if one has forked us."""

    def fds(self) -> set[int]:
        exchange = self.exchange.fds() if self.exchange else set()
        sockets = {s.fileno() for s in self.sockets}
        return {self.channel.fileno(), self.last_words} | sockets | exchange | self.log.fds()


def run(job: Job) -> NoReturn:
    """Be a worker. Called in the new child, with every signal blocked; never returns.

    Leaves by ``os._exit``: the child is a copy of its parent in the middle of the
    parent's work, and none of the parent's clean-up code may run in it.
    """
    live_and_leave(lambda: _live(job))


def _live(job: Job) -> int:
    if job.loaded is None:
        forget_the_parent(job.fds(), job.last_words, job.master_pid)
    else:
        leave_the_template(job)
    who = f"worker {job.worker_id} gen {job.generation}"
    titles.show(who, "forkserve", job.settings.name)
    from forkserve.worker.serve import serve

    return serve(job)


def live_and_leave(life: Callable[[], int]) -> NoReturn:
    """Exit with what ``life`` returns. For a new child; see :func:`run`."""
    code = 1
    try:
        code = life()
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        _flush()
        os._exit(code)


def forget_the_parent(keep: set[int], last_words: int | None, master_pid: int) -> None:
    """Undo what a fork of the master has copied, before anything else can happen."""
    signal.set_wakeup_fd(-1)  # else our signals would show up in the master's loop
    for number in signal.valid_signals():
        if signal.getsignal(number) not in (signal.SIG_DFL, signal.SIG_IGN, None):
            signal.signal(number, signal.SIG_DFL)
    close_all_but(keep)
    lifeline.leave_the_terminal_to_the_master()
    _begin(last_words, master_pid)


def leave_the_template(job: Job) -> None:
    """Undo what a fork of the template has copied: what the app has set up stays."""
    # As in a worker that the master has forked: until it serves, this ends it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _begin(job.last_words, job.master_pid)


def _begin(last_words: int | None, master_pid: int) -> None:
    lifeline.die_with_the_master(master_pid)
    if last_words is not None:
        lifeline.write_stacks_to(last_words)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass  # closed, or its reader has gone

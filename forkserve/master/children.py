"""What the master holds of each worker: its channel, its row, its last words."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from forkserve.channel import Channel
from forkserve.config.settings import Settings
from forkserve.master.kernel import Kernel
from forkserve.master.listeners import Listener
from forkserve.scoreboard import Row, Scoreboard
from forkserve.supervisor.actions import Fork
from forkserve.worker import birth

LONGEST_STACK = 32 * 1024
"""Bytes of a stack dump that go into the log."""

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


@dataclass(slots=True)
class Child:
    """The master's end of one worker."""

    worker_id: int
    generation: int
    pid: int
    channel: Channel
    row: Row
    last_words: int

    def stack(self) -> str:
        """What the worker's fault handler has written so far."""
        with contextlib.suppress(OSError):
            text = os.pread(self.last_words, LONGEST_STACK, 0).decode("utf-8", "replace")
            return _without_machinery(text)
        return ""

    def close(self) -> None:
        self.channel.close()
        os.close(self.last_words)


class Nursery:
    """Makes workers directly: the master forks, and the child imports the app."""

    def __init__(
        self,
        settings: Settings,
        kernel: Kernel,
        scoreboard: Scoreboard,
        listeners: Sequence[Listener],
    ) -> None:
        self._settings = settings
        self._kernel = kernel
        self._scoreboard = scoreboard
        self._listeners = listeners

    def fork(self, wanted: Fork) -> Child:
        """A new worker. Raises OSError (EAGAIN, ENOMEM, EMFILE) and leaves nothing."""
        with contextlib.ExitStack() as undo:
            ours, theirs = Channel.pair()
            undo.callback(ours.close)
            last_words = _nameless_file()
            undo.callback(os.close, last_words)
            with contextlib.closing(theirs):
                row = self._scoreboard.row(wanted.slot)
                row.clear()
                job = self._job(wanted, theirs, row, last_words)
                pid = self._kernel.fork(partial(birth.run, job))
            undo.pop_all()
        return Child(wanted.worker_id, wanted.generation, pid, ours, row, last_words)

    def _job(self, wanted: Fork, channel: Channel, row: Row, last_words: int) -> birth.Job:
        return birth.Job(
            wanted.worker_id,
            wanted.generation,
            wanted.slot,
            self._settings,
            [listener.socket for listener in self._listeners],
            channel,
            row,
            last_words,
            os.getpid(),
        )


def _nameless_file() -> int:
    """A close-on-exec file without a name (memfd_create(2), or an unlinked one)."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("forkserve-last-words")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def drain_signal(patient: bool) -> int:
    """The signal by which the master asks a worker to leave."""
    return signal.SIGTERM if patient else signal.SIGINT


def _without_machinery(stack: str) -> str:
    """A faulthandler dump without what lies below the app: the worker's own start."""
    kept: list[str] = []
    below = False
    for line in stack.strip().splitlines():
        frame = line.startswith("  File ")
        below = frame and (below or _PACKAGE in line)
        if not below and "<frozen importlib" not in line:
            kept.append(line)
    return "\n".join(kept)

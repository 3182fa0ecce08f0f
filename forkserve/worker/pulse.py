"""Notices how long the event loop is held up.

A timer every few milliseconds that comes late says for how long the loop has not turned.
It runs only while there is something to suspect: an idle worker, or one whose requests
all are fast, has none.

What the kernel let this process wait for a processor is no handler's fault, and does not
count: there would be none for a sibling either. Linux says how long that was
(``/proc/pid/schedstat``: time spent waiting on a runqueue, in nanoseconds; kernel
documentation, "Scheduler Statistics").
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from time import monotonic

from forkserve.worker.slowness import ATTENTION, FAST

OnHeld = Callable[[float, float], None]
"""``on_held(seconds, now)``: the loop turns again at ``now``, so many seconds late."""


class Pulse:
    """Beats for a while after each suspicion."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_held: OnHeld) -> None:
        self._loop = loop
        self._on_held = on_held
        self._until = 0.0
        self._running = False
        self._queued = _RunQueue()

    def suspect(self, now: float) -> None:
        """Something took long; it may have held the loop up."""
        self._until = now + ATTENTION
        if not self._running:
            self._running = True
            self._queued.since_last()
            self._next(now)

    def _next(self, now: float) -> None:
        self._loop.call_later(FAST, self._beat, now + FAST)

    def _beat(self, due: float) -> None:
        now = monotonic()
        self._on_held(max(0.0, now - due - self._queued.since_last()), now)
        if now < self._until:
            self._next(now)
        else:
            self._running = False


class _RunQueue:
    """For how long the main thread, which runs the loop, had to wait for a processor."""

    def __init__(self) -> None:
        self._total = 0.0
        self._file: int | None = None
        with contextlib.suppress(OSError):
            self._file = os.open("/proc/self/schedstat", os.O_RDONLY | os.O_CLOEXEC)

    def since_last(self) -> float:
        """Seconds since the last call; 0.0 where the kernel does not say."""
        if self._file is None:
            return 0.0
        before = self._total
        with contextlib.suppress(OSError, ValueError, IndexError):
            self._total = int(os.pread(self._file, 64, 0).split()[1]) * 1e-9
        return self._total - before

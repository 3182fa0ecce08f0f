"""Notices how long the event loop is held up.

A timer every few milliseconds that comes late says for how long the loop has not turned.
It runs only while there is something to suspect: an idle worker, or one whose requests
all are fast, has none.
"""

from __future__ import annotations

import asyncio
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

    def suspect(self, now: float) -> None:
        """Something took long; it may have held the loop up."""
        self._until = now + ATTENTION
        if not self._running:
            self._running = True
            self._next(now)

    def _next(self, now: float) -> None:
        self._loop.call_later(FAST, self._beat, now + FAST)

    def _beat(self, due: float) -> None:
        now = monotonic()
        self._on_held(max(0.0, now - due), now)
        if now < self._until:
            self._next(now)
        else:
            self._running = False

"""Shows often that the event loop turns: for ``--slow-threshold``, and only with it.

A blocked loop says nothing; the master sees that the beat is missing. What only the worker can
tell is for how long the loop was blocked, once it is not any more.
"""

from __future__ import annotations

import asyncio
from time import monotonic

from forkserve.channel import Channel, Unblocked
from forkserve.scoreboard import Row
from forkserve.supervisor.beats import beat_every


class Heartbeat:
    """Beats on the row until it is ended."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, row: Row, channel: Channel, threshold: float
    ) -> None:
        self._loop = loop
        self._row = row
        self._channel = channel
        self._threshold = threshold
        self._every = beat_every(threshold)
        self._due = monotonic()
        self._timer: asyncio.TimerHandle | None = None
        self._untold = 0.0
        """Seconds for which the loop was blocked, while the master does not know it."""
        self._beat()

    def _beat(self) -> None:
        now = monotonic()
        self._row.beat_alone(now)
        if (blocked := now - self._due) > self._threshold:
            self._untold = blocked
        # The master waits for it before it looks again; and this must not block in its turn.
        if self._untold and self._channel.offer(Unblocked(self._untold)):
            self._untold = 0.0
        self._due = now + self._every
        self._timer = self._loop.call_later(self._every, self._beat)

    def end(self) -> None:
        """There will be no loop any more, and nobody is to wait for a beat."""
        if self._timer is not None:
            self._timer.cancel()
        self._row.beat_alone(0.0)

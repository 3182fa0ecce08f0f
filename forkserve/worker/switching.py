"""When a worker parks: while handlers are slow, its own or any sibling's."""

from __future__ import annotations

import asyncio
from time import monotonic

from forkserve.channel import Channel, Slow
from forkserve.scoreboard import Row
from forkserve.worker.parking import Parking
from forkserve.worker.pulse import Pulse
from forkserve.worker.slowness import Slowness

COMPANY = 2
"""Looks at which there was a sibling, in a row, from which on there is one that could take
over: the last worker of a reload and the next one meet for a moment only."""


class Switching:
    """Switches :class:`~forkserve.worker.parking.Parking` on and off."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        parking: Parking,
        row: Row,
        channel: Channel,
        always: bool,
    ) -> None:
        self._parking = parking
        self._row = row
        self._channel = channel
        self._always = always
        self._slowness = Slowness(monotonic())
        self._pulse = Pulse(loop, self._held)
        self._slow = False
        """What siblings and the master have been told."""
        self._looks_in_company = 0
        self._seen = 0
        """Requests that have begun, as of the last look."""
        self.look(monotonic())

    def suspect(self, now: float) -> None:
        """A request took long; it may have held the loop up."""
        if not self._always:
            self._pulse.suspect(now)

    def waited(self, seconds: float) -> None:
        """A request had to wait here for another to end, as if that had held the loop."""
        if not self._always:
            self._held(seconds, monotonic())

    def look(self, now: float) -> None:
        """To be called about once a second: siblings notice slowness too."""
        self._looks_in_company = 0 if self._row.is_alone() else self._looks_in_company + 1
        self._held(0.0, now)
        self._parking.activate(self._always or self._row.any_slow())

    def _held(self, seconds: float, now: float) -> None:
        slowness, begun = self._slowness, self._row.begun()
        slowness.held(seconds, begun - self._seen, now)
        self._seen = begun
        slow = slowness.slow and self._looks_in_company >= COMPANY
        if slow is not self._slow:
            self._slow = slow
            self._row.slow(slow)
            self._channel.send(Slow(int(slow)))
            self._parking.activate(self._always or self._row.any_slow())

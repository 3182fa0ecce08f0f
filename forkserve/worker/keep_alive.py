"""Closes connections that have been idle for too long, without a timer for each answer.

uvicorn starts a timer after every answer and cancels it at the next request, which every
request pays for. Here nothing is started: what uvicorn gets as its timer is the current
:class:`Moment`, the same for all that became idle since the last look, and about once a
second the connections are looked through.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

FINEST = 2.0
"""Seconds. For a shorter keep-alive time a look a second is too coarse."""


class Moment:
    """The time between two looks, in place of a timer: which began to be idle in it."""

    __slots__ = ("over",)

    def __init__(self) -> None:
        self.over = float("inf")
        """When it was over (``time.monotonic()``)."""

    def cancel(self) -> None:
        """Nothing has been started."""


class Timers:
    """All that uvicorn's HTTP protocols ask of the event loop: tasks, and a timer for an
    idle connection."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.create_task = loop.create_task
        self._now = Moment()

    def call_later(self, _delay: float, _callback: Callable[[], Any]) -> Moment:
        return self._now

    def deadline(self, connection: Any, keep_alive: float, now: float) -> float:
        """When ``connection``, idle at ``now``, will have been so for too long."""
        moment = connection.timeout_keep_alive_task
        began = min(moment.over, now) if isinstance(moment, Moment) else now
        return began + keep_alive

    def close_idle(self, connections: Iterable[Any], keep_alive: float, now: float) -> None:
        """Close those of uvicorn's ``connections`` that have been idle for longer than
        ``keep_alive`` seconds, and for up to two looks more."""
        self._now.over = now
        self._now = Moment()
        for connection in list(connections):
            moment = getattr(connection, "timeout_keep_alive_task", None)
            if isinstance(moment, Moment) and now - moment.over >= keep_alive:
                connection.timeout_keep_alive_handler()

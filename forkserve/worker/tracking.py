"""Keeps the scoreboard's row informed of the requests that are served.

It is passed by every request, so each line of it was weighed (``tests/bench/scoreboard``).
Most often a request is alone in its worker, from its begin to its end: then there are four
numbers to write, and nothing else. What several at once need is in :class:`Crowd`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from time import monotonic
from typing import Any

from forkserve.readings import BOUNDS
from forkserve.scoreboard import (
    CLOSED,
    DURATIONS,
    MORE,
    OVERLAP,
    SECONDS,
    SINCE,
    SPELL,
    WEBSOCKETS,
    Row,
)
from forkserve.worker.slowness import SUSPICIOUS

QUICK = BOUNDS[0]
assert QUICK <= SUSPICIOUS, "one that is quick is not looked at any closer"


def tracked(
    app: Any,
    row: Row,
    on_answered: Callable[[int], None] | None = None,
    on_long: Callable[[float], None] | None = None,
) -> Any:
    """``app``, with each request noted in ``row`` while it is served, and counted.

    The row shows the newest request that is not answered yet: one that blocks the
    loop, or takes the process down, is most often the last that began. The query
    string is left out, since it may hold secrets. ``on_answered``, if given, is told
    how many requests have been answered, after each; ``on_long`` the time at which one
    ends that took suspiciously long.

    WebSockets count as requests too, but their time makes no worker busy, and is not among
    the durations: it is the client's choice.
    """
    counts, label = row.counts, row.label
    lone: Any = None
    """The scope of the only request in flight."""
    crowd = Crowd(row)
    members = crowd.members
    quick = seconds = 0.0
    answered = 0
    shown_method, shown_path = "", b""

    def show(method: str, path: bytes) -> None:
        nonlocal shown_method, shown_path
        if path == shown_path and method == shown_method:
            return
        label(method.encode(), path)
        shown_method, shown_path = method, path

    crowd.show = show

    async def track(scope: Any, receive: Any, send: Any) -> None:
        nonlocal lone, quick, seconds
        if scope["type"] != "http":
            await track_other(scope, receive, send)
            return
        method, path = scope["method"], scope["raw_path"]
        since = monotonic()
        if lone is None and not members:
            lone = scope
        else:
            join(scope, since, method, path)
        if path != shown_path or method != shown_method:
            show(method, path)
        counts[SINCE] = since
        try:
            await app(scope, receive, send)
        finally:
            now = monotonic()
            took = now - since
            if lone is scope:
                lone = None
                # Before the rest: what was read twice could not be taken back.
                counts[SINCE] = 0.0
            else:
                crowd.leave(scope, now, took)
            counts[SECONDS] = seconds = seconds + took
            if took <= QUICK:
                counts[DURATIONS] = quick = quick + 1.0
            else:
                counts[DURATIONS + bisect_left(BOUNDS, took)] += 1.0
                if on_long is not None and took > SUSPICIOUS:
                    on_long(now)
            if on_answered is not None:
                tell()

    def join(scope: Any, since: float, method: str, path: bytes) -> None:
        nonlocal lone
        if lone is not None:
            crowd.join(lone, counts[SINCE], shown_method, shown_path)
            lone = None
        crowd.join(scope, since, method, path)

    def tell() -> None:
        nonlocal answered
        answered += 1
        if on_answered is not None:
            on_answered(answered)

    async def track_other(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await app(scope, receive, send)
            return
        since = monotonic()
        method, path = "WebSocket", scope["raw_path"]
        counts[WEBSOCKETS] += 1.0
        join(scope, since, method, path)
        show(method, path)
        counts[SINCE] = since
        try:
            await app(scope, receive, send)
        finally:
            now = monotonic()
            crowd.leave(scope, now)
            counts[WEBSOCKETS] -= 1.0
            counts[CLOSED] += 1.0
            tell()
            if on_long is not None and now - since > SUSPICIOUS:
                on_long(now)

    return track


class Crowd:
    """The requests in flight, while there are several, or a WebSocket is open."""

    def __init__(self, row: Row) -> None:
        self._counts = row.counts
        self.members: dict[int, tuple[float, str, bytes]] = {}
        """By the scope's id: since when each is served, its method and path."""
        self._spell = self._overlap = 0.0
        self._requests = 0
        """How many are no WebSockets."""
        self.show: Callable[[str, bytes], None] = lambda method, path: None

    def join(self, scope: Any, since: float, method: str, path: bytes) -> None:
        """It begins, or is not alone any longer."""
        self.members[id(scope)] = since, method, path
        self._counts[MORE] = len(self.members) - 1
        if method == "WebSocket":
            return
        if not self._requests:
            self._counts[SPELL] = self._spell = since
        self._requests += 1

    def leave(self, scope: Any, now: float, took: float | None = None) -> None:
        """It ends, after ``took`` seconds if it is no WebSocket. Show the newest that is left."""
        del self.members[id(scope)]
        if self.members:
            since, method, path = next(reversed(self.members.values()))
            self._counts[MORE] = len(self.members) - 1
            self.show(method, path)
            self._counts[SINCE] = since
        else:
            self._counts[MORE] = self._counts[SINCE] = 0.0
        if took is not None:
            self._count(now, took)

    def _count(self, now: float, took: float) -> None:
        self._requests -= 1
        self._overlap += took
        if not self._requests:
            self._overlap -= now - self._spell
            self._counts[SPELL] = 0.0
        self._counts[OVERLAP] = self._overlap

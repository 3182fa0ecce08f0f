"""Keeps the scoreboard's row informed of the requests that are served."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from time import monotonic
from typing import Any

from forkserve.readings import BOUNDS
from forkserve.scoreboard import (
    BEGUN,
    BUSY,
    CLOSED,
    DURATIONS,
    SECONDS,
    SINCE,
    WEBSOCKETS,
    Row,
)
from forkserve.worker.slowness import SUSPICIOUS

QUICK = BOUNDS[0]
assert QUICK <= SUSPICIOUS, "one that is quick is not looked at any closer"

Request = tuple[float, str, bytes]
"""Since when it is served, method and path."""


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

    It is passed by every request, so each line of it was weighed
    (``tests/bench/scoreboard``). How many were answered is not written: it is the sum of
    how many took how long.
    """
    in_flight: dict[float, Request] = {}
    sockets: dict[float, Request] = {}
    begun = quick = seconds = busy = 0.0
    counts, label = row.counts, row.label
    shown_method, shown_path = "", b""

    def show(since: float, method: str, path: bytes) -> None:
        nonlocal shown_method, shown_path
        counts[SINCE] = since
        label(method.encode(), path)
        shown_method, shown_path = method, path

    def show_the_newest() -> None:
        if newest := max([*list(in_flight)[-1:], *list(sockets)[-1:]], default=None):
            show(*(in_flight.get(newest) or sockets[newest]))

    async def track(scope: Any, receive: Any, send: Any) -> None:
        nonlocal begun, quick, seconds, busy
        if scope["type"] != "http":
            await track_other(scope, receive, send)
            return
        method, path = scope["method"], scope["raw_path"]
        begun = number = begun + 1.0
        since = monotonic()
        if not in_flight:
            counts[BUSY] = busy = busy - since
        in_flight[number] = (since, method, path)
        if path == shown_path and method == shown_method:
            counts[SINCE] = since
        else:
            show(since, method, path)
        counts[BEGUN] = begun
        try:
            await app(scope, receive, send)
        finally:
            now = monotonic()
            took = now - since
            del in_flight[number]
            counts[SECONDS] = seconds = seconds + took
            if took <= QUICK:
                counts[DURATIONS] = quick = quick + 1.0
            else:
                counts[DURATIONS + bisect_left(BOUNDS, took)] += 1.0
                if on_long is not None and took > SUSPICIOUS:
                    on_long(now)
            if in_flight:
                if next(reversed(in_flight)) < number:
                    show_the_newest()
            else:
                counts[BUSY] = busy = busy + now
                if sockets:
                    show_the_newest()
            if on_answered is not None:
                on_answered(int(begun) - len(in_flight) - len(sockets))

    async def track_other(scope: Any, receive: Any, send: Any) -> None:
        nonlocal begun
        if scope["type"] == "lifespan":
            await app(scope, receive, send)
            return
        begun = number = begun + 1.0
        since = monotonic()
        sockets[number] = request = (since, "WebSocket", scope["raw_path"])
        show(*request)
        counts[WEBSOCKETS] = len(sockets)
        counts[BEGUN] = begun
        try:
            await app(scope, receive, send)
        finally:
            del sockets[number]
            counts[WEBSOCKETS] = len(sockets)
            counts[CLOSED] += 1.0
            show_the_newest()
            if on_answered is not None:
                on_answered(int(begun) - len(in_flight) - len(sockets))
            if on_long is not None and (now := monotonic()) - since > SUSPICIOUS:
                on_long(now)

    return track

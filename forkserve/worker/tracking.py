"""Keeps the scoreboard's row informed of the request being served."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

from forkserve.scoreboard import ANSWERED, BEGUN, SINCE, Row
from forkserve.worker.slowness import SUSPICIOUS


def tracked(
    app: Any,
    row: Row,
    on_answered: Callable[[int], None] | None = None,
    on_long: Callable[[float], None] | None = None,
) -> Any:
    """``app``, with each request noted in ``row`` while it is served.

    The row shows the newest request that is not answered yet: one that blocks the
    loop, or takes the process down, is most often the last that began. The query
    string is left out, since it may hold secrets. ``on_answered``, if given, is told
    how many requests have been answered, after each; ``on_long`` the time at which one
    ends that took suspiciously long.

    It is passed by every request, so each line of it was weighed (``tests/bench/cost``).
    """
    in_flight: dict[float, tuple[float, str, bytes]] = {}
    begun = answered = 0.0
    counts, label = row.counts, row.label
    shown_method, shown_path = "", b""

    def show(since: float, method: str, path: bytes) -> None:
        nonlocal shown_method, shown_path
        counts[SINCE] = since
        label(method.encode(), path)
        shown_method, shown_path = method, path

    async def track(scope: Any, receive: Any, send: Any) -> None:
        nonlocal begun, answered
        kind = scope["type"]
        if kind == "lifespan":
            await app(scope, receive, send)
            return
        method, path = scope["method"] if kind == "http" else "WebSocket", scope["raw_path"]
        begun = number = begun + 1.0
        in_flight[number] = request = (monotonic(), method, path)
        if path == shown_path and method == shown_method:
            counts[SINCE] = request[0]
        else:
            show(*request)
        counts[BEGUN] = begun
        try:
            await app(scope, receive, send)
        finally:
            del in_flight[number]
            counts[ANSWERED] = answered = answered + 1.0
            if in_flight and (newest := next(reversed(in_flight))) < number:
                show(*in_flight[newest])
            if on_answered is not None:
                on_answered(int(answered))
            if on_long is not None and (now := monotonic()) - request[0] > SUSPICIOUS:
                on_long(now)

    return track

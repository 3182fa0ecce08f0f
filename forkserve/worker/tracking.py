"""Keeps the scoreboard's row informed of the request being served."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

from forkserve.scoreboard import Row


def tracked(app: Any, row: Row, on_answered: Callable[[int], None] | None = None) -> Any:
    """``app``, with each request noted in ``row`` while it is served.

    The row shows the newest request that is not answered yet: one that blocks the
    loop, or takes the process down, is most often the last that began. The query
    string is left out, since it may hold secrets. ``on_answered``, if given, is told
    how many requests have been answered, after each.

    It is passed by every request, so each line of it was weighed (``tests/bench/cost``).
    """
    in_flight: dict[int, tuple[float, bytes, bytes]] = {}
    answered = 0
    serve, progress = row.serve, row.progress

    async def track(scope: Any, receive: Any, send: Any) -> None:
        nonlocal answered
        kind = scope["type"]
        if kind == "lifespan":
            await app(scope, receive, send)
            return
        method = scope["method"].encode() if kind == "http" else b"WebSocket"
        request = (monotonic(), method, scope["raw_path"])
        key = id(scope)
        in_flight[key] = request
        serve(answered, len(in_flight), *request)
        try:
            await app(scope, receive, send)
        finally:
            del in_flight[key]
            answered += 1
            if in_flight:
                serve(answered, len(in_flight), *next(reversed(in_flight.values())))
            else:
                progress[0] = answered
                progress[1] = 0.0
            if on_answered is not None:
                on_answered(answered)

    return track

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
    begun = 0
    serve, shown = row.serve, row.in_flight

    async def track(scope: Any, receive: Any, send: Any) -> None:
        nonlocal begun
        try:
            method = scope["method"].encode()
        except KeyError:
            if scope["type"] == "lifespan":
                await app(scope, receive, send)
                return
            method = b"WebSocket"
        begun += 1
        since, path, key = monotonic(), scope["raw_path"], id(scope)
        in_flight[key] = (since, method, path)
        serve(begun, len(in_flight), since, method, path)
        try:
            await app(scope, receive, send)
        finally:
            del in_flight[key]
            if in_flight:
                serve(begun, len(in_flight), *next(reversed(in_flight.values())))
            else:
                shown[0] = 0.0
            if on_answered is not None:
                on_answered(begun - len(in_flight))

    return track

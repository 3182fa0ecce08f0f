"""Keeps the scoreboard's row informed of the request being served."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

from forkserve.scoreboard import Row


def tracked(app: Any, row: Row, on_answered: Callable[[int], None]) -> Any:
    """``app``, with each request noted in ``row`` while it is served.

    The row shows the newest request that is not answered yet: one that blocks the
    loop, or takes the process down, is most often the last that began. The query
    string is left out, since it may hold secrets. ``on_answered`` is told how many
    requests have been answered, after each.
    """
    in_flight: dict[int, tuple[bytes, float]] = {}
    answered = 0

    async def track(scope: Any, receive: Any, send: Any) -> None:
        nonlocal answered
        if scope["type"] == "lifespan":
            await app(scope, receive, send)
            return
        request = (_label(scope), monotonic())
        in_flight[id(scope)] = request
        row.serve(*request, len(in_flight))
        try:
            await app(scope, receive, send)
        finally:
            del in_flight[id(scope)]
            answered += 1
            row.count(answered)
            on_answered(answered)
            if in_flight:
                row.serve(*next(reversed(in_flight.values())), len(in_flight))
            else:
                row.rest()

    return track


def _label(scope: Any) -> bytes:
    method: str = scope.get("method") or "WebSocket"
    return f"{method} {scope['path']}".encode()

"""At most so many requests in flight in a worker; what comes beyond that waits its turn.

New connections then stay in the kernel's queue, for whichever worker is free first. A
request that comes on a connection this worker already has can go nowhere else: it
waits here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any


class Limit:
    """Counts the requests in flight, and tells when the limit is reached and left."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._in_flight = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.on_change: Callable[[bool], None] = lambda full: None
        self.on_waited: Callable[[float], None] = lambda seconds: None
        """Told for how long a request had to wait here."""

    def around(self, app: Any) -> Any:
        """``app``, of which at most so many calls run at once; the lifespan's is free."""

        async def limited(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "lifespan":
                await app(scope, receive, send)
                return
            await self._enter()
            try:
                await app(scope, receive, send)
            finally:
                self._leave()

        return limited

    async def _enter(self) -> None:
        if self._in_flight < self._most:
            self._in_flight += 1
            if self._in_flight == self._most:
                self.on_change(True)
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        since = monotonic()
        try:
            await turn  # the one who leaves hands its place over
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave()
            raise
        self.on_waited(monotonic() - since)

    def _leave(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._in_flight -= 1
        if self._in_flight == self._most - 1:
            self.on_change(False)

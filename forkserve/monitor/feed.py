"""What the master says of itself, as it comes in over the control connection."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import socket
from collections import deque
from collections.abc import AsyncIterator
from time import monotonic
from typing import Any, TypeAlias

Status: TypeAlias = dict[str, Any]
"""The document that ``forkserve status --json`` shows."""

EVERY = 1.0
"""Seconds between two looks."""

SOON = 0.1
"""Seconds after which the master is asked again when something has happened."""

PATIENCE = 5.0
"""Seconds within which a master that is well answers."""

FRESH = 0.25
"""Seconds for which a status is as good as a new one."""

REMEMBERED = 300
"""Looks that are remembered: five minutes ..."""

MOST_ROWS = 20_000
"""... unless there are so many workers that it would be more than so many rows."""

LONGEST_LINE = 1 << 26
"""Bytes of an answer. Only the master writes here; this is against our own mistakes."""

_OF_THE_SERVICE = ("now", "state", "generation", "queues", "durations", "reloads")

_OF_A_WORKER = (
    "id",
    "slot",
    "pid",
    "generation",
    "phase",
    "spare",
    "slow",
    "requests",
    "in_flight",
    "busy",
    "lag",
    "rss",
)


class NoAnswerError(Exception):
    """The master has not answered in time."""


class Feed:
    """The newest status, and what is remembered of those before."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Status]] = {}
        self._asking: asyncio.Task[Status] | None = None
        self._nudged = asyncio.Event()
        self._news = asyncio.Condition()
        self._newest: Status = {}
        self._at = float("-inf")
        self.past: deque[Status] = deque(maxlen=REMEMBERED)
        """What has been, the oldest first, without what only the present needs."""

    @classmethod
    async def over(cls, control: socket.socket) -> Feed:
        """Raises OSError."""
        control.setblocking(False)
        return cls(*await asyncio.open_unix_connection(sock=control, limit=LONGEST_LINE))

    def close(self) -> None:
        self._writer.close()

    # -- for those who look -----------------------------------------------------------

    async def status(self) -> Status:
        """How things are now. Raises NoAnswerError.

        Those who ask at the same time share an answer, so that nobody can have the master do
        more than a look each FRESH seconds.
        """
        if monotonic() - self._at <= FRESH:
            return self._newest
        if self._asking is None or self._asking.done():
            self._asking = asyncio.ensure_future(self._ask())
        try:
            async with asyncio.timeout(PATIENCE):
                return await asyncio.shield(self._asking)
        except TimeoutError:
            raise NoAnswerError(f"the master has not answered within {PATIENCE:g} s") from None

    async def changes(self) -> AsyncIterator[Status]:
        """The newest status, again and again. Who is slow misses some, but never the last."""
        told: Status = {}
        while True:
            async with self._news:
                while not self._newest or self._newest is told:
                    await self._news.wait()
            told = self._newest
            yield told

    # -- asking -----------------------------------------------------------------------

    async def follow(self) -> None:
        """Look every second, and as soon as something has happened. Never returns."""
        self._say(next(self._numbers), "follow")
        listening = asyncio.ensure_future(self._listen())
        try:
            await self._look_again_and_again(listening)
        finally:
            listening.cancel()

    async def _look_again_and_again(self, listening: asyncio.Task[None]) -> None:
        while not listening.done():
            try:
                await self.status()
            except NoAnswerError:
                pass  # who looks is told so
            try:
                async with asyncio.timeout(EVERY):
                    await self._nudged.wait()
                await asyncio.sleep(max(SOON, self._at + FRESH + 0.01 - monotonic()))
            except TimeoutError:
                pass
            self._nudged.clear()
        await listening

    async def _ask(self) -> Status:
        number = next(self._numbers)
        answer: asyncio.Future[Status] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        self._say(number, "status")
        status = await answer
        status["monitor"] = {"pid": os.getpid()}
        self._remember(status)
        async with self._news:
            self._newest, self._at = status, monotonic()
            self._news.notify_all()
        return status

    def _say(self, number: int, verb: str) -> None:
        self._writer.write(json.dumps({"id": number, "do": verb}).encode() + b"\n")

    async def _listen(self) -> None:
        while line := await self._reader.readline():
            said = json.loads(line)
            if "event" in said:
                self._nudged.set()
            elif (answer := self._waiting.pop(said.get("id"), None)) and not answer.done():
                answer.set_result(said["status"])
        # The master has gone, or will have none of us any more; it makes another one then.
        os._exit(1)

    def _remember(self, status: Status) -> None:
        workers = [{k: w.get(k) for k in _OF_A_WORKER} for w in status["workers"]]
        kept = {k: status.get(k) for k in _OF_THE_SERVICE}
        self.past.append(kept | {"workers": workers})
        rows = max(1, len(workers))
        while len(self.past) > max(10, MOST_ROWS // rows):
            self.past.popleft()

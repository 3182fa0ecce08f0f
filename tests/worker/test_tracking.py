"""The row shows the newest request that is not answered yet."""

from __future__ import annotations

import asyncio
from typing import Any

from forkserve.scoreboard import Row, Scoreboard
from forkserve.worker.tracking import tracked


class Requests:
    """Requests that are answered when they are told to be."""

    def __init__(self) -> None:
        self.row: Row = Scoreboard(1).row(0)
        self.answered: list[int] = []
        self._end: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._app = tracked(self._serve, self.row, self.answered.append)

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        await self._end[scope["raw_path"].decode()].wait()
        if scope.get("method") == "FAIL":
            raise RuntimeError

    async def begin(self, path: str, method: str = "GET") -> None:
        self._end[path] = asyncio.Event()
        scope = {"type": "http", "method": method, "raw_path": path.encode()}
        if method == "WebSocket":
            scope = {"type": "websocket", "raw_path": path.encode()}
        self._tasks[path] = asyncio.create_task(self._app(scope, None, None))
        await asyncio.sleep(0)

    async def end(self, path: str) -> None:
        self._end[path].set()
        await asyncio.wait([self._tasks[path]])
        self._tasks[path].exception()

    def shown(self) -> tuple[int, int, str]:
        seen = self.row.snapshot()
        return seen.requests, seen.in_flight, seen.serving


def test_the_newest_that_is_left_is_shown() -> None:
    async def main() -> None:
        requests = Requests()
        assert requests.shown() == (0, 0, "")
        await requests.begin("/one")
        since = requests.row.snapshot().serving_since
        assert requests.shown() == (0, 1, "GET /one")
        await requests.begin("/two", "POST")
        await requests.begin("/three")
        assert requests.shown() == (0, 3, "GET /three")
        await requests.end("/two")
        assert requests.shown() == (1, 2, "GET /three")
        await requests.end("/three")
        assert requests.shown() == (2, 1, "GET /one")
        assert requests.row.snapshot().serving_since == since
        await requests.end("/one")
        assert requests.shown() == (3, 0, "")
        assert requests.answered == [1, 2, 3]

    asyncio.run(main())


def test_the_same_path_again_is_shown_with_its_own_time_and_method() -> None:
    async def main() -> None:
        requests = Requests()
        await requests.begin("/one")
        first = requests.row.snapshot().serving_since
        await requests.end("/one")
        await requests.begin("/one")
        assert requests.shown() == (1, 1, "GET /one")
        assert requests.row.snapshot().serving_since > first
        await requests.end("/one")
        await requests.begin("/one", "WebSocket")
        assert requests.shown() == (2, 1, "WebSocket /one")
        await requests.end("/one")

    asyncio.run(main())


def test_one_that_fails_has_ended_too() -> None:
    async def main() -> None:
        requests = Requests()
        await requests.begin("/one", "FAIL")
        await requests.end("/one")
        assert requests.shown() == (1, 0, "")

    asyncio.run(main())

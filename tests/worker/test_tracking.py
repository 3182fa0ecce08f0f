"""The row shows the newest request that is not answered yet, and counts all."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from forkserve.readings import BOUNDS, Totals
from forkserve.scoreboard import Row, Scoreboard
from forkserve.worker import tracking
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
        seen = self.row.snapshot(tracking.monotonic())
        return seen.requests, seen.in_flight, seen.serving


def test_the_newest_that_is_left_is_shown() -> None:
    async def main() -> None:
        requests = Requests()
        assert requests.shown() == (0, 0, "")
        await requests.begin("/one")
        since = requests.row.snapshot(tracking.monotonic()).serving_since
        assert requests.shown() == (0, 1, "GET /one")
        await requests.begin("/two", "POST")
        await requests.begin("/three")
        assert requests.shown() == (0, 3, "GET /three")
        await requests.end("/two")
        assert requests.shown() == (1, 2, "GET /three")
        await requests.end("/three")
        assert requests.shown() == (2, 1, "GET /one")
        assert requests.row.snapshot(tracking.monotonic()).serving_since == since
        await requests.end("/one")
        assert requests.shown() == (3, 0, "")
        assert requests.answered == [1, 2, 3]

    asyncio.run(main())


def test_the_same_path_again_is_shown_with_its_own_time_and_method() -> None:
    async def main() -> None:
        requests = Requests()
        await requests.begin("/one")
        first = requests.row.snapshot(tracking.monotonic()).serving_since
        await requests.end("/one")
        await requests.begin("/one")
        assert requests.shown() == (1, 1, "GET /one")
        assert requests.row.snapshot(tracking.monotonic()).serving_since > first
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


class Clock:
    """It says how late it is."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(tracking, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def done(requests: Requests, clock: Clock) -> Totals:
    return requests.row.snapshot(clock.now).done


def test_each_request_counts_by_how_long_it_took(clock: Clock) -> None:
    async def main() -> None:
        requests = Requests()
        for took in (0.0, 0.0075, 0.02, 0.5, 10.0, 4000.0):
            clock.now = 0.5  # where the bounds of half a second and more are exact
            await requests.begin("/one")
            clock.now += took
            await requests.end("/one")
        counted = done(requests, clock)
        assert sum(counted.durations) == counted.requests == 6
        at_each = dict(zip(BOUNDS, counted.durations, strict=False))
        assert {bound for bound, count in at_each.items() if count} == {0.005, 0.01, 0.025, 0.5, 10}
        assert counted.durations[len(BOUNDS)] == 1
        assert counted.seconds == pytest.approx(0.0075 + 0.02 + 0.5 + 10.0 + 4000.0)

    asyncio.run(main())


def test_it_is_busy_while_any_request_is_in_flight(clock: Clock) -> None:
    """However many there are at once, and in whichever order they end."""

    async def main() -> None:
        requests = Requests()
        await requests.begin("/one")
        clock.now += 1.0
        assert done(requests, clock).busy == 1.0
        await requests.begin("/two")
        clock.now += 1.0
        assert done(requests, clock).busy == 2.0
        await requests.begin("/three")
        clock.now += 1.0
        await requests.end("/one")
        assert (done(requests, clock).busy, done(requests, clock).seconds) == (3.0, 3.0)
        clock.now += 1.0
        await requests.end("/three")
        clock.now += 1.0
        assert done(requests, clock).busy == 5.0
        await requests.end("/two")
        clock.now += 7.0  # idle
        assert (done(requests, clock).busy, done(requests, clock).seconds) == (5.0, 9.0)
        await requests.begin("/one")
        clock.now += 1.0
        await requests.end("/one")
        assert (done(requests, clock).busy, done(requests, clock).seconds) == (6.0, 10.0)
        assert requests.shown() == (4, 0, "")

    asyncio.run(main())


def test_a_websocket_makes_nobody_busy_and_has_no_duration(clock: Clock) -> None:
    async def main() -> None:
        requests = Requests()
        await requests.begin("/chat", "WebSocket")
        clock.now += 1.0
        await requests.begin("/one")
        assert requests.row.snapshot(tracking.monotonic()).websockets == 1
        clock.now += 1.0
        assert done(requests, clock).busy == 1.0
        await requests.end("/one")
        assert requests.shown() == (1, 1, "WebSocket /chat")
        clock.now += 5.0
        await requests.end("/chat")
        assert requests.shown() == (2, 0, "")
        assert requests.row.snapshot(tracking.monotonic()).websockets == 0
        counted = done(requests, clock)
        assert (counted.busy, counted.seconds, sum(counted.durations)) == (1.0, 1.0, 1)
        assert requests.answered == [1, 2]

    asyncio.run(main())

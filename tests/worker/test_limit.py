"""At most so many requests in flight."""

from __future__ import annotations

import asyncio
from typing import Any

from forkserve.worker.limit import Limit

HTTP = {"type": "http"}


class App:
    """Each call lasts until it is let go; ``running`` and ``most`` are counted."""

    def __init__(self) -> None:
        self.running = self.most = self.served = 0
        self.go = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.go.wait()
            self.served += 1
        finally:
            self.running -= 1


async def _turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_no_more_run_at_once_and_all_are_served() -> None:
    async def main() -> None:
        app, limit = App(), Limit(3)
        changes: list[bool] = []
        limit.on_change = changes.append
        calls = [asyncio.create_task(limit.around(app)(HTTP, None, None)) for _ in range(10)]
        await _turn()
        assert app.running == 3
        assert changes == [True]
        app.go.set()
        await asyncio.gather(*calls)
        assert (app.most, app.served) == (3, 10)
        assert changes == [True, False]

    asyncio.run(main())


def test_one_that_is_cancelled_while_it_waits_takes_no_place() -> None:
    async def main() -> None:
        app, limit = App(), Limit(1)
        first, gone, last = (
            asyncio.create_task(limit.around(app)(HTTP, None, None)) for _ in range(3)
        )
        await _turn()
        gone.cancel()
        await _turn()
        app.go.set()
        await asyncio.gather(first, last)
        assert app.served == 2

    asyncio.run(main())


def test_one_that_is_cancelled_as_its_turn_comes_hands_it_on() -> None:
    async def main() -> None:
        app, limit = App(), Limit(1)
        first, second, third = (
            asyncio.create_task(limit.around(app)(HTTP, None, None)) for _ in range(3)
        )
        await _turn()
        first.cancel()
        await asyncio.wait([first])  # the place is the second's now, who has not run yet
        second.cancel()
        app.go.set()
        await asyncio.wait_for(third, 30)
        assert app.served == 1

    asyncio.run(main())


def test_the_lifespan_takes_no_place() -> None:
    async def main() -> None:
        app, limit = App(), Limit(1)
        lifespan = asyncio.create_task(limit.around(app)({"type": "lifespan"}, None, None))
        request = asyncio.create_task(limit.around(app)(HTTP, None, None))
        await _turn()
        assert app.running == 2
        app.go.set()
        await asyncio.gather(lifespan, request)

    asyncio.run(main())

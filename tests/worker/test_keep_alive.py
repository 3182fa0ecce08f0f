"""Idle connections are closed in time, and nothing else is."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from forkserve.worker.keep_alive import Timers
from tests.worker.test_heads import HEAD, Transport, app

REQUEST = HEAD + b"\r\n"
KEEP_ALIVE = 5.0


class Connections:
    """uvicorn's protocols, with timers that are looked at by hand."""

    def __init__(self, http: Any, app: Any = app) -> None:
        self._config = uvicorn.Config(app, http=http, log_config=None)
        self._config.load()
        self._state = ServerState()
        self.timers = Timers(asyncio.get_running_loop())
        self.all = self._state.connections

    def make(self) -> Any:
        protocol: Any = self._config.http_protocol_class(
            config=self._config, server_state=self._state, app_state={}, _loop=self.timers
        )
        protocol.connection_made(Transport())
        return protocol

    async def ask(self, protocol: Any, request: bytes = REQUEST) -> None:
        protocol.data_received(request)
        while protocol.tasks:
            await asyncio.sleep(0)

    def look(self, now: float) -> None:
        self.timers.close_idle(self.all, KEEP_ALIVE, now)


@pytest.mark.parametrize("http", ["httptools", "h11"])
def test_an_idle_connection_is_closed_after_its_time_and_not_before(http: str) -> None:
    async def main() -> None:
        connections = Connections(http)
        idle = connections.make()
        await connections.ask(idle)  # between 100.0 and 101.0
        for now in (101.0, 102.0, 105.9):
            connections.look(now)
            assert not idle.transport.closed
        connections.look(106.0)
        assert idle.transport.closed

    asyncio.run(main())


@pytest.mark.parametrize("http", ["httptools", "h11"])
def test_each_request_begins_the_time_anew(http: str) -> None:
    async def main() -> None:
        connections = Connections(http)
        busy = connections.make()
        for now in range(100, 120):
            await connections.ask(busy)
            connections.look(float(now))
            assert not busy.transport.closed

    asyncio.run(main())


@pytest.mark.parametrize("http", ["httptools", "h11"])
def test_what_is_being_served_is_not_idle(http: str) -> None:
    async def main() -> None:
        go = asyncio.Event()

        async def waits(scope: Any, receive: Any, send: Any) -> None:
            if scope["path"] == "/wait":
                await go.wait()
            await app(scope, receive, send)

        connections = Connections(http, waits)
        silent, asking = connections.make(), connections.make()
        await connections.ask(asking)
        slow = REQUEST.replace(b"/ ", b"/wait ")
        # In a pipeline too, where the timer of the first may not end the second.
        asking.data_received(REQUEST + slow)
        while asking.cycle.scope["path"] != "/wait":
            await asyncio.sleep(0)
        for now in (100.0, 200.0, 300.0):
            connections.look(now)
        assert not asking.transport.closed
        assert not silent.transport.closed  # it is the header timeout's business
        go.set()
        while asking.tasks:
            await asyncio.sleep(0)
        connections.look(400.0)
        connections.look(500.0)
        assert asking.transport.closed

    asyncio.run(main())


def test_a_websocket_is_none_of_its_business() -> None:
    async def main() -> None:
        timers = Timers(asyncio.get_running_loop())
        for now in (100.0, 200.0):
            timers.close_idle([SimpleNamespace()], KEEP_ALIVE, now)

    asyncio.run(main())

"""Counting the bytes of heads, with uvicorn's own protocols and no socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from forkserve.worker.heads import REFUSAL, Heads, guarded

LONGEST = 1000
HEAD = b"GET / HTTP/1.1\r\nHost: test\r\n"
POST = b"POST / HTTP/1.1\r\nHost: test\r\ncontent-length: %d\r\n\r\n"


class Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: Any) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


async def app(scope: Any, receive: Any, send: Any) -> None:
    headers = [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})


class Connection:
    """A protocol that is fed by hand."""

    def __init__(self, http: Any) -> None:
        self.now = 0.0
        self.heads = Heads(10.0, LONGEST)
        self.firsts: list[Any] = []
        self.heads.on_first = self.firsts.append
        config = uvicorn.Config(
            app, http=http, log_config=None, h11_max_incomplete_event_size=1 << 62
        )
        config.load()
        make = guarded(config.http_protocol_class, self.heads, lambda: self.now)
        self.protocol = make(config=config, server_state=ServerState(), app_state={})
        self.transport = Transport()
        self.heads.expect(self.protocol, self.now)
        self.protocol.connection_made(self.transport)

    async def feed(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.protocol.data_received(piece)
            while self.protocol.tasks:
                await asyncio.sleep(0)

    @property
    def answers(self) -> int:
        return self.transport.written.count(b"HTTP/1.1 200")

    @property
    def refused(self) -> bool:
        return self.transport.written.endswith(REFUSAL)


@pytest.fixture(params=["httptools", "h11"])
def run(request: pytest.FixtureRequest) -> Callable[[Any], None]:
    """Runs a function with a connection, for each parser."""

    def run_one(test: Any) -> None:
        async def main() -> None:
            connection = Connection(request.param)
            await test(connection)
            connection.protocol.connection_lost(None)

        asyncio.run(main())

    return run_one


Run = Callable[[Any], None]


@pytest.mark.parametrize("before", [0, 1, 3])
@pytest.mark.parametrize("size", [LONGEST // 3, LONGEST, 100 * LONGEST])
def test_a_head_without_end_is_refused(run: Run, before: int, size: int) -> None:
    async def test(connection: Connection) -> None:
        for _ in range(before):
            await connection.feed(HEAD + b"\r\n")
        await connection.feed(HEAD + b"x: ")
        for _ in range(2 * LONGEST // size + 2):
            if not connection.transport.closed:
                await connection.feed(b"x" * size)
        assert connection.refused
        assert connection.answers == before

    run(test)


@pytest.mark.parametrize("cut", [1, 2, 3, 4, LONGEST // 2])
def test_the_end_of_a_head_may_be_cut_anywhere(run: Run, cut: int) -> None:
    body = b"b" * (3 * LONGEST)
    head = (POST % len(body))[:-4] + b"\r\nx: "
    head += b"x" * (LONGEST - len(head) - 4) + b"\r\n\r\n"
    assert len(head) == LONGEST

    async def test(connection: Connection) -> None:
        for _ in range(2):
            await connection.feed(head[:-cut], head[-cut:] + body)
        assert not connection.transport.closed
        assert connection.answers == 2

    run(test)


def test_a_long_head_that_comes_whole_is_refused_too(run: Run) -> None:
    async def test(connection: Connection) -> None:
        await connection.feed(HEAD + b"\r\n")
        await connection.feed(HEAD + b"x: " + b"x" * LONGEST + b"\r\n\r\n")
        assert connection.refused
        assert connection.answers == 1

    run(test)


@pytest.mark.parametrize("piece", [LONGEST - 1, 3 * LONGEST + 7])
def test_many_requests_in_a_row_are_not_one_long_head(run: Run, piece: int) -> None:
    requests = (HEAD + b"\r\n") * 500

    async def test(connection: Connection) -> None:
        pieces = [requests[begin : begin + piece] for begin in range(0, len(requests), piece)]
        await connection.feed(*pieces)
        assert not connection.transport.closed
        assert connection.answers == 500

    run(test)


def test_bodies_may_be_long_and_answered_early(run: Run) -> None:
    async def test(connection: Connection) -> None:
        length = 10 * LONGEST
        await connection.feed(POST % length)  # answered before its body is there
        await connection.feed(*[b"b" * (length // 2)] * 2)
        await connection.feed(HEAD + b"\r\n")
        assert not connection.transport.closed
        assert connection.answers == 2

    run(test)


def test_the_first_request_is_told_once_and_late_ones_are_closed(run: Run) -> None:
    async def test(connection: Connection) -> None:
        await connection.feed(HEAD)
        assert connection.firsts == []
        await connection.feed(b"\r\n")
        assert connection.firsts == [connection.protocol]
        connection.heads.close_late(100.0)
        assert not connection.transport.closed  # it is idle, which uvicorn limits
        connection.now = 100.0
        await connection.feed(HEAD)
        connection.heads.close_late(109.0)
        assert not connection.transport.closed
        connection.heads.close_late(110.0)
        assert connection.transport.closed

    run(test)


def test_one_that_has_gone_is_forgotten(run: Run) -> None:
    async def test(connection: Connection) -> None:
        lost: list[Any] = []
        connection.heads.on_lost = lost.append
        connection.protocol.connection_lost(None)
        assert lost == [connection.protocol]
        assert not connection.heads._since

    run(test)

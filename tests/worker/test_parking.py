"""Connections are parked between two requests and at no other moment, and taken up again.

Two workers in one event loop, with real sockets and the real queues; the test plays the
switchboard between them.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import resource
import socket
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from forkserve.scoreboard import Scoreboard
from forkserve.switchboard.queues import Exchange, Parked
from forkserve.worker.acceptor import Acceptor
from forkserve.worker.heads import Heads, guarded
from forkserve.worker.parking import STALE, Outbox, Parking
from tests.switchboard.test_board import KINDS
from tests.worker.test_acceptor import LOOPS, PATIENCE

REQUEST = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
BIG = 8 << 20

WORKERS: list[Worker] = []
"""Those that the test has made."""

Run = Callable[[Callable[[Exchange], Coroutine[Any, Any, None]]], None]


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    made = Exchange.make(Scoreboard(1).switchboard())
    made.row.beat(monotonic())
    made.row.open()
    yield made
    made.inbox.close()
    made.outbox.close()


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest, exchange: Exchange) -> Run:
    def run_one(test: Callable[[Exchange], Coroutine[Any, Any, None]]) -> None:
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(asyncio.wait_for(test(exchange), PATIENCE))

    return run_one


class Worker:
    """One that parks what it has answered."""

    def __init__(self, name: str, exchange: Exchange, *listeners: Any, http: Any = "auto") -> None:
        self.name = name
        self.go = asyncio.Event()
        self.afterwards: Callable[[], object] = lambda: None
        self.asked_by: list[int] = []
        """The clients' ports, in the order of the requests."""
        config = uvicorn.Config(self._app, log_config=None, http=http, interface="asgi3")
        config.load()
        heads = Heads(10.0, 65536)
        state = ServerState()
        loop = asyncio.get_running_loop()
        protocol_class = guarded(config.http_protocol_class, heads, monotonic)
        make = functools.partial(
            protocol_class, config=config, server_state=state, app_state={}, _loop=loop
        )
        self.connections = state.connections
        self.parking = Parking(exchange, loop, protocol_class, lambda _, now: now + 60.0)
        self.parking.activate(True)
        for listener in listeners:
            listener.setblocking(False)
        sources = [*listeners, Outbox(exchange.outbox)]
        self.acceptor = Acceptor(sources, make, heads, lambda: 0.0)
        WORKERS.append(self)

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await self.go.wait()
            await send({"type": "websocket.close"})
            return
        if scope["path"] == "/wait":
            await self.go.wait()
        if scope["path"] == "/body":
            while (await receive()).get("more_body"):
                pass
        client = scope["client"][0] if scope["client"] else "nobody"
        self.asked_by += [scope["client"][1]] if scope["client"] else []
        body = bytes(BIG) if scope["path"] == "/big" else f"{self.name} for {client}".encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        self.afterwards()


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, listener: socket.socket) -> Client:
        address = listener.getsockname()
        if listener.family == socket.AF_UNIX:
            return cls(*await asyncio.open_unix_connection(address, limit=4 * BIG))
        return cls(*await asyncio.open_connection(*address[:2], limit=4 * BIG))

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> str:
        head = await self.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        return (await self.reader.readexactly(length)).decode()

    async def ask(self, request: bytes = REQUEST) -> str:
        self.send(request)
        return await self.answer()


async def _parked(exchange: Exchange) -> Parked:
    """The next connection that is parked."""
    await _readable(exchange.inbox.exit)
    ((parked,), _) = exchange.inbox.take()
    return parked


async def _readable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(sock.fileno(), lambda: ready.done() or ready.set_result(None))
    await ready
    loop.remove_reader(sock.fileno())


async def _nothing_is_parked(exchange: Exchange, worker: Worker) -> None:
    for _ in range(10):
        await asyncio.sleep(0)
        worker.parking.park(worker.connections)
    with pytest.raises(BlockingIOError):
        exchange.inbox.take()


def _pass_on(exchange: Exchange, parked: Parked) -> None:
    assert exchange.outbox.put([parked])
    os.close(parked.fd)


@contextlib.contextmanager
def _listener(kind: str, folder: Path) -> Iterator[socket.socket]:
    """A listening socket; afterwards no worker is left."""
    if kind == "unix":
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(folder / "listener"))
        listener.listen(100)
    else:
        family = socket.AF_INET6 if ":" in kind else socket.AF_INET
        listener = socket.create_server((kind, 0), family=family)
    with listener:
        try:
            yield listener
        finally:
            while WORKERS:
                WORKERS.pop().acceptor.close()


@pytest.mark.parametrize("http", ["httptools", "h11"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_next_request_is_answered_by_another_worker_on_the_same_connection(
    run: Run, tmp_path: Path, kind: str, http: str
) -> None:
    async def main(exchange: Exchange) -> None:
        with _listener(kind, tmp_path) as listener:
            one = Worker("one", exchange, listener, http=http)
            peer = "nobody" if kind == "unix" else kind
            client = await Client.connect(listener)
            for _ in range(3):
                assert (await client.ask()).startswith("one for " + peer)
                parked = await _parked(exchange)
                one.acceptor.close()
                other = Worker("other", exchange, http=http)
                client.send(REQUEST)  # it waits in the socket
                _pass_on(exchange, parked)
                assert await client.answer() == f"other for {peer}"
                parked = await _parked(exchange)
                other.acceptor.close()
                one = Worker("one", exchange, listener, http=http)
                _pass_on(exchange, parked)
            client.writer.close()

    run(main)


@pytest.mark.parametrize("http", ["httptools", "h11"])
def test_a_worker_forgets_what_it_has_parked(run: Run, http: str) -> None:
    async def main(exchange: Exchange) -> None:
        with _listener("127.0.0.1", Path()) as listener:
            worker = Worker("one", exchange, listener, http=http)
            before = 0
            for number in range(20):
                if number == 1:  # the loop has opened by now what it opens once
                    before = len(os.listdir("/proc/self/fd"))
                client = await Client.connect(listener)
                await client.ask()
                os.close((await _parked(exchange)).fd)
                assert await client.reader.read() == b""  # that was the last descriptor
                client.writer.close()
                await client.writer.wait_closed()
            assert not worker.connections
            while len(os.listdir("/proc/self/fd")) > before:
                await asyncio.sleep(0)

    run(main)


HEAD = b"GET / HTTP/1.1\r\nHost: test\r\n"
POST = b"POST / HTTP/1.1\r\nHost: test\r\n"
NOT_YET = {
    "half of the next head": (REQUEST + HEAD, b"\r\n", 2),
    "the next head's first byte": (REQUEST + b"G", REQUEST[1:], 2),
    "a body that has not come": (POST + b"Content-Length: 4\r\n\r\n", b"body" + REQUEST, 2),
    "100-continue that nobody wants": (
        POST + b"Expect: 100-continue\r\nContent-Length: 4\r\n\r\n",
        b"body" + REQUEST,
        2,
    ),
    "a chunked body": (
        POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx",
        b"\r\n0\r\n\r\n" + REQUEST,
        2,
    ),
}


@pytest.mark.parametrize("http", ["httptools", "h11"])
@pytest.mark.parametrize("case", NOT_YET)
def test_what_is_half_read_is_not_parked(run: Run, case: str, http: str) -> None:
    first, rest, answers = NOT_YET[case]

    async def main(exchange: Exchange) -> None:
        with _listener("127.0.0.1", Path()) as listener:
            worker = Worker("one", exchange, listener, http=http)
            client = await Client.connect(listener)
            await client.ask(first)
            await _nothing_is_parked(exchange, worker)
            client.send(rest)
            for _ in range(answers - 1):
                await client.answer()
            os.close((await _parked(exchange)).fd)
            client.writer.close()

    run(main)


@pytest.mark.parametrize("http", ["httptools", "h11"])
def test_a_pipeline_is_answered_first(run: Run, http: str) -> None:
    async def main(exchange: Exchange) -> None:
        with _listener("127.0.0.1", Path()) as listener:
            worker = Worker("one", exchange, listener, http=http)
            client = await Client.connect(listener)
            slow = REQUEST.replace(b"/ ", b"/wait ")
            await client.ask(REQUEST + slow + REQUEST)
            await _nothing_is_parked(exchange, worker)
            worker.go.set()
            await client.answer()
            await client.answer()
            os.close((await _parked(exchange)).fd)
            client.writer.close()

    run(main)


@pytest.mark.parametrize("http", ["httptools", "h11"])
@pytest.mark.parametrize(
    "request_",
    [
        POST.replace(b"/ ", b"/body ") + b"Content-Length: 4\r\n\r\nbody",
        POST.replace(b"/ ", b"/body ") + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        REQUEST.replace(b"GET", b"HEAD"),
    ],
    ids=["body", "chunked", "HEAD"],
)
def test_every_kind_of_request_leaves_a_connection_that_can_be_used_on(
    run: Run, request_: bytes, http: str
) -> None:
    async def main(exchange: Exchange) -> None:
        with _listener("127.0.0.1", Path()) as listener:
            Worker("one", exchange, listener, http=http)
            client = await Client.connect(listener)
            for _ in range(3):
                client.send(request_)
                head = await client.reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200")
                if not request_.startswith(b"HEAD"):
                    await client.reader.readexactly(len("one for 127.0.0.1"))
                _pass_on(exchange, await _parked(exchange))
            assert await client.ask() == "one for 127.0.0.1"
            os.close((await _parked(exchange)).fd)
            client.writer.close()

    run(main)


def test_an_answer_that_is_not_sent_yet_keeps_it_here(run: Run) -> None:
    async def main(exchange: Exchange) -> None:
        with _listener("127.0.0.1", Path()) as listener:
            worker = Worker("one", exchange, listener)
            client = socket.create_connection(listener.getsockname())
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(client, REQUEST.replace(b"/ ", b"/big "))
            while not (worker.connections and _complete(worker)):
                await asyncio.sleep(0)
            await _nothing_is_parked(exchange, worker)
            received = 0
            while received < BIG:
                received += len(await loop.sock_recv(client, 1 << 20))
            while worker.connections:
                worker.parking.park(worker.connections)
                await asyncio.sleep(0)
            os.close((await _parked(exchange)).fd)
            client.close()

    run(main)


def _complete(worker: Worker) -> bool:
    (connection,) = worker.connections
    return connection.cycle is not None and connection.cycle.response_complete


@pytest.mark.parametrize("http", ["httptools", "h11"])
def test_a_websocket_stays(run: Run, http: str) -> None:
    async def main(exchange: Exchange) -> None:
        with _listener("127.0.0.1", Path()) as listener:
            worker = Worker("one", exchange, listener, http=http)
            client = await Client.connect(listener)
            await client.ask()
            _pass_on(exchange, await _parked(exchange))
            client.send(
                HEAD + b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            head = await client.reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101")
            await _nothing_is_parked(exchange, worker)
            worker.go.set()
            assert (await client.reader.readexactly(2))[0] == 0x88  # a close frame, RFC 6455
            client.writer.close()

    run(main)


def test_one_that_has_not_sent_anything_can_be_parked_too(run: Run) -> None:
    async def main(exchange: Exchange) -> None:
        with _listener("127.0.0.1", Path()) as listener:
            worker = Worker("one", exchange, listener)
            client = await Client.connect(listener)
            while not any(c.transport for c in worker.connections):
                await asyncio.sleep(0)
            worker.parking.sweep(worker.connections)
            _pass_on(exchange, await _parked(exchange))
            assert await client.ask() == "one for 127.0.0.1"
            client.writer.close()

    run(main)


def test_a_client_that_is_quick_to_ask_again_does_not_get_past_the_queue(run: Run) -> None:
    async def main(exchange: Exchange) -> None:
        with _listener("127.0.0.1", Path()) as listener:
            one = Worker("one", exchange, listener)
            client = await Client.connect(listener)
            fd = client.writer.get_extra_info("socket").fileno()
            one.afterwards = lambda: os.write(fd, REQUEST)
            assert await client.ask() == "one for 127.0.0.1"
            one.acceptor.close()
            Worker("two", exchange)
            _pass_on(exchange, await _parked(exchange))
            assert await client.answer() == "two for 127.0.0.1"
            client.writer.close()

    run(main)


@pytest.mark.parametrize("when", ["at first", "later"])
def test_a_sweep_leaves_alone_what_has_a_request_that_is_not_read_yet(run: Run, when: str) -> None:
    """Else it would lose its place in the one queue."""

    async def main(exchange: Exchange) -> None:
        with _listener("127.0.0.1", Path()) as listener:
            worker = Worker("one", exchange, listener)
            worker.parking.activate(when == "at first")
            client = await Client.connect(listener)
            if when == "later":
                await client.ask()
            while not any(c.transport for c in worker.connections):
                await asyncio.sleep(0)
            os.write(client.writer.get_extra_info("socket").fileno(), REQUEST)
            worker.parking.sweep(worker.connections)
            with pytest.raises(BlockingIOError):
                exchange.inbox.take()
            assert await client.answer() == "one for 127.0.0.1"
            client.writer.close()

    run(main)


@pytest.mark.parametrize(
    "why", ["the switchboard has stopped", "it takes no more", "no room", "the end"]
)
def test_what_cannot_be_parked_stays_and_is_served_on(
    run: Run, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main(exchange: Exchange) -> None:
        with _listener("127.0.0.1", Path()) as listener:
            worker = Worker("one", exchange, listener)
            refused: list[None] = []
            worker.parking.on_refused = lambda: refused.append(None)
            if why == "no room":
                while exchange.inbox.put([Parked(listener.fileno(), 0.0)]):
                    pass
            elif why == "it takes no more":
                exchange.row.close()
            elif why == "the end":
                worker.parking.close()
            else:
                exchange.row.beat(monotonic() - STALE)
            client = await Client.connect(listener)
            for _ in range(3):
                assert await client.ask() == "one for 127.0.0.1"
            await asyncio.sleep(0)
            assert len(worker.connections) == 1
            assert bool(refused) == (why != "the end")
            client.writer.close()

    run(main)


def test_while_it_is_off_nothing_is_parked_and_nothing_is_called(run: Run) -> None:
    async def main(exchange: Exchange) -> None:
        with _listener("127.0.0.1", Path()) as listener:
            worker = Worker("one", exchange, listener)
            worker.parking.activate(False)
            client = await Client.connect(listener)
            await client.ask()
            (connection,) = worker.connections
            assert "on_response_complete" not in type(connection).__dict__
            with pytest.raises(BlockingIOError):
                exchange.inbox.take()
            client.writer.close()

    run(main)


def test_new_connections_do_not_keep_those_in_the_outbox_waiting(run: Run) -> None:
    async def main(exchange: Exchange) -> None:
        with _listener("127.0.0.1", Path()) as listener, contextlib.ExitStack() as undo:
            new, kept = [], []
            for _ in range(10):
                client = undo.enter_context(socket.create_connection(listener.getsockname()))
                server, _ = listener.accept()
                exchange.outbox.put([Parked(server.fileno(), 0.0)])
                server.close()
                kept.append(client)
            for _ in range(10):
                new.append(undo.enter_context(socket.create_connection(listener.getsockname())))
            for client in (*new, *kept):
                client.send(REQUEST)
            worker = Worker("one", exchange, listener)
            while len(worker.asked_by) < 20:
                await asyncio.sleep(0)
            ports = {client.getsockname()[1] for client in kept}
            of_kept = sum(port in ports for port in worker.asked_by[:10])
            assert 3 <= of_kept <= 7

    run(main)


def test_without_a_descriptor_it_stays_in_the_outbox(exchange: Exchange) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        exchange.outbox.put([Parked(theirs.fileno(), 0.0)])
        outbox = Outbox(exchange.outbox)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest = os.dup(0)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
        try:
            with pytest.raises(OSError, match="Too many open files"):
                outbox.accept()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        taken, _ = outbox.accept()
        with taken:
            taken.send(b"still there")
        assert ours.recv(100) == b"still there"


def test_what_is_no_connection_harms_nobody(exchange: Exchange) -> None:
    outbox = Outbox(exchange.outbox)
    before = len(os.listdir("/proc/self/fd"))
    exchange.outbox.entrance.send(b"a scribble")
    with pytest.raises(BlockingIOError):
        outbox.accept()
    reader, writer = os.pipe()
    exchange.outbox.put([Parked(reader, 0.0)])
    with pytest.raises(OSError, match="non-socket"):
        outbox.accept()
    os.close(reader)
    os.close(writer)
    assert len(os.listdir("/proc/self/fd")) == before

"""The acceptor on every kind of socket and loop, with uvicorn's own protocols."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import resource
import select
import socket
import ssl
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
import trustme
import uvicorn
import uvloop
from uvicorn.server import ServerState

from forkserve.last_call import turn_away
from forkserve.worker import watch as watch_module
from forkserve.worker.acceptor import Acceptor
from forkserve.worker.gate import WINDOW
from forkserve.worker.heads import Heads, guarded
from forkserve.worker.watch import ExclusiveWatch, PlainWatch, epoll_of

REQUEST = b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
PATIENCE = 30.0

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, None]], None]:
    """Runs a coroutine, on each loop."""

    def run_one(coroutine: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(asyncio.wait_for(coroutine, PATIENCE))

    return run_one


@pytest.fixture(params=["exclusive", "plain"])
def watch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "plain":
        monkeypatch.setattr(watch_module, "epoll_of", lambda loop: None)
    return str(request.param)


async def app(scope: Any, receive: Any, send: Any) -> None:
    body = str(scope["client"] and scope["client"][0]).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _accept(
    listener: socket.socket,
    context: ssl.SSLContext | None = None,
    http: Any = "auto",
    connections: set[Any] | None = None,
    app: Any = app,
) -> Acceptor:
    listener.setblocking(False)
    config = uvicorn.Config(app, log_config=None, http=http)
    config.load()
    heads = Heads(10.0, 65536)
    state = ServerState()
    if connections is not None:
        state.connections = connections
    make = functools.partial(
        guarded(config.http_protocol_class, heads, monotonic),
        config=config,
        server_state=state,
        app_state={},
        _loop=asyncio.get_running_loop(),
    )
    return Acceptor([listener], make, heads, lambda: 0.0, context, 10.0)


async def _ask(**address: Any) -> bytes:
    reader, writer = await asyncio.open_connection(**address)
    writer.write(REQUEST)
    answer = await reader.read()
    writer.close()
    return answer


Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.mark.usefixtures("watch")
@pytest.mark.parametrize("http", ["httptools", "h11"])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_tcp(run: Run, host: str, http: str) -> None:
    async def main() -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.create_server((host, 0), family=family) as listener:
            taking = _accept(listener, http=http)
            asks = [_ask(host=host, port=listener.getsockname()[1]) for _ in range(30)]
            for answer in await asyncio.gather(*asks):
                assert answer.startswith(b"HTTP/1.1 200")
                assert answer.endswith(host.encode())
            taking.close()

    run(main())


@pytest.mark.usefixtures("watch")
def test_unix_sockets(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        path = str(tmp_path / "listener")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(path)
            listener.listen(100)
            taking = _accept(listener)
            for _ in range(10):
                reader, writer = await asyncio.open_unix_connection(path)
                writer.write(REQUEST)
                assert (await reader.read()).startswith(b"HTTP/1.1 200")
                writer.close()
            taking.close()

    run(main())


def _contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The server's and a client's."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


@pytest.mark.usefixtures("watch")
def test_tls_and_clients_that_stop_in_the_handshake(run: Run) -> None:
    server, client = _contexts()

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            connections: set[Any] = set()
            taking = _accept(listener, server, connections=connections)
            port = listener.getsockname()[1]
            silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(5)]
            plain = socket.create_connection(("127.0.0.1", port))
            plain.sendall(REQUEST)  # no handshake at all
            secure = {"ssl": client, "server_hostname": "localhost"}
            asks = [_ask(host="127.0.0.1", port=port, **secure) for _ in range(10)]
            for answer in await asyncio.gather(*asks):
                assert answer.startswith(b"HTTP/1.1 200")
            taking.close()
            for connection in list(connections):
                connection.shutdown()  # a draining worker's, for one in its handshake
            for sock in [*silent, plain]:
                sock.close()
            while connections:
                await asyncio.sleep(0)

    run(main())


def test_the_private_names_that_the_better_watch_needs_are_there(run: Run) -> None:
    """Should this fail with a new version of a loop, PlainWatch is used: it works, and
    wakes all workers for each connection. Then the way to the epoll set is to be found
    anew."""

    async def main() -> None:
        assert epoll_of(asyncio.get_running_loop()) is not None
        with socket.create_server(("127.0.0.1", 0)) as listener:
            taking = _accept(listener)
            assert isinstance(taking._watch, ExclusiveWatch)
            taking.close()

    run(main())


class _Stranger:
    """A loop as we do not know it."""

    def _get_backend_id(self) -> int:
        return 0


@pytest.mark.parametrize("loop", [object(), _Stranger()])
def test_a_loop_that_is_not_known_is_watched_plainly(loop: object) -> None:
    assert epoll_of(loop) is None


@pytest.mark.usefixtures("watch")
def test_what_waits_is_noticed_when_the_watch_is_resumed(run: Run) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            rung = asyncio.Event()
            watching = watch_module.watch(
                asyncio.get_running_loop(), [listener], lambda _listener: rung.set()
            )
            while not getattr(watching, "_ours", True):  # the loop's registration
                await asyncio.sleep(0)
            watching.pause()
            with socket.create_connection(listener.getsockname()):
                await asyncio.sleep(0.05)
                assert not rung.is_set()
                watching.resume()
                await rung.wait()
                watching.close()
                watching.close()
                rung.clear()
                await asyncio.sleep(0.05)
                assert not rung.is_set()

    run(main())


def test_a_kernel_without_exclusive_wake_ups_is_watched_plainly(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(select, "EPOLLEXCLUSIVE")

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            taking = _accept(listener)
            assert isinstance(taking._watch, PlainWatch)
            taking.close()

    run(main())


def test_closing_takes_the_one_for_which_the_kernel_may_have_woken_only_us(run: Run) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            connections: set[Any] = set()
            taking = _accept(listener, connections=connections)
            asking = asyncio.create_task(_ask(host="127.0.0.1", port=listener.getsockname()[1]))
            # Until it waits in the queue, with the loop not given the time to accept it.
            await asyncio.sleep(0)
            while not select.select([listener], [], [], 0)[0]:
                await asyncio.sleep(0)
            taking.close()
            assert len(connections) == 1  # so that a draining worker waits for it
            assert (await asking).startswith(b"HTTP/1.1 200")
            assert not connections

    run(main())


def test_a_worker_that_had_no_turn_in_the_window_does_not_take_its_client_for_silent(
    run: Run,
) -> None:
    async def main() -> None:
        connections: set[Any] = set()
        seen: list[int] = []

        async def look(scope: Any, receive: Any, send: Any) -> None:
            seen.append(len(connections))
            await app(scope, receive, send)

        with socket.create_server(("127.0.0.1", 0)) as listener:
            address = listener.getsockname()
            with socket.create_connection(address) as one, socket.create_connection(address) as two:
                one.sendall(REQUEST)
                two.sendall(REQUEST)
                taking = _accept(listener, connections=connections, app=look)
                readable = taking._readable

                def and_be_held_up(listener: socket.socket) -> None:
                    readable(listener)
                    time.sleep(2 * WINDOW)  # as by another handler, or another process

                taking._watch.close()
                taking._watch = watch_module.watch(
                    asyncio.get_running_loop(), [listener], and_be_held_up
                )
                while len(seen) < 2:
                    await asyncio.sleep(0)
                assert seen[0] == 1  # a handler that blocked would have kept the second waiting
                taking.close()

    run(main())


def test_a_wake_up_that_was_lost_is_made_good_at_the_next_beat(run: Run) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            taking = _accept(listener)
            taking._watch.pause()  # nobody is woken for the next
            asking = asyncio.create_task(_ask(host="127.0.0.1", port=listener.getsockname()[1]))
            while not select.select([listener], [], [], 0)[0]:
                await asyncio.sleep(0)
            taking.beat(monotonic())
            assert (await asking).startswith(b"HTTP/1.1 200")
            taking.close()

    run(main())


@pytest.mark.parametrize("wide", [False, True])
def test_without_descriptors_it_rests_however_wide_the_gate_is(run: Run, wide: bool) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            taking = _accept(listener)
            taking._gate.wide = wide
            wakes = 0
            readable = taking._readable

            def count(listener: socket.socket) -> None:
                nonlocal wakes
                wakes += 1
                readable(listener)

            taking._watch.close()
            taking._watch = watch_module.watch(asyncio.get_running_loop(), [listener], count)
            while not getattr(taking._watch, "_ours", True):  # the loop's registration
                await asyncio.sleep(0)
            taking._watch.pause()
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            answer = asyncio.create_task(reader.read())
            with _no_descriptor_left():
                writer.write(REQUEST)
                taking._watch.resume()
                while not taking._starved:
                    await asyncio.sleep(0)
                before = wakes
                for _ in range(1000):  # turns of the loop, in which it could spin
                    await asyncio.sleep(0)
                assert wakes - before < 5
            assert (await answer).startswith(b"HTTP/1.1 200")
            writer.close()
            taking.close()

    run(main())


@contextlib.contextmanager
def _no_descriptor_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_connection_that_was_reset_in_the_queue_harms_nobody(run: Run) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            for _ in range(5):
                with socket.create_connection(("127.0.0.1", port)) as client:
                    linger = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            taking = _accept(listener)
            answer = await _ask(host="127.0.0.1", port=port)
            assert answer.startswith(b"HTTP/1.1 200")
            taking.close()

    run(main())


def test_at_the_end_it_looks_by_itself_and_leaves_what_others_hold(
    run: Callable[[Coroutine[Any, Any, None]], None], tmp_path: Path
) -> None:
    async def story() -> None:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / "s"))
            listener.listen()
            acceptor = _accept(listener)
            waits = asyncio.create_task(_ask_unix(tmp_path / "s"))
            await acceptor.empty_the_queue(monotonic() + 0.5, lambda: not waits.done())
            assert b"200 OK" in await waits
            acceptor.leave([listener])
            left = asyncio.create_task(_ask_unix(tmp_path / "s"))
            await acceptor.empty_the_queue(monotonic() + 0.1, lambda: True)
            acceptor.close()
            assert not left.done()
            # It waits for whoever listens there next.
            next_one = _accept(listener)
            assert b"200 OK" in await left
            next_one.close()

    run(story())


async def _ask_unix(path: Path) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(REQUEST)
    answer = await reader.read()
    writer.close()
    return answer


def test_a_socket_that_is_shut_for_clients_does_not_wake_it_without_end(
    run: Callable[[Coroutine[Any, Any, None]], None], tmp_path: Path
) -> None:
    async def story() -> None:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / "s"))
            listener.listen()
            acceptor = _accept(listener)
            await acceptor.empty_the_queue(monotonic() + 0.01, lambda: True)  # it watches by now
            looks = 0

            def more() -> bool:
                nonlocal looks
                looks += 1
                return True

            turn_away(listener)
            await acceptor.empty_the_queue(monotonic() + 0.2, more)
            # One each few milliseconds; else it is thousands.
            assert looks < 100
            acceptor.close()

    run(story())

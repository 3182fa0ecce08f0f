"""Who gets a connection, and what becomes of those that say nothing."""

from __future__ import annotations

import contextlib
import os
import re
import select
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from forkserve.worker.gate import WINDOW
from tests.system.server import APP, PATIENCE, Server

Start = Callable[..., Server]

BLOCKING = APP.replace(
    "    body =",
    """    import time
    if scope["path"] == "/block":
        open(f"blocks-{os.getpid()}", "w").close()
        while not os.path.exists("go"):
            time.sleep(0.005)
    body =""",
)
"""It blocks the event loop, as a model does, until there is a file ``go``."""

WAITING = APP.replace(
    "    body =",
    """    import asyncio
    if scope["path"] == "/wait":
        open(f"waits-{os.getpid()}-{id(scope)}", "w").close()
        while not os.path.exists("go"):
            await asyncio.sleep(0.005)
    body =""",
)

HEAD = b"GET %s HTTP/1.1\r\nHost: test\r\n"


class Client:
    """A connection that can also say half a request, or nothing."""

    def __init__(self, server: Server) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
        self.told_to_go = False
        """Whether the last answer has said that the connection ends."""

    def ask(self, path: bytes = b"/") -> None:
        self.socket.sendall(HEAD % path + b"\r\n")

    def answer(self) -> tuple[int, str]:
        """Status and body of one answer."""
        read = b""
        while b"\r\n\r\n" not in read:
            read += self._receive()
        head, _, body = read.partition(b"\r\n\r\n")
        self.told_to_go = b"connection: close" in head.lower()
        length = re.search(rb"content-length: (\d+)", head.lower())
        assert length, head
        while len(body) < int(length[1]):
            body += self._receive()
        return int(head.split()[1]), body.decode()

    def pid(self) -> int:
        status, body = self.answer()
        assert status == 200, body
        return int(body.removeprefix("VERSION "))

    def _receive(self) -> bytes:
        data = self.socket.recv(4096)
        assert data, "the connection was closed"
        return data

    def is_answered(self) -> bool:
        return bool(select.select([self.socket], [], [], 0)[0])

    def wait_for_end(self) -> None:
        """Until the server closes."""
        with contextlib.suppress(ConnectionResetError):
            while self.socket.recv(4096):
                pass


@pytest.fixture
def connect() -> Iterator[Callable[[Server], Client]]:
    clients: list[Client] = []

    def connect_one(server: Server) -> Client:
        clients.append(Client(server))
        return clients[-1]

    yield connect_one
    for client in clients:
        client.socket.close()


Connect = Callable[[Server], Client]


@pytest.fixture(params=["uvloop", "asyncio"])
def loop(request: pytest.FixtureRequest, folder: Path) -> str:
    """Both event loops: a module of that name that cannot be imported hides uvloop."""
    if request.param == "asyncio":
        (folder / "uvloop.py").write_text("raise ImportError\n")
    return str(request.param)


@pytest.fixture(params=["httptools", "h11"])
def parser(request: pytest.FixtureRequest, folder: Path) -> str:
    if request.param == "h11":
        (folder / "httptools.py").write_text("raise ImportError\n")
    return str(request.param)


@pytest.mark.usefixtures("loop")
def test_each_of_a_burst_gets_a_worker_of_its_own(
    start: Start, connect: Connect, folder: Path
) -> None:
    (folder / "app.py").write_text(BLOCKING)
    server = start("-w", "4").wait_until_ready()
    bursts = 0
    while bursts < 5:
        began = time.monotonic()
        clients = [connect(server) for _ in range(4)]
        for client in clients:
            client.ask(b"/block")
        # Whoever hesitates longer is a silent client, and may share a worker.
        at_once = time.monotonic() - began < WINDOW
        if at_once:
            # Were two with one worker, the fourth would never begin.
            server.wait_for("four at work", lambda: len(list(folder.glob("blocks-*"))) == 4)
        server.write("", "go")
        pids = {client.pid() for client in clients}
        if at_once:
            assert len(pids) == 4
            bursts += 1
        for file in [folder / "go", *folder.glob("blocks-*")]:
            file.unlink()


@pytest.mark.usefixtures("loop")
@pytest.mark.parametrize("at_once", [False, True])
def test_long_lived_connections_are_shared_evenly(
    start: Start, connect: Connect, at_once: bool
) -> None:
    server = start("-w", "4").wait_until_ready()
    pids: Counter[int] = Counter()
    clients = []
    for _ in range(64):
        clients.append(connect(server))
        clients[-1].ask()
        if not at_once:
            pids[clients[-1].pid()] += 1
    if at_once:
        pids.update(client.pid() for client in clients)
    # Who asks at once finds workers that a busy machine has not let turn yet.
    assert max(pids.values()) <= (0.40 if at_once else 0.30) * 64, pids


def test_a_connection_wakes_few_workers(start: Start, connect: Connect) -> None:
    # Without a switchboard: who parks looks closely after a slow answer, and wakes for that.
    server = start("-w", "8", "--switchboard", "off").wait_until_ready()
    before = sum(map(_switches, server.worker_pids()))
    for _ in range(200):
        client = connect(server)
        client.ask()
        client.pid()
        client.socket.close()
    # A plain listener wakes all eight.
    assert (sum(map(_switches, server.worker_pids())) - before) / 200 < 5


@pytest.mark.parametrize("asked", [False, True])
def test_an_idle_worker_wakes_about_once_a_second(start: Start, asked: bool) -> None:
    # Who parks looks closely after a slow answer, and wakes for that.
    server = start("-w", "1", *(("--switchboard", "off") if asked else ())).wait_until_ready()
    if asked:
        server.get()
    (worker,) = server.worker_pids()
    before = _switches(worker)
    time.sleep(5)  # what is looked at: five seconds in which nothing happens
    assert _switches(worker) - before < 5 * 2 + 3


def _switches(pid: int) -> int:
    """How often the process has gone to sleep so far (proc_pid_status(5))."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^voluntary_ctxt_switches:\s+(\d+)", status, re.M)
    assert found
    return int(found[1])


# -- limits -----------------------------------------------------------------------------------


def test_beyond_worker_concurrency_a_connection_waits_for_whoever_is_free_first(
    start: Start, connect: Connect, folder: Path
) -> None:
    (folder / "app.py").write_text(WAITING)
    server = start("-w", "2", "--worker-concurrency", "2").wait_until_ready()
    idle = [connect(server) for _ in range(4)]
    for client in idle:  # idle connections take no place
        client.ask()
        client.pid()
    clients = [connect(server) for _ in range(7)]
    for client in clients:
        client.ask(b"/wait")
    server.wait_for("four at work", lambda: len(list(folder.glob("waits-*"))) == 4)
    late = connect(server)
    late.ask()
    assert not late.is_answered()
    assert len(list(folder.glob("waits-*"))) == 4
    server.write("", "go")
    late.pid()
    assert len({client.pid() for client in clients}) == 2


def test_what_waits_for_a_place_is_not_lost_with_a_worker(
    start: Start, connect: Connect, folder: Path
) -> None:
    (folder / "app.py").write_text(WAITING)
    server = start("-w", "2", "--worker-concurrency", "1").wait_until_ready()
    at_work = [connect(server) for _ in range(2)]
    for client in at_work:
        client.ask(b"/wait")
    server.wait_for("two at work", lambda: len(list(folder.glob("waits-*"))) == 2)
    waiting = [connect(server) for _ in range(6)]
    for client in waiting:
        client.ask()
    before = {pid: _switches(pid) for pid in server.worker_pids()}
    # Their handlers poll; so each loop has turned, and could have taken some.
    server.wait_for("turns", lambda: all(_switches(pid) > n + 10 for pid, n in before.items()))
    os.kill(min(server.worker_pids()), 9)
    server.write("", "go")
    for client in waiting:  # they were in the kernel's queue, not in the worker
        client.pid()


def test_a_request_beyond_the_limit_on_an_idle_connection_waits_its_turn(
    start: Start, connect: Connect, folder: Path
) -> None:
    (folder / "app.py").write_text(WAITING)
    server = start("-w", "1", "--worker-concurrency", "1").wait_until_ready()
    idle, busy = connect(server), connect(server)
    idle.ask()
    idle.pid()
    busy.ask(b"/wait")
    server.wait_for("at work", lambda: len(list(folder.glob("waits-*"))) == 1)
    idle.ask()
    assert not idle.is_answered()
    server.write("", "go")
    assert busy.pid() == idle.pid()


def test_without_descriptors_connections_wait_and_one_line_says_so(
    start: Start, connect: Connect, folder: Path
) -> None:
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))\n"
    (folder / "app.py").write_text(limit + APP)
    server = start("-w", "1", "--no-preload").wait_until_ready()
    clients = [connect(server) for _ in range(80)]
    for client in clients:
        client.ask()
    server.wait_for_log("cannot accept .*Too many open files")
    served = [client for client in clients if client.is_answered()]
    assert 0 < len(served) < 60
    for client in clients:  # each that leaves makes room for another
        client.pid()
        client.socket.close()
    assert server.get().startswith("VERSION")
    assert server.log.count("cannot accept") == 1
    server.wait_for_log("accepting again")


# -- clients that say nothing, or too much -----------------------------------------------------


@pytest.mark.usefixtures("loop", "parser")
def test_silent_and_dripping_clients_are_closed_and_hold_nobody_up(
    start: Start, connect: Connect
) -> None:
    server = start("-w", "2", "--header-timeout", "1").wait_until_ready()
    silent = [connect(server) for _ in range(20)]
    half = [connect(server) for _ in range(20)]
    for client in half:
        client.socket.sendall(HEAD % b"/")
    second = [connect(server) for _ in range(5)]
    for client in second:  # a whole request, and half of another
        client.ask()
        client.pid()
        client.socket.sendall(HEAD % b"/")
    assert server.get().startswith("VERSION")
    for client in [*silent, *half, *second]:
        client.wait_for_end()


@pytest.mark.usefixtures("parser")
def test_an_idle_connection_and_a_slow_body_are_not_late(start: Start, connect: Connect) -> None:
    server = start("-w", "1", "--header-timeout", "1", "--keep-alive", "60").wait_until_ready()
    idle, uploading, late = connect(server), connect(server), connect(server)
    idle.ask()
    idle.pid()
    uploading.socket.sendall(b"POST / HTTP/1.1\r\nHost: test\r\ncontent-length: 10\r\n\r\n12345")
    uploading.pid()
    late.wait_for_end()  # so the time has passed
    uploading.socket.sendall(b"67890" + HEAD % b"/" + b"\r\n")
    uploading.pid()
    idle.ask()
    idle.pid()


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize("piece", [1000, 300_000])
def test_a_head_that_is_too_long_is_refused(start: Start, connect: Connect, piece: int) -> None:
    server = start("-w", "1", "--max-header-size", "64K").wait_until_ready()
    for requests_before in range(2):
        client = connect(server)
        for _ in range(requests_before):
            client.ask()
            client.pid()
        head = HEAD % b"/" + b"x: " + b"x" * 200_000
        with contextlib.suppress(OSError):  # it may have heard enough
            for begin in range(0, len(head), piece):
                client.socket.sendall(head[begin : begin + piece])
        with contextlib.suppress(ConnectionResetError):
            assert client.answer()[0] == 431
        client.wait_for_end()


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize("body", [0, 300_000])
def test_a_long_head_and_a_longer_body_within_the_limit_pass(
    start: Start, connect: Connect, body: int
) -> None:
    server = start("-w", "1", "--max-header-size", "64K").wait_until_ready()
    client = connect(server)
    for _ in range(2):
        head = HEAD % b"/" + b"x: " + b"x" * 60_000 + b"\r\ncontent-length: %d\r\n\r\n" % body
        client.socket.sendall(head + b"b" * body)
        assert client.pid() in server.worker_pids()


@pytest.mark.usefixtures("parser")
def test_many_requests_in_a_row_are_not_one_long_head(start: Start, connect: Connect) -> None:
    server = start("-w", "1", "--max-header-size", "4K").wait_until_ready()
    client = connect(server)
    requests = (HEAD % b"/" + b"\r\n") * 1000
    answered = 0
    for begin in range(0, len(requests), 9_999):  # each piece ends within a head
        client.socket.sendall(requests[begin : begin + 9_999])
    while answered < 1000:
        data = client.socket.recv(65536)
        assert data, "the connection was closed"
        answered += data.count(b"HTTP/1.1 200")

"""Kept connections find the free worker, and outlive whoever had them."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import ssl
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import pytest
import trustme
import websockets.exceptions
import websockets.sync.client

from tests.system.server import APP, PATIENCE, Load, Server, is_gone
from tests.system.test_accept import BLOCKING, WAITING, Client

Start = Callable[..., Server]
Connect = Callable[[Server], Client]

PATIENT = ("--keep-alive", "600", "--graceful-timeout", "600")
BEGINS = "requests hold others up in worker"
ENDS = "no handler holds others up any more"

MIXED = APP.replace(
    "    body =",
    """    import asyncio, time
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await asyncio.sleep(0.3)
        await send({"type": "websocket.close"})
        return
    if scope["path"] == "/slow":
        time.sleep(0.1)
    if scope["path"] == "/awaits":
        await asyncio.sleep(0.3)
    if scope["path"] == "/stream":
        await send({"type": "http.response.start", "status": 200,
                    "headers": [(b"content-length", b"20")]})
        for _ in range(10):
            await send({"type": "http.response.body", "body": b"..", "more_body": True})
            await asyncio.sleep(0.03)
        await send({"type": "http.response.body", "body": b""})
        return
    body =""",
)
"""Requests that hold the loop up, and others that only take long."""


@pytest.fixture
def connect() -> Iterator[Connect]:
    with contextlib.ExitStack() as undo:

        def connect_one(server: Server) -> Client:
            client = Client(server)
            undo.callback(client.socket.close)
            return client

        yield connect_one


def _all_ask(clients: list[Client], path: bytes = b"/") -> list[int]:
    """Who answers each of them, one after the other, on the connection that it has."""
    pids = []
    for client in clients:
        client.ask(path)
        pids.append(client.pid())
    return pids


def _ask_until_told_to_go(client: Client) -> None:
    """A worker that has not heard of the stop yet may answer as ever."""
    until = monotonic() + PATIENCE
    while not client.told_to_go and monotonic() < until:
        _all_ask([client])


def _held(server: Server) -> int:
    """How many connections the switchboard has open."""
    pid = server.the_switchboard()
    sockets = 0
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            sockets += os.readlink(fd).startswith("socket:")
    return sockets - _OWN_SOCKETS


_OWN_SOCKETS = 7
"""Both ends of two queues, its end of the channel, and two for SIGTERM."""


def _wait_until_parked(server: Server, count: int) -> None:
    server.wait_for(f"{count} parked", lambda: _held(server) == count)


@pytest.mark.parametrize("limit", [(), ("--worker-concurrency", "1")], ids=["blocking", "limit"])
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_kept_connection_finds_the_free_worker(
    start: Start, connect: Connect, folder: Path, loop: str, limit: tuple[str, ...]
) -> None:
    if loop == "asyncio":
        (folder / "uvloop.py").write_text("raise ImportError\n")
    (folder / "app.py").write_text(WAITING if limit else BLOCKING)
    server = start("-w", "2", "--switchboard", "on", *PATIENT, *limit).wait_until_ready()
    kept = [connect(server) for _ in range(8)]
    _all_ask(kept)
    _wait_until_parked(server, 8)
    busy = connect(server)
    busy.ask(b"/wait" if limit else b"/block")
    marks = "waits-*" if limit else "blocks-*"
    server.wait_for("one at work", lambda: len(list(folder.glob(marks))) == 1)
    answered_by = set(_all_ask(kept * 3))
    server.write("", "go")
    assert answered_by == server.worker_pids() - {busy.pid()}


def test_many_requests_on_kept_connections_are_shared(start: Start, folder: Path) -> None:
    """More than the workers can take at once: all wait in one queue, and all are answered."""
    (folder / "app.py").write_text(MIXED.replace('scope["path"] == "/slow"', "True"))
    server = start("-w", "4", "--switchboard", "on", *PATIENT).wait_until_ready()
    with Load(server, clients=16, keep_alive=True) as load:
        server.wait_for("enough", lambda: len(load.answers) >= 80)
    assert load.failed == []
    assert load.reconnects == 0
    shares = Counter(load.answers)
    assert len(shares) == 4
    assert max(shares.values()) < 2 * min(shares.values())


def test_it_switches_itself_on_and_off(start: Start, connect: Connect, folder: Path) -> None:
    (folder / "app.py").write_text(MIXED)
    server = start("-w", "2", *PATIENT).wait_until_ready()
    clients = [connect(server) for _ in range(8)]
    _all_ask(clients)
    assert _held(server) == 0
    while BEGINS not in server.log:
        _all_ask(clients, b"/slow")
    _all_ask(clients)
    _wait_until_parked(server, 8)
    while not any(ENDS in line for line in server.lines):
        _all_ask(clients)
    while _held(server):  # each worker notices within a second
        _all_ask(clients)
    assert server.log.count(BEGINS) == server.log.count(ENDS) == 1


def test_what_only_takes_long_does_not_switch_it_on(
    start: Start, connect: Connect, folder: Path
) -> None:
    (folder / "app.py").write_text(MIXED)
    server = start("-w", "2", *PATIENT).wait_until_ready()
    clients = [connect(server) for _ in range(16)]
    # For longer than it takes until it could be switched on at all.
    for path in (b"/awaits", b"/stream") * 6:
        for client in clients:
            client.ask(path)
        for client in clients:
            client.answer()
    with (
        websockets.sync.client.connect(f"ws://127.0.0.1:{server.port}/") as socket,
        pytest.raises(websockets.exceptions.ConnectionClosed),
    ):
        socket.recv(PATIENCE)
    assert BEGINS not in server.log
    while BEGINS not in server.log:
        _all_ask(clients, b"/slow")


def test_to_wait_at_the_limit_counts_as_slow(start: Start, connect: Connect, folder: Path) -> None:
    """As without a limit the loop being held: a sibling could have served it."""
    (folder / "app.py").write_text(MIXED)
    server = start("-w", "2", "--worker-concurrency", "1", *PATIENT).wait_until_ready()
    clients = [connect(server) for _ in range(8)]
    _all_ask(clients)
    while BEGINS not in server.log:
        for client in clients:
            client.ask(b"/awaits")
        for client in clients:
            client.answer()


def test_a_single_worker_parks_nothing_until_there_is_another(
    start: Start, connect: Connect, folder: Path
) -> None:
    (folder / "app.py").write_text(MIXED)
    server = start("-w", "1", *PATIENT).wait_until_ready()
    clients = [connect(server) for _ in range(4)]
    for _ in range(3):  # by far enough, if there were a sibling
        _all_ask(clients, b"/slow")
    assert server.reload() == "done"
    _all_ask(clients, b"/slow")
    assert BEGINS not in server.log
    server.signal(signal.SIGTTIN)
    while BEGINS not in server.log:
        _all_ask(clients, b"/slow")


def test_off_is_off(start: Start, connect: Connect, folder: Path) -> None:
    (folder / "app.py").write_text(MIXED)
    server = start("-w", "1", "--switchboard", "off").wait_until_ready()
    clients = [connect(server) for _ in range(8)]
    _all_ask(clients, b"/slow")
    for client in clients:
        client.socket.close()
    assert server.switchboard_pids() == set()
    assert server.stop() == 0
    assert BEGINS not in server.log


def test_when_workers_are_killed_who_waits_loses_nothing(start: Start, connect: Connect) -> None:
    server = start("-w", "3", "--switchboard", "on", *PATIENT).wait_until_ready()
    kept = [connect(server) for _ in range(8)]
    old = set(_all_ask(kept))
    _wait_until_parked(server, 8)
    for pid in server.worker_pids():
        os.kill(pid, signal.SIGKILL)
    assert not old & set(_all_ask(kept))


def test_kill_of_busy_workers_loses_only_what_they_were_serving(
    start: Start, connect: Connect, folder: Path
) -> None:
    (folder / "app.py").write_text(BLOCKING)
    server = start("-w", "2", "--switchboard", "on", *PATIENT).wait_until_ready()
    kept = [connect(server) for _ in range(8)]
    _all_ask(kept)
    _wait_until_parked(server, 8)
    busy = [connect(server) for _ in range(2)]
    for client in busy:
        client.ask(b"/block")
    server.wait_for("both at work", lambda: len(list(folder.glob("blocks-*"))) == 2)
    for client in kept:
        client.ask()  # and these wait in the queue
    old = server.worker_pids()
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    for client in busy:
        client.wait_for_end()
    assert not old & {client.pid() for client in kept}


def test_term_to_the_switchboard_loses_nothing(start: Start, connect: Connect) -> None:
    server = start("-w", "2", "--switchboard", "on", *PATIENT).wait_until_ready()
    idle = [connect(server) for _ in range(100)]
    _all_ask(idle)
    with Load(server, clients=4, keep_alive=True) as load:
        pid = None
        for _ in range(5):
            since = server.mark()
            pid = server.the_switchboard(but=pid)
            os.kill(pid, signal.SIGTERM)
            server.wait_for_log(rf"switchboard \(pid {pid}\) has left", since=since)
    assert load.failed == []
    assert load.reconnects == 0
    _wait_until_parked(server, 100)
    _all_ask(idle)


def test_kill_of_the_switchboard_costs_only_what_it_held(start: Start, connect: Connect) -> None:
    server = start("-w", "2", "--switchboard", "on", *PATIENT).wait_until_ready()
    lost, kept = connect(server), connect(server)
    _all_ask([lost])
    _wait_until_parked(server, 1)
    kept.socket.sendall(b"GET / HTTP/1.1\r\n")  # so this one is with a worker
    pid = server.the_switchboard()
    os.kill(pid, signal.SIGKILL)
    server.wait_for_log(
        rf"switchboard \(pid {pid}\) was ended by SIGKILL .*after .* with it went 1 idle connection"
    )
    lost.wait_for_end()
    kept.socket.sendall(b"Host: test\r\n\r\n")
    kept.pid()
    server.the_switchboard(but=pid)
    _wait_until_parked(server, 1)
    _all_ask([kept])
    with Load(server, clients=4) as load:  # new ones were never in danger
        server.wait_for("enough", lambda: len(load.answers) > 50)
    assert load.failed == []


def test_a_stopped_switchboard_is_passed_by_and_replaced(start: Start, connect: Connect) -> None:
    server = start("-w", "2", "--switchboard", "on", *PATIENT).wait_until_ready()
    clients = [connect(server) for _ in range(4)]
    pid = server.the_switchboard()
    os.kill(pid, signal.SIGSTOP)
    _all_ask(clients)  # and then they are in the inbox
    began = monotonic()
    with Load(server, clients=2, keep_alive=True) as load:
        server.wait_for_log(rf"switchboard \(pid {pid}\) hangs")
        _all_ask(clients)  # by its successor
    assert load.failed == []
    assert load.reconnects == 0
    assert monotonic() - began < PATIENCE / 2
    server.the_switchboard(but=pid)


@pytest.mark.parametrize("how", ["stop", "kill of the master", "TERM to everybody"])
def test_at_the_end_who_waits_is_answered_and_told_to_go(
    start: Start, connect: Connect, how: str
) -> None:
    server = start("-w", "2", "--switchboard", "on", *PATIENT).wait_until_ready()
    kept = [connect(server) for _ in range(8)]
    _all_ask(kept)
    _wait_until_parked(server, 8)
    processes = server.worker_pids()
    switchboard = server.the_switchboard()
    if how == "stop":
        server.signal(signal.SIGTERM)
    elif how == "TERM to everybody":  # as systemd does unless it is told otherwise
        os.killpg(server.pid, signal.SIGTERM)
    else:
        server.signal(signal.SIGKILL)
    server.wait_for("the switchboard gone", lambda: is_gone(switchboard))
    for client in kept:
        _ask_until_told_to_go(client)
        client.wait_for_end()
    server.wait_for("all gone", lambda: all(map(is_gone, processes)))
    server.wait_for_exit()


def test_a_stop_does_not_wait_for_a_stopped_switchboard(start: Start, connect: Connect) -> None:
    server = start("-w", "2", "--switchboard", "on").wait_until_ready()
    _all_ask([connect(server)])
    _wait_until_parked(server, 1)
    os.kill(server.the_switchboard(), signal.SIGSTOP)
    assert server.stop() == 0
    assert "a fault" not in server.log


def test_a_client_that_is_silent_is_closed_in_time(start: Start, connect: Connect) -> None:
    server = start("-w", "1", "--switchboard", "on", "--keep-alive", "2").wait_until_ready()
    client = connect(server)
    _all_ask([client])
    began = monotonic()
    client.wait_for_end()
    assert monotonic() - began < PATIENCE / 4
    _wait_until_parked(server, 0)


def test_ten_thousand_idle_connections_cost_next_to_nothing(start: Start, connect: Connect) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(10_000, hard - 500)
    server = start("-w", "2", "--switchboard", "on", *PATIENT).wait_until_ready()
    pid = server.the_switchboard()
    memory, cost = _resident(pid), _cost_of_a_request(server)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        clients = []
        for _ in range(count):
            clients.append(connect(server))
            _all_ask(clients[-1:])
        _wait_until_parked(server, count)
        assert _resident(pid) - memory < 16 << 20
        assert _cost_of_a_request(server) < 2 * cost
        _all_ask(clients[:: count // 20])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert server.switchboard_pids() == {pid}


def _cost_of_a_request(server: Server) -> float:
    """Processor time of the switchboard, for one request among many, in seconds."""
    pid = server.the_switchboard()
    with Load(server, clients=4, keep_alive=True) as load:
        server.wait_for("warm", lambda: len(load.answers) > 100)
        before, spent = len(load.answers), _cpu(pid)
        server.wait_for("enough", lambda: len(load.answers) > before + 3000)
        cost = (_cpu(pid) - spent) / (len(load.answers) - before)
    assert load.failed == []
    return cost


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


def _cpu(pid: int) -> float:
    """Seconds of processor time."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_encrypted_connections_stay_and_that_is_said_once(start: Start, folder: Path) -> None:
    authority = trustme.CA()
    pem = folder / "cert.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(pem))
    (folder / "app.py").write_text(APP)
    options = ("-w", "3", "--switchboard", "on", "--ssl-certfile", str(pem))
    server = start(*options).wait_until_ready()
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with (
        contextlib.closing(Client(server).socket) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as client,
    ):
        for _ in range(3):
            client.sendall(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            answer = b""
            while b"VERSION" not in answer:
                answer += client.recv(4096)
        assert _held(server) == 0
    assert server.reload() == "done"
    assert server.stop() == 0
    assert server.log.count("connections are encrypted") == 1

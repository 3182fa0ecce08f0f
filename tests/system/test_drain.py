"""Nothing accepted is lost, whoever leaves and for whatever reason."""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import websockets.exceptions
import websockets.sync.client

from tests.system.server import APP, PATIENCE, Load, Server, is_gone, port_is_free
from tests.system.test_accept import BLOCKING, HEAD, WAITING, Client

Start = Callable[..., Server]

LASTING = APP.replace(
    "    body =",
    """    import asyncio
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
        return
    if scope["path"] == "/stream":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b"tick ", "more_body": True})
            await asyncio.sleep(0.01)
    body =""",
).replace(
    """            if message["type"] == "lifespan.shutdown":
""",
    """            if message["type"] == "lifespan.shutdown":
                open("shut-down", "w").close()
""",
)
"""Requests that do not end by themselves, and a lifespan that says that it has."""


def _ask_all(server: Server, path: bytes, count: int) -> list[Client]:
    clients = [Client(server) for _ in range(count)]
    for client in clients:
        client.ask(path)
    return clients


def _idle_clients(server: Server, count: int) -> list[Client]:
    """Each has been answered once."""
    clients = [Client(server) for _ in range(count)]
    for client in clients:
        client.ask()
        client.pid()
    return clients


def _listens(server: Server) -> bool:
    """Whether the master itself still holds the listening socket."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    port = f":{server.port:04X}"
    inodes = {f"socket:[{line[9]}]" for line in lines if line[1].endswith(port) and line[3] == "0A"}
    held = set()
    for fd in Path(f"/proc/{server.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            held.add(os.readlink(fd))
    return bool(inodes & held)


@pytest.mark.parametrize("how", ["TERM", "TERM to everybody", "kill of the master"])
def test_what_waits_in_the_queue_at_the_end_is_answered(
    start: Start, folder: Path, how: str
) -> None:
    (folder / "app.py").write_text(BLOCKING)
    server = start("-w", "2").wait_until_ready()
    workers = server.worker_pids()
    clients = _ask_all(server, b"/block", 2)
    server.wait_for("both at work", lambda: len(list(folder.glob("blocks-*"))) == 2)
    clients += _ask_all(server, b"/", 10)  # these wait in the kernel's queue
    if how == "kill of the master":
        server.signal(signal.SIGKILL)
    else:
        pids = [server.pid, *workers] if how == "TERM to everybody" else [server.pid]
        for pid in sorted(pids, reverse=True):  # the workers first
            os.kill(pid, signal.SIGTERM)
        server.wait_for_log("stopping because of")
    server.write("", "go")
    assert {client.pid() for client in clients} <= workers
    for client in clients:
        client.socket.close()
    server.wait_for_exit()
    server.wait_for("gone", lambda: all(map(is_gone, workers)))


def test_at_a_stop_nobody_else_gets_into_the_queue(start: Start, folder: Path) -> None:
    (folder / "app.py").write_text(BLOCKING)
    server = start("-w", "1").wait_until_ready()
    first = _ask_all(server, b"/block", 1)[0]
    server.wait_for("at work", lambda: len(list(folder.glob("blocks-*"))) == 1)
    server.signal(signal.SIGTERM)
    server.wait_for("the listener given up", lambda: not _listens(server))
    late: list[Any] = []

    def come_late() -> None:
        try:
            late.append(Client(server))
        except ConnectionRefusedError as exc:
            late.append(exc)

    comes = threading.Thread(target=come_late)
    comes.start()
    server.write("", "go")
    first.pid()
    first.socket.close()
    assert server.wait_for_exit() == 0
    comes.join(PATIENCE)
    assert isinstance(late[0], ConnectionRefusedError)


def test_orphaned_workers_do_not_serve_on_under_load(start: Start, folder: Path) -> None:
    busy = APP.replace("    body =", "    time.sleep(0.02)\n    body =")
    (folder / "app.py").write_text("import time\n" + busy)
    server = start("-w", "2", "--graceful-timeout", "600").wait_until_ready()
    workers = server.worker_pids()
    with Load(server, clients=16):  # more than they can serve; in the end it is refused
        server.signal(signal.SIGKILL)
        server.wait_for("gone", lambda: all(map(is_gone, workers)))
    assert port_is_free(server.port)


@pytest.mark.parametrize("how", ["TERM to the worker", "reload", "stop"])
def test_websockets_are_told_that_the_service_restarts(
    start: Start, folder: Path, how: str
) -> None:
    (folder / "app.py").write_text(LASTING)
    patient = ("--keep-alive", "600", "--graceful-timeout", "600")
    server = start("-w", "1", *patient).wait_until_ready()
    with websockets.sync.client.connect(f"ws://127.0.0.1:{server.port}/") as client:
        if how == "TERM to the worker":
            os.kill(server.worker_pids().pop(), signal.SIGTERM)
        else:
            server.signal(signal.SIGHUP if how == "reload" else signal.SIGTERM)
        with pytest.raises(websockets.exceptions.ConnectionClosed) as closed:
            client.recv(PATIENCE)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012


def test_a_stream_ends_at_the_graceful_timeout_and_the_lifespan_after_it(
    start: Start, folder: Path
) -> None:
    (folder / "app.py").write_text(LASTING)
    server = start("-w", "1", "--graceful-timeout", "1").wait_until_ready()
    stream = _ask_all(server, b"/stream", 1)[0]
    assert b"200" in stream.socket.recv(4096)
    assert server.stop() == 0
    stream.wait_for_end()
    stream.socket.close()
    assert (folder / "shut-down").exists()
    assert "SIGKILL" not in server.log


def test_a_new_generation_gets_the_idle_clients_of_the_old(start: Start) -> None:
    server = start("-w", "4", "--keep-alive", "600", "--graceful-timeout", "600")
    server.wait_until_ready()
    idle = _idle_clients(server, 16)
    old = server.worker_pids()
    assert server.reload() == "done"
    server.wait_for("gone", lambda: not old & server.worker_pids())
    for client in idle:
        client.ask()
        assert client.pid() not in old
        client.socket.close()


def test_a_long_request_of_a_leaving_worker_keeps_its_connection(
    start: Start, folder: Path
) -> None:
    (folder / "app.py").write_text(WAITING)
    server = start("-w", "1", "--keep-alive", "2").wait_until_ready()
    client = _ask_all(server, b"/wait", 1)[0]
    server.wait_for("at work", lambda: len(list(folder.glob("waits-*"))) == 1)
    old = server.worker_pids()
    assert server.reload() == "done"
    # For longer than an idle client is waited for.
    assert select.select([client.socket], [], [], 3.0)[0] == []
    server.write("", "go")
    assert client.pid() in old
    client.ask()
    assert client.pid() not in old
    client.socket.close()


def test_an_impatient_worker_parks_its_idle_clients_too(start: Start) -> None:
    server = start("-w", "1", "--keep-alive", "600").wait_until_ready()
    client = _ask_all(server, b"/", 1)[0]
    old = client.pid()
    os.kill(old, signal.SIGINT)
    server.wait_for("gone", lambda: is_gone(old))
    client.ask()
    assert client.pid() != old
    client.socket.close()


def test_without_a_switchboard_it_does_not_wait_for_them_either(start: Start) -> None:
    server = start(
        *("-w", "4", "--keep-alive", "600", "--graceful-timeout", "600", "--switchboard", "off")
    )
    server.wait_until_ready()
    idle = _idle_clients(server, 16)
    old = server.worker_pids()
    assert server.reload() == "done"  # while all of them are still there
    assert old <= server.worker_pids()
    for client in idle:
        client.socket.sendall(HEAD % b"/" + b"\r\n")
        assert client.pid() in old
        client.socket.close()
    server.wait_for("gone", lambda: not old & server.worker_pids())


def test_fifty_reloads_and_all_else_lose_no_request(start: Start) -> None:
    """Reloads, recycling, scaling and TERM to single workers, under steady load."""
    server = start("-w", "3", "--max-requests", "60", "--max-requests-jitter", "30")
    server.wait_until_ready()
    disturb = random.Random(4)
    new = Load(server, clients=16, hesitate=0.003, pause=0.1)
    kept = Load(server, clients=16, keep_alive=True, pause=0.1)
    with new, kept:
        for number in range(50):
            if number % 5 == 1:
                server.signal(signal.SIGTTIN)
            if number % 5 == 3:
                server.signal(signal.SIGTTOU)
            if number % 4 == 2:
                _terminate(disturb.choice(sorted(server.worker_pids())))
            assert server.reload() == "done"
    assert new.failed == []
    assert kept.failed == []
    assert kept.reconnects == 0
    assert len(new.answers) > 500
    assert len(kept.answers) > 500
    assert "has answered" in server.log  # so there was recycling
    assert server.stop() == 0


def _terminate(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        pass  # it has just left by itself

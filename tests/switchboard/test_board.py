"""The switchboard's loop, with real connections and the real queues.

Each test turns the loop by hand; nothing happens between two turns.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import pytest

from forkserve.scoreboard import Scoreboard
from forkserve.switchboard import board as board_module
from forkserve.switchboard.board import Board
from forkserve.switchboard.queues import MOST_IN_A_MESSAGE, Exchange, Parked, Queue
from tests.master.test_listeners import needs_ipv6

PATIENCE = 10.0
LATER = 3600.0
KINDS = ["127.0.0.1", pytest.param("::1", marks=needs_ipv6), "unix"]


@dataclass
class Bench:
    """A board, both its queues, and what the test plays: the workers and the clients."""

    exchange: Exchange
    folder: Path
    troubles: list[str]
    undo: contextlib.ExitStack

    def board(self, descriptors: int = 1000) -> Board:
        board = Board(self.exchange, descriptors, self.troubles.append)
        self.undo.callback(board._epoll.close)
        board.open()
        return board

    def connect(self, kind: str = "127.0.0.1") -> tuple[socket.socket, socket.socket]:
        """A client, and the server's end of its connection."""
        families = {"127.0.0.1": socket.AF_INET, "::1": socket.AF_INET6, "unix": socket.AF_UNIX}
        with socket.socket(families[kind], socket.SOCK_STREAM) as listener:
            listener.bind(str(self.folder / "socket") if kind == "unix" else (kind, 0))
            listener.listen()
            client = self.undo.enter_context(socket.socket(listener.family))
            client.connect(listener.getsockname())
            server, _ = listener.accept()
        if kind == "unix":
            (self.folder / "socket").unlink()
        client.settimeout(PATIENCE)
        return client, server

    def park(self, *servers: socket.socket, deadline: float = LATER) -> None:
        """As a worker does: its own descriptors are closed afterwards."""
        fds = [Parked(server.fileno(), monotonic() + deadline) for server in servers]
        for first in range(0, len(fds), MOST_IN_A_MESSAGE):
            assert self.exchange.inbox.put(fds[first : first + MOST_IN_A_MESSAGE])
        for server in servers:
            server.close()

    def taken(self) -> list[socket.socket]:
        """What workers find in the outbox."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                for parked in self.exchange.outbox.take(1)[0]:
                    found.append(self.undo.enter_context(socket.socket(fileno=parked.fd)))
        return found

    def way_to(self, queue: Queue) -> Queue:
        """As another process has it."""
        way = Queue.to(os.dup(queue.entrance.fileno()))
        self.undo.callback(way.close)
        return way


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    exchange = Exchange.make(Scoreboard(1).switchboard())
    with contextlib.ExitStack() as undo:
        undo.callback(exchange.inbox.close)
        undo.callback(exchange.outbox.close)
        yield Bench(exchange, tmp_path, [], undo)


def turn_until(board: Board, condition: Callable[[], bool]) -> None:
    deadline = monotonic() + PATIENCE
    while not condition():
        assert monotonic() < deadline
        board.turn(0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_a_connection_waits_until_its_client_sends(bench: Bench, kind: str) -> None:
    board = bench.board()
    client, server = bench.connect(kind)
    name = client.getsockname()
    bench.park(server)
    turn_until(board, lambda: bench.exchange.row.held() == (1, 0))
    assert not bench.taken()
    client.send(b"GET")
    turn_until(board, lambda: bench.exchange.row.held() == (0, 0))
    (found,) = bench.taken()
    assert found.family == client.family
    assert found.getpeername() == name
    assert found.recv(10) == b"GET"  # nothing of it has been read
    found.send(b"200")
    assert client.recv(10) == b"200"
    found.close()
    assert client.recv(10) == b""  # nobody else has it open


def test_what_was_sent_before_it_was_parked_is_seen(bench: Bench) -> None:
    board = bench.board()
    client, server = bench.connect()
    client.send(b"GET")
    bench.park(server)
    turn_until(board, lambda: bool(bench.taken()))


@pytest.mark.parametrize("how", ["closed", "half-closed", "reset"])
@pytest.mark.parametrize("kind", ["127.0.0.1", "unix"])
def test_a_client_that_goes_is_dropped(bench: Bench, how: str, kind: str) -> None:
    board = bench.board()
    client, server = bench.connect(kind)
    bench.park(server)
    turn_until(board, lambda: bench.exchange.row.held() == (1, 0))
    before = _open_fds()
    if how == "reset":
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if how == "half-closed":
        client.shutdown(socket.SHUT_WR)
    else:
        client.close()
        before -= 1
    turn_until(board, lambda: bench.exchange.row.held() == (0, 0))
    assert not bench.taken()
    assert _open_fds() == before - 1


def test_the_last_request_of_a_client_that_closes_its_half_is_for_a_worker(bench: Bench) -> None:
    board = bench.board()
    client, server = bench.connect()
    client.send(b"GET")
    client.shutdown(socket.SHUT_WR)
    bench.park(server)
    turn_until(board, lambda: bench.exchange.row.held() == (0, 0) and bool(bench.taken()))


def test_what_has_been_idle_for_too_long_is_closed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board_module, "BEAT", 0.01)
    board = bench.board()
    late, server = bench.connect()
    bench.park(server, deadline=0.0)
    early, server = bench.connect()
    bench.park(server)
    turn_until(board, lambda: bench.exchange.row.held() == (1, 0))
    turn_until(board, lambda: bool(select.select([late], [], [], 0)[0]))
    assert late.recv(10) == b""
    early.send(b"GET")
    turn_until(board, lambda: bool(bench.taken()))


def test_while_the_outbox_is_full_they_wait_in_their_order(bench: Bench) -> None:
    board = bench.board()
    _, filler = bench.connect()
    room = 0
    while bench.exchange.outbox.put([Parked(filler.fileno(), 0.0)]):
        room += 1
    filler.close()
    clients = []
    for _ in range(3):
        client, server = bench.connect()
        bench.park(server)
        turn_until(board, lambda: bench.exchange.row.held()[0] == 1)
        client.send(b"GET")
        turn_until(board, lambda: bench.exchange.row.held()[0] == 0)
        clients.append(client.getsockname())
    assert bench.exchange.row.held() == (0, 3)
    found = bench.taken()
    assert len(found) == room
    turn_until(board, lambda: bench.exchange.row.held() == (0, 0))
    assert [found.getpeername() for found in bench.taken()] == clients


def test_when_it_is_full_workers_keep_theirs(bench: Bench) -> None:
    board = bench.board(descriptors=16)  # of which a quarter for them
    clients = []
    for number in range(4):
        assert bench.exchange.row.is_open()
        client, server = bench.connect()
        bench.park(server)
        turn_until(board, lambda number=number: bench.exchange.row.held()[0] == number + 1)
        clients.append(client)
    assert not bench.exchange.row.is_open()
    _, server = bench.connect()
    bench.park(server)  # by a worker that has not seen it yet
    turn_until(board, lambda: bool(bench.taken()))  # it goes on to a worker
    clients.pop().close()
    turn_until(board, bench.exchange.row.is_open)
    assert len(bench.troubles) == 1
    assert "4 connections" in bench.troubles[0]


def test_without_descriptors_what_is_lost_is_said(bench: Bench) -> None:
    board = bench.board()
    client, server = bench.connect()
    bench.park(server)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        turn_until(board, lambda: bool(bench.troubles))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "lost 1 connection" in bench.troubles[0]
    assert client.recv(10) == b""  # at least it is closed


def test_nonsense_in_the_inbox_harms_nobody(bench: Bench) -> None:
    board = bench.board()
    before = _open_fds()
    bench.exchange.inbox.entrance.send(b"a scribble")
    reader, writer = os.pipe()
    bench.exchange.inbox.put([Parked(writer, 0.0)])
    with open("/dev/null") as file:  # epoll refuses it
        bench.exchange.inbox.put([Parked(file.fileno(), 0.0)])
    client, server = bench.connect()
    bench.park(server)
    client.send(b"GET")
    found: list[Parked] = []

    def both_are_out() -> bool:
        with contextlib.suppress(BlockingIOError):
            found.extend(bench.exchange.outbox.take(1)[0])
        return len(found) == 2

    turn_until(board, both_are_out)
    for parked in found:
        os.close(parked.fd)
    os.close(reader)
    os.close(writer)
    assert not bench.troubles
    assert bench.exchange.row.held()[0] <= 1
    assert _open_fds() <= before + 2  # the client, and the pipe until it is found to be idle


def test_its_successor_gets_all_that_it_holds(bench: Bench) -> None:
    board = bench.board()
    pairs = [bench.connect() for _ in range(3 * MOST_IN_A_MESSAGE)]
    bench.park(*(server for _, server in pairs))
    turn_until(board, lambda: bench.exchange.row.held() == (len(pairs), 0))
    before = _open_fds()
    board.ask_for_successor(monotonic() + PATIENCE)
    assert not bench.exchange.row.is_open()
    late, server = bench.connect()
    bench.park(server)  # its worker had seen it open
    late.send(b"GET")
    turn_until(board, lambda: bool(bench.taken()))  # and it serves on
    assert not board.is_succeeded(monotonic())
    late.close()
    successor = bench.board()
    assert board.is_succeeded(monotonic())
    board.leave_to_successor(monotonic() + PATIENCE)
    assert _open_fds() == before + 2 - len(pairs)  # the test's own: late's, successor's epoll
    turn_until(successor, lambda: bench.exchange.row.held() == (len(pairs), 0))
    pairs[5][0].send(b"GET")
    turn_until(successor, lambda: bool(bench.taken()))


def test_at_the_end_the_workers_get_all_that_it_holds(bench: Bench) -> None:
    board = bench.board()
    clients = []
    for _ in range(5):
        client, server = bench.connect()
        bench.park(server)
        clients.append(client)
    turn_until(board, lambda: bench.exchange.row.held() == (5, 0))
    late, server = bench.connect()
    bench.park(server)  # its worker has not heard of the end yet
    board.hand_out(monotonic() + PATIENCE)
    assert not bench.exchange.row.is_open()
    assert bench.exchange.row.held() == (0, 0)
    names = {found.getpeername() for found in bench.taken()}
    assert names == {client.getsockname() for client in (*clients, late)}
    assert not bench.troubles


def test_at_the_end_it_does_not_wait_for_ever(bench: Bench) -> None:
    board = bench.board()
    _, filler = bench.connect()
    while bench.exchange.outbox.put([Parked(filler.fileno(), 0.0)]):
        pass
    filler.close()
    _, server = bench.connect()
    bench.park(server)
    board.hand_out(monotonic() + 0.2)
    assert bench.exchange.row.held() == (0, 1)


def _open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_another_masters_switchboard_gets_all_that_it_holds(bench: Bench) -> None:
    """The idle ones, those that a leaving worker has not taken, and those that still come."""
    board = bench.board()
    onward = Queue.make()
    bench.undo.callback(onward.close)
    (idle, one), (asks, two), (late, three) = [bench.connect() for _ in range(3)]
    asks.sendall(b"GET")
    bench.park(one, two)
    turn_until(board, lambda: board._exchange.row.held()[0] == 1 and bool(waiting_in(bench)))
    board.pass_on(bench.way_to(onward))
    bench.park(three)
    got: list[Parked] = []

    def passed() -> bool:
        with contextlib.suppress(BlockingIOError):
            got.extend(onward.take()[0])
        return len(got) == 3

    turn_until(board, passed)
    peers = set()
    for parked in got:
        with socket.socket(fileno=parked.fd) as server:
            assert parked.deadline > monotonic()
            peers.add(server.getpeername())
    assert peers == {client.getsockname() for client in (idle, asks, late)}
    assert bench.exchange.row.is_open()


def waiting_in(bench: Bench) -> list[tuple[int, int]]:
    """Whether something waits in the outbox."""
    poll = select.poll()
    poll.register(bench.exchange.outbox.exit.fileno(), select.POLLIN)
    return poll.poll(0)


def test_what_cannot_be_passed_on_is_closed(bench: Bench) -> None:
    board = bench.board()
    onward = Queue.make()
    client, server = bench.connect()
    bench.park(server)
    way = bench.way_to(onward)
    onward.close()
    board.pass_on(way)
    turn_until(board, lambda: select.select([client], [], [], 0)[0] != [])
    assert client.recv(1) == b""

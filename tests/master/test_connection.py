"""A control connection whose other end does what it should not, or nothing, for how long it may."""

from __future__ import annotations

import json
import os
import select
import selectors
import socket
from collections.abc import Iterator
from time import monotonic
from typing import Any

import pytest

from forkserve.control.peer import Peer
from forkserve.control.protocol import LONGEST_REQUEST, Request
from forkserve.master.connection import (
    FOREVER,
    IDLE,
    MOST_AT_ONCE,
    MOST_UNDER_WAY,
    MOST_UNSENT,
    STALL,
    Connection,
)

US = Peer(os.geteuid(), os.getpid())


class Line:
    """A connection and its two ends. What is asked is kept, and answered only by the test."""

    def __init__(self, peer: Peer | None = US) -> None:
        self.client, ours = socket.socketpair()
        ours.setblocking(False)
        self.client.settimeout(60)
        self.selector = selectors.DefaultSelector()
        self.asked: list[Request] = []
        self.connection = Connection(ours, peer, self.selector, self._hear)

    def _hear(self, connection: Connection, request: Request) -> None:
        self.asked.append(request)
        if request.do == "order":
            connection.under_way += 1
        if request.do == "follow":
            connection.follows.append(request.id)

    def say(self, *lines: bytes) -> None:
        self.client.sendall(b"".join(line + b"\n" for line in lines))

    def turn(self, now: float | None = None) -> None:
        """Once round the master's loop."""
        for key, _ in self.selector.select(0) if self.selector.get_map() else ():
            key.data()
        now = monotonic() if now is None else now
        if self.connection.due() <= now:
            self.connection.turn(now)

    def hear(self) -> list[dict[str, Any]]:
        """What has come at the client."""
        data = b""
        while select.select([self.client], [], [], 0)[0] and (more := self.client.recv(1 << 20)):
            data += more
        return [json.loads(line) for line in data.splitlines()]

    def close(self) -> None:
        self.connection.close()
        self.client.close()
        self.selector.close()


@pytest.fixture
def line() -> Iterator[Line]:
    line = Line()
    yield line
    line.close()


def test_who_wants_nothing_may_stay_for_a_while(line: Line) -> None:
    line.say(b'{"do": "status"}')
    line.turn()
    since = monotonic()
    assert since + IDLE - 60 < line.connection.due() <= since + IDLE
    line.turn(since + IDLE - 60)
    assert not line.connection.closed
    line.turn(since + IDLE)
    assert line.connection.closed
    assert line.client.recv(1) == b""


@pytest.mark.parametrize("waits_for", ["an order", "events"])
def test_who_waits_for_something_may_stay_for_ever(line: Line, waits_for: str) -> None:
    line.say(b'{"do": "order"}')
    line.turn()
    if waits_for == "events":
        line.connection.under_way = 0
        line.connection.follows.append(1)
    assert line.connection.due() == FOREVER


def test_so_may_our_own_children() -> None:
    line = Line(peer=None)
    assert line.connection.due() == FOREVER
    line.close()


def test_who_takes_nothing_of_what_waits_for_it_is_dropped_in_the_end(line: Line) -> None:
    line.connection.under_way = 1
    line.connection.send({"text": "x" * 500_000})  # the kernel does not take all of it
    since = monotonic()
    line.turn(since + STALL - 20)
    assert not line.connection.closed
    line.turn(since + STALL)
    assert line.connection.closed


def test_more_than_so_much_does_not_wait_for_anybody(line: Line) -> None:
    line.connection.follows.append(1)
    sent = 0
    while not line.connection.closed:
        line.connection.send({"text": "x" * 10_000})
        sent += 10_000
        assert sent < 4 * MOST_UNSENT
    assert line.connection.follows == []


def test_who_takes_it_bit_by_bit_gets_all(line: Line) -> None:
    line.connection.follows.append(1)
    for number in range(40):
        line.connection.send({"number": number, "text": "x" * 20_000})
    got: list[int] = []
    data = b""
    while len(got) < 40:
        data += line.client.recv(50_000)
        *whole, data = data.split(b"\n")
        got += [json.loads(one)["number"] for one in whole]
        line.turn()
    assert got == list(range(40))


def test_of_many_requests_a_few_at_a_time(line: Line) -> None:
    """Everything else in the loop has its turn between them."""
    line.say(*[b'{"do": "status"}'] * (MOST_AT_ONCE * 5))
    while (before := len(line.asked)) < MOST_AT_ONCE * 5:
        line.turn()
        assert len(line.asked) == before + MOST_AT_ONCE
        assert line.connection.due() <= monotonic()
    line.turn()
    assert line.connection.due() > monotonic()
    line.say(b'{"do": "status"}')
    line.turn()
    assert len(line.asked) == MOST_AT_ONCE * 5 + 1


@pytest.mark.parametrize("do", [b"order", b"follow"])
def test_so_many_may_be_under_way(line: Line, do: bytes) -> None:
    """Each that follows is told everything once more."""
    request = b'{"id": 7, "do": "%s"}' % do
    line.say(*[request] * (MOST_UNDER_WAY + 1))
    while len(line.asked) < MOST_UNDER_WAY:
        line.turn()
    line.turn()
    assert len(line.asked) == MOST_UNDER_WAY
    (refused,) = line.hear()
    assert (refused["id"], refused["ok"]) == (7, False)
    if do == b"order":
        line.connection.under_way -= 1
        line.say(request)
        line.turn()
        assert len(line.asked) == MOST_UNDER_WAY + 1


def test_empty_lines_take_no_turns(line: Line) -> None:
    """There may be a line in each byte."""
    line.say(b"\n \r" * 5_000 + b'{"do": "status"}' + b"\n" * 5_000)
    line.turn()
    assert len(line.asked) == 1
    assert line.connection.due() > monotonic()


def test_what_follows_a_line_that_is_too_long_is_not_heard(line: Line) -> None:
    line.client.settimeout(0)
    line.connection.under_way = 1  # not even what is under way is told any more
    sent = line.client.send(b"x" * LONGEST_REQUEST + b'\n{"do": "stop"}\n')
    assert sent > LONGEST_REQUEST
    line.turn()
    line.turn()
    assert line.asked == []
    (told,) = line.hear()
    assert "at most 65536 bytes" in told["error"]
    assert line.connection.closed


@pytest.mark.parametrize("cut", [False, True])
def test_who_has_said_all_still_hears_the_end_unless_it_has_gone(line: Line, cut: bool) -> None:
    line.say(b'{"do": "order"}')
    line.turn()
    line.client.close() if cut else line.client.shutdown(socket.SHUT_WR)
    line.turn()
    assert line.connection.closed is cut
    if not cut:
        line.connection.under_way = 0
        line.connection.send({"ok": True})
        assert line.hear() == [{"ok": True}]
        assert line.connection.closed

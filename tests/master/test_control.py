"""The master's side of the control socket, without a master: its door, and what it tells."""

from __future__ import annotations

import dataclasses
import enum
import json
import os
import select
import selectors
import signal
import socket
import typing
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Any

import pytest

from forkserve.control.peer import Peer
from forkserve.control.protocol import encode
from forkserve.master.connection import MOST_AT_ONCE as MOST_REQUESTS_AT_ONCE
from forkserve.master.control import MOST_AT_ONCE, MOST_CONNECTIONS, Access, Control, _fields
from forkserve.master.door import Door
from forkserve.master.logbook import log
from forkserve.supervisor import actions
from forkserve.supervisor.actions import Note


class Loop:
    """A loop with nothing but a control socket."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.selector = selectors.DefaultSelector()
        self.door = Door(self.path, None)
        self.control = Control(self.door, self.selector, NOBODY, self._status)
        self.control.open()
        self.answered = 0

    def _status(self) -> dict[str, Any]:
        self.answered += 1
        return {"pid": os.getpid()}

    def turn(self) -> None:
        for key, _ in self.selector.select(0):
            key.data()
        self.control.turn(0.0)

    def connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(60)
        sock.connect(self.path)
        return sock


NOBODY = typing.cast(Access, None)
"""To carry out what is asked: nothing is here."""

STATUS = b'{"id": 1, "do": "status"}\n'


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    loop = Loop(tmp_path / "c.sock")
    yield loop
    loop.control.close()
    loop.selector.close()


def answer(sock: socket.socket) -> dict[str, Any]:
    with sock, sock.makefile() as lines:
        said: dict[str, Any] = json.loads(lines.readline())
        return said


def test_who_has_knocked_before_the_door_is_shut_is_answered(loop: Loop) -> None:
    """As at an upgrade's handover."""
    sock = loop.connect()
    sock.sendall(STATUS)
    loop.control.give_up()
    assert not os.path.exists(loop.path)
    loop.turn()
    assert answer(sock)["status"] == {"pid": os.getpid()}


def test_it_can_be_opened_again(loop: Loop) -> None:
    loop.control.give_up()
    loop.control.open(at_once=True)
    sock = loop.connect()
    sock.sendall(STATUS)
    loop.turn()
    loop.turn()
    assert answer(sock)["ok"]


def test_one_that_ends_makes_room_for_another(loop: Loop) -> None:
    crowd = [loop.connect() for _ in range(MOST_CONNECTIONS)]
    loop.turn()
    late = loop.connect()
    loop.turn()
    assert answer(late)["error"].startswith(f"{MOST_CONNECTIONS} control connections are open")
    crowd.pop().close()
    loop.turn()
    another = loop.connect()
    another.sendall(STATUS)
    loop.turn()
    loop.turn()
    assert answer(another)["ok"]
    for sock in crowd:
        sock.close()


def test_a_stranger_cannot_fill_the_log(
    loop: Loop, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to be another user")
    monkeypatch.setattr(log, "propagate", False)
    log.addHandler(caplog.handler)
    try:
        for uid in (65534, 65534, 1):
            os.seteuid(uid)  # which the kernel keeps for who has made a socket (unix(7))
            stranger, ours = socket.socketpair()
            os.seteuid(0)
            loop.control._admit(ours, Peer.of(ours))
            assert "neither" in answer(stranger)["error"]
    finally:
        log.removeHandler(caplog.handler)
    named = [record.args[1] for record in caplog.records if isinstance(record.args, tuple)]
    assert named == [65534, 1]


def test_among_many_everybody_has_a_turn(loop: Loop) -> None:
    """... and the rest of the master's loop between them."""
    crowd = [loop.connect() for _ in range(MOST_AT_ONCE * 3)]
    loop.turn()
    for sock in crowd:
        sock.sendall(STATUS * 10)
    answered: list[int] = []
    while len(answered) < len(crowd):
        before = loop.answered
        loop.turn()
        assert loop.answered - before <= MOST_AT_ONCE * MOST_REQUESTS_AT_ONCE
        answered = select.select(crowd, [], [], 0)[0]
    assert loop.answered < len(crowd) * 10  # nobody had to wait until another had it all
    for sock in crowd:
        sock.close()


NOTES = [one for one in vars(actions).values() if isinstance(one, type) and issubclass(one, Note)]


@pytest.mark.parametrize("note", NOTES, ids=lambda note: note.__name__)
def test_each_note_can_be_told(note: type[Note]) -> None:
    """Whoever follows is told all of them."""
    told = json.loads(encode(_fields(made(note))))
    assert told.keys() == {field.name for field in dataclasses.fields(note)}


def made(kind: Any) -> Any:
    """Something of that type."""
    if isinstance(kind, UnionType):
        return made(next(one for one in typing.get_args(kind) if one is not NoneType))
    if issubclass(kind, enum.Enum):
        return next(iter(kind))
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return kind(**{field.name: made(hints[field.name]) for field in dataclasses.fields(kind)})
    return kind(signal.SIGKILL) if kind is int else kind()

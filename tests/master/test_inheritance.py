"""What an old master leaves is what a new one gets, and nobody else does."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator

import pytest

from forkserve.channel import Channel, TakeOver
from forkserve.config.bind import Bind
from forkserve.master.estate import Estate
from forkserve.master.inheritance import VARIABLE, Bequest, Inheritance
from forkserve.master.listeners import open_listeners
from forkserve.switchboard.queues import Queue


@pytest.fixture
def bequest() -> Iterator[Bequest]:
    """... and closes whatever of it is still open."""
    ours, theirs = Channel.pair()
    (listener,) = open_listeners([Bind("127.0.0.1", 0)])
    inbox = Queue.make()
    yield Bequest(theirs, [listener.socket], inbox)
    for end in (ours, theirs, listener.socket, inbox):
        end.close()


def _copied(text: str) -> str:
    """The same with copies of all descriptors, as another process would have them."""
    said = json.loads(text)
    copies = {name: [os.dup(fd) for fd in said[name]] for name in ("listeners", "inbox")}
    return json.dumps(said | copies | {"channel": os.dup(said["channel"])})


def test_what_is_left_is_what_is_got(bequest: Bequest) -> None:
    environment = {VARIABLE: _copied(bequest.text(os.getppid())), "OTHER": "x"}
    got = Inheritance.take(environment)
    assert environment == {"OTHER": "x"}
    assert got is not None
    assert got.inbox is not None
    with contextlib.closing(got.channel), contextlib.closing(got.inbox):
        assert got.master_pid == os.getppid()
        (listener,) = got.listeners
        assert listener.getsockname() == bequest.listeners[0].getsockname()
        assert not os.get_inheritable(listener.fileno())
        listener.close()
        bequest.channel.offer(TakeOver())  # nobody listens, and nothing happens


@pytest.mark.parametrize(
    "change",
    [
        {"master": os.getpid()},
        {"form": 2},
        {"listeners": [0]},
        {"channel": "3"},
        {"inbox": None},
        {"channel": 9999},
    ],
    ids=str,
)
def test_what_is_somebody_elses_does_nothing(bequest: Bequest, change: dict[str, object]) -> None:
    with open("/dev/null") as null:
        if change == {"listeners": [0]}:
            change = {"listeners": [null.fileno()]}
        said = json.loads(bequest.text(os.getppid())) | {"inbox": []} | change
        environment = {VARIABLE: json.dumps(said)}
        open_before = set(os.listdir("/proc/self/fd"))
        assert Inheritance.take(environment) is None
        assert set(os.listdir("/proc/self/fd")) == open_before
    assert environment == {}


@pytest.mark.parametrize("text", ["", "[]", "{", "7", '{"form": 1}'])
def test_nonsense_does_nothing(text: str) -> None:
    environment = {VARIABLE: text}
    assert Inheritance.take(environment) is None
    assert environment == {}


def test_listeners_go_to_whoever_wants_their_address() -> None:
    """What fits is taken over, what is new is opened, what is not wanted is closed."""
    one, two = open_listeners([Bind("127.0.0.1", 0), Bind("127.0.0.1", 0)])
    port = one.socket.getsockname()[1]
    wanted = [Bind("127.0.0.1", 0), Bind("127.0.0.1", port)]
    again = open_listeners(wanted[1:], inherited=[two.socket.dup(), one.socket.dup()])
    assert [ln.url for ln in again] == [one.url]
    new = open_listeners([Bind("127.0.0.2", port)], inherited=[spare := one.socket.dup()])
    assert spare.fileno() == -1
    for listener in (one, two, *again, *new):
        listener.socket.close()


def test_only_what_listens_is_taken_over() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        assert Estate([silent]).claim(socket.AF_INET, silent.getsockname()) is None

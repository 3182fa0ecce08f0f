"""What an old master leaves is what a new one gets, and nobody else does."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from forkserve.channel import Channel, TakeOver
from forkserve.config.bind import AnyBind, Bind, BindError, InheritedBind, UnixBind
from forkserve.config.settings import Settings
from forkserve.master.estate import Estate, Left
from forkserve.master.inheritance import VARIABLE, Bequest, Inheritance
from forkserve.master.listeners import Listener, listen, open_listeners
from forkserve.switchboard.queues import Queue


@pytest.fixture
def bequest() -> Iterator[Bequest]:
    """... and closes whatever of it is still open."""
    ours, theirs = Channel.pair()
    (listener,) = open_listeners([Bind("127.0.0.1", 0)])
    inbox = Queue.make()
    yield Bequest(theirs, [listener.as_left()], inbox)
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
        ((listener, called, _),) = got.listeners
        assert called == "127.0.0.1:0"
        assert listener.getsockname() == bequest.listeners[0][0].getsockname()
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
    ids=["another master", "another form", "no socket", "no number", "no inbox", "closed"],
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


def left(*listeners: Listener) -> Estate:
    return Estate([ln.as_left()._replace(socket=ln.socket.dup()) for ln in listeners])


def test_listeners_go_to_whoever_wants_their_address(tmp_path: Path) -> None:
    """What fits is taken over, what is new is opened, what is not wanted is closed."""
    path = tmp_path / "socket"
    one, two, three = open_listeners(
        [Bind("127.0.0.1", 0), Bind("127.0.0.1", 0), UnixBind(str(path))]
    )
    wanted = [UnixBind(str(path)), Bind("127.0.0.1", 0), Bind("127.0.0.2", 0)]
    estate = left(one, two, three)
    again = open_listeners(wanted, estate=estate)
    assert [ln.url for ln in again[:2]] == [three.url, one.url]
    assert again[2].url not in (one.url, two.url)
    assert not estate.names() or estate.claim("127.0.0.1:0").socket.fileno() == -1  # type: ignore[union-attr]

    # Until it is ours, the file is the predecessor's to remove, and its clients are let in.
    for listener in again:
        listener.close()
    assert path.exists()
    socket.create_connection(one.socket.getsockname(), timeout=10).close()

    (mine,) = open_listeners(wanted[:1], estate=left(three))
    three.give_away()
    three.close()
    assert path.exists()
    mine.receive()
    mine.close()
    assert not path.exists()
    for listener in (one, two):
        listener.close()


def test_what_a_service_manager_passed_goes_on_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LISTEN_FDS", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as passed:
        inherited = [Left(passed.dup(), "fd://web")]
        (listener,) = listen(Settings("app:app"), inherited)
        assert listener.socket.getsockname() == passed.getsockname()
        assert listener.bind == "fd://web"
        listener.close()


@pytest.mark.parametrize("bind", [(), (InheritedBind("web"),)], ids=["by default", "by name"])
def test_all_that_one_name_stands_for_goes_on(
    monkeypatch: pytest.MonkeyPatch, bind: tuple[AnyBind, ...]
) -> None:
    monkeypatch.delenv("LISTEN_FDS", raising=False)
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as other,
    ):
        inherited = [Left(passed.dup(), "fd://web") for passed in (one, other)]
        listeners = listen(Settings("app:app", bind=bind), inherited)
        found = [listener.socket.getsockname() for listener in listeners]
        assert found == [one.getsockname(), other.getsockname()]
        for listener in listeners:
            listener.close()


def test_a_socket_whose_file_was_removed_is_made_anew(tmp_path: Path) -> None:
    bind = UnixBind(str(tmp_path / "socket"))
    (old,) = open_listeners([bind])
    os.unlink(bind.path)
    (new,) = open_listeners([bind], estate=left(old))
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(bind.path)
        new.socket.accept()[0].close()
    old.close()
    assert os.path.exists(bind.path)
    new.close()
    assert not os.path.exists(bind.path)


def test_what_somebody_else_has_put_at_the_path_is_left_to_him(tmp_path: Path) -> None:
    bind = UnixBind(str(tmp_path / "socket"))
    (old,) = open_listeners([bind])
    os.unlink(bind.path)
    (another,) = open_listeners([bind])
    with pytest.raises(BindError, match="is already in use"):
        open_listeners([bind], estate=left(old))
    old.close()
    assert os.path.exists(bind.path)
    another.close()


def test_only_what_listens_is_taken_over() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        assert Estate([Left(silent, "127.0.0.1:0")]).claim("127.0.0.1:0") is None

"""Sockets that were passed in. Here by this very process, to itself."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

import pytest

from forkserve.config.bind import BindError, InheritedBind, parse_bind
from forkserve.config.settings import Settings
from forkserve.last_call import turn_away
from forkserve.master import passed
from forkserve.master.listeners import Listener, listen, open_listeners
from forkserve.master.passed import Passed, borrow

ME = 4711


@pytest.fixture
def held() -> Iterator[socket.socket]:
    """A listening socket as systemd makes it: proto 0, it blocks, and it is kept open."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield sock


def passed_on(sock: socket.socket) -> int:
    """A copy of its descriptor, as an exec would leave it."""
    fd = os.dup(sock.fileno())
    os.set_inheritable(fd, True)
    return fd


@contextlib.contextmanager
def borrowed(sock: socket.socket) -> Iterator[Listener]:
    (listener,) = open_listeners([InheritedBind(str(passed_on(sock)))])
    try:
        yield listener
    finally:
        listener.close()


def refusal(fd: int) -> str:
    with pytest.raises(BindError) as caught:
        borrow(fd, InheritedBind(str(fd)))
    message = str(caught.value)
    assert message.startswith(f"fd://{fd}: descriptor {fd} ")
    assert "\n" not in message
    return message


def test_it_becomes_as_workers_need_it(held: socket.socket) -> None:
    fd = passed_on(held)
    sock = borrow(fd, InheritedBind(str(fd)))
    with sock:
        assert sock.fileno() == fd
        assert sock.proto == socket.IPPROTO_TCP
        assert not sock.getblocking()
        assert not sock.get_inheritable()
        with socket.create_connection(held.getsockname()):
            connection, _ = sock.accept()
            with connection:
                assert connection.proto == socket.IPPROTO_TCP


def test_what_it_is_called(held: socket.socket, tmp_path: os.PathLike[str]) -> None:
    with borrowed(held) as listener:
        port = held.getsockname()[1]
        assert listener.url == f"http://127.0.0.1:{port} (fd {listener.socket.fileno()})"
    for name, shown in ((f"{tmp_path}/s", f"unix:{tmp_path}/s"), ("\0fks-p", "unix:@fks-p")):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(name)
            sock.listen()
            with borrowed(sock) as listener:
                assert listener.url == f"{shown} (fd {listener.socket.fileno()})"


def test_who_holds_it_too_can_serve_on(held: socket.socket) -> None:
    with borrowed(held) as listener:
        assert not turn_away(listener.socket)
    with socket.create_connection(held.getsockname(), timeout=5):
        held.settimeout(5)
        held.accept()[0].close()


def test_what_cannot_be_listened_on_is_refused_and_left_open(tmp_path: os.PathLike[str]) -> None:
    with socket.socket() as sock:
        assert "does not listen; with systemd write Accept=no" in refusal(sock.fileno())
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        assert "with systemd write ListenStream=" in refusal(sock.fileno())
        sock.getsockname()
    with open(os.path.join(tmp_path, "file"), "w") as file:
        assert "is no socket" in refusal(file.fileno())
        file.flush()
    fd = os.dup(0)
    os.close(fd)
    assert "is no socket" in refusal(fd)


def test_a_descriptor_given_twice(held: socket.socket) -> None:
    bind = InheritedBind(str(passed_on(held)))
    with pytest.raises(BindError, match=r"is given twice \(fd \d+\)"):
        open_listeners([bind, bind])


# -- the environment ----------------------------------------------------------------------


def environment(count: str, names: str = "", pid: int = ME) -> dict[str, str]:
    environ = {"LISTEN_FDS": count, "LISTEN_PID": str(pid), "PATH": "/bin"}
    return environ | ({"LISTEN_FDNAMES": names} if names else {})


def test_it_is_read_and_removed() -> None:
    environ = environment("3", "web:admin:web")
    found = Passed.take(environ, ME)
    assert environ == {"PATH": "/bin"}
    assert [str(bind) for bind in found.binds()] == ["fd://3", "fd://4", "fd://5"]
    assert found.descriptors(InheritedBind("web")) == [3, 5]
    assert found.descriptors(InheritedBind("4")) == [4]
    assert (found.shown(4), found.shown(9)) == ("fd 4, admin", "fd 9")


def test_names_may_be_missing() -> None:
    found = Passed.take(environment("2", "web"), ME)
    assert [found.shown(fd) for fd in (3, 4)] == ["fd 3, web", "fd 4"]
    assert len(Passed.take(environment("2"), ME).binds()) == 2


def test_none_were_passed() -> None:
    assert Passed.take({"PATH": "/bin"}, ME).binds() == ()
    assert Passed.take(environment("0"), ME).binds() == ()


def test_those_for_somebody_else_are_not_ours_and_that_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    environ = environment("1", "web", pid=1)
    assert Passed.take(environ, ME).binds() == ()
    assert environ == {"PATH": "/bin"}
    assert "were passed to pid 1, and this is pid 4711: they are not used" in caplog.text


@pytest.mark.parametrize("count", ["x", "-1", "٣", "99999"])
def test_nonsense_is_refused(count: str) -> None:
    with pytest.raises(BindError, match="and no number of sockets"):
        Passed.take(environment(count), ME)


def test_a_name_that_nobody_has() -> None:
    found = Passed.take(environment("3", "web:admin:web"), ME)
    with pytest.raises(BindError, match="fd://api is no socket's name; passed in were: admin, web"):
        found.descriptors(InheritedBind("api"))
    with pytest.raises(BindError, match="no socket with a name was passed"):
        Passed().descriptors(InheritedBind("api"))


# -- what is used -------------------------------------------------------------------------


@pytest.fixture
def two(held: socket.socket, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The first of two sockets, web and admin, that were passed to this process."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        # A place for both in a row, far from what is open already.
        first = max(int(fd) for fd in os.listdir("/dev/fd")) + 10
        os.dup2(held.fileno(), first)
        os.dup2(other.fileno(), first + 1)
        monkeypatch.setattr(passed, "FIRST", first)
        for name, value in environment("2", "web:admin", os.getpid()).items():
            monkeypatch.setenv(name, value)
        yield first
    for fd in (first, first + 1):
        with contextlib.suppress(OSError):
            os.close(fd)


def test_without_bind_all_that_were_passed_are_used(two: int) -> None:
    found = listen(Settings("app:app"))
    assert [listener.socket.fileno() for listener in found] == [two, two + 1]
    assert "LISTEN_FDS" not in os.environ
    for listener in found:
        listener.close()


def test_one_is_chosen_by_its_name_and_the_rest_closed_and_that_is_said(
    two: int, caplog: pytest.LogCaptureFixture
) -> None:
    (listener,) = listen(Settings("app:app", bind=(parse_bind("fd://admin"),)))
    with contextlib.closing(listener):
        assert listener.socket.fileno() == two + 1
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(two)
    (line,) = caplog.messages
    assert f"fd {two}, web, passed by the service manager; leave --bind out" in line


def test_bind_says_where_to_listen(two: int, caplog: pytest.LogCaptureFixture) -> None:
    (listener,) = listen(Settings("app:app", bind=(parse_bind("127.0.0.1:0"),)))
    with contextlib.closing(listener):
        assert listener.socket.fileno() not in (two, two + 1)
    assert f"fd {two}, web and fd {two + 1}, admin, passed by" in caplog.text

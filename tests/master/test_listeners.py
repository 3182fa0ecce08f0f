from __future__ import annotations

import contextlib
import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from forkserve.config.bind import Bind, BindError, UnixBind
from forkserve.config.settings import Settings
from forkserve.last_call import turn_away
from forkserve.master import holders, tcp_sockets
from forkserve.master.listeners import Listener, Terms, listen, open_listeners

LOCAL = "127.0.0.1"
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="the holder is read from /proc")


def has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as sock:
        sock.bind(("::1", 0))
        return True
    return False


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no ::1 here")


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may take its time to find a holder."""
    monkeypatch.setattr(holders, "LONGEST_SEARCH", 60.0)


@contextlib.contextmanager
def opened(*binds: Bind) -> Iterator[list[Listener]]:
    found = open_listeners(binds)
    try:
        yield found
    finally:
        for listener in found:
            listener.socket.close()


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that this process listens on."""
    with socket.create_server((LOCAL, 0)) as sock:
        yield sock.getsockname()[1]


@pytest.fixture
def server() -> Iterator[tuple[int, int]]:
    """Pid and port of another process that listens on every IPv4 interface."""
    code = (
        "import socket, sys; s = socket.create_server(('0.0.0.0', 0));"
        "print(s.getsockname()[1], flush=True); sys.stdin.read()"
    )
    argv = [sys.executable, "-c", code, "--password=hunter2"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield process.pid, int(process.stdout.readline())


def free_port() -> int:
    with socket.create_server((LOCAL, 0)) as sock:
        return int(sock.getsockname()[1])


def open_descriptors() -> int:
    return len(os.listdir("/dev/fd"))


def refusal(*binds: Bind) -> str:
    before = open_descriptors()
    with pytest.raises(BindError) as caught:
        open_listeners(binds)
    assert open_descriptors() == before
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_port_0_becomes_the_real_port_and_accepts() -> None:
    with opened(Bind(LOCAL, 0)) as [listener]:
        port = listener.socket.getsockname()[1]
        assert port
        assert listener.url == f"http://127.0.0.1:{port}"
        socket.create_connection((LOCAL, port), timeout=5).close()


def test_the_socket_is_as_workers_need_it() -> None:
    with opened(Bind(LOCAL, 0)) as [listener]:
        assert listener.socket.proto == socket.IPPROTO_TCP
        assert not listener.socket.getblocking()
        assert not listener.socket.get_inheritable()
        assert listener.socket.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)


def test_two_binds_keep_their_order() -> None:
    first, second = Bind(LOCAL, free_port()), Bind("localhost", 0)
    with opened(first, second) as found:
        assert found[0].url == f"http://{first}"
        assert found[1].url.startswith("http://localhost:")


def test_a_name_that_is_both_is_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    both = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", (LOCAL, 0)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: both)
    with opened(Bind("localhost", 0)) as [listener]:
        assert listener.socket.family == socket.AF_INET


@needs_ipv6
def test_ipv6_url_has_brackets() -> None:
    with opened(Bind("::1", 0)) as [listener]:
        assert listener.url == f"http://[::1]:{listener.socket.getsockname()[1]}"


@needs_ipv6
def test_ipv6_alone_is_left_to_the_systems_default() -> None:
    with opened(Bind("::", 0)) as [listener]:
        only = listener.socket.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    with socket.socket(socket.AF_INET6) as plain:
        assert only == plain.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)


@needs_ipv6
@pytest.mark.parametrize("hosts", [("0.0.0.0", "::"), ("::", "0.0.0.0")])
def test_ipv4_and_ipv6_share_a_port(hosts: tuple[str, str]) -> None:
    port = free_port()
    with opened(*(Bind(host, port) for host in hosts)):
        socket.create_connection((LOCAL, port), timeout=5).close()
        socket.create_connection(("::1", port), timeout=5).close()


@linux_only
def test_names_the_other_process_without_its_arguments(server: tuple[int, int]) -> None:
    pid, port = server
    with open(f"/proc/{pid}/comm") as comm:
        name = comm.read().strip()
    message = refusal(Bind(LOCAL, port))
    assert message == (
        f"127.0.0.1:{port} is already in use by pid {pid} ({name}); "
        "stop it or choose another address with --bind"
    )


@linux_only
@needs_ipv6
def test_names_the_holder_of_an_ipv6_address() -> None:
    with opened(Bind("::1", 0)) as [listener]:
        port = listener.socket.getsockname()[1]
        assert f"[::1]:{port} is already in use by pid {os.getpid()} " in refusal(Bind("::1", port))


@linux_only
def test_names_this_process(taken: int) -> None:
    message = refusal(Bind(LOCAL, taken))
    assert f"127.0.0.1:{taken} is already in use by pid {os.getpid()} " in message
    assert "this process itself" in message


@linux_only
def test_the_same_address_twice() -> None:
    bind = Bind(LOCAL, free_port())
    assert "give each address only once" in refusal(bind, bind)


def test_in_use_by_one_that_cannot_be_seen(taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holders, "_listdir", lambda path: [])
    assert f"127.0.0.1:{taken} is already in use by another process;" in refusal(Bind(LOCAL, taken))


@linux_only
def test_a_listener_elsewhere_on_the_port_is_not_blamed(taken: int) -> None:
    with opened(Bind("127.0.0.2", taken)):
        pass
    found = holders._conflicting_inodes(ip_address("127.0.0.2"), taken)
    assert not list(found)


def test_a_failure_leaves_nothing_open(taken: int) -> None:
    first = Bind(LOCAL, free_port())
    refusal(first, Bind(LOCAL, taken))
    with opened(first):
        pass


def test_no_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    # Tests may run as root, for whom every port is allowed.
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(tcp_sockets, "_listen", refuse)
    message = refusal(Bind(LOCAL, 80))
    assert message.startswith("127.0.0.1:80 may not be listened on by this user; ")


def test_not_an_address_of_this_machine() -> None:
    message = refusal(Bind("192.0.2.1", 8000))
    assert "192.0.2.1 is not an address of this machine" in message
    assert ":8000 for every interface" in message


def test_a_name_that_does_not_resolve() -> None:
    assert "nowhere.invalid cannot be resolved" in refusal(Bind("nowhere.invalid", 8000))


def test_a_name_that_is_none() -> None:
    assert "is not a host name" in refusal(Bind("a" * 64 + ".example", 8000))


def test_who_is_turned_away_does_not_get_into_the_queue_and_who_is_in_it_stays() -> None:
    (listener,) = open_listeners([Bind("127.0.0.1", 0)])
    address = listener.socket.getsockname()
    with listener.socket, socket.create_connection(address) as early:
        turn_away(listener.socket)
        with pytest.raises(TimeoutError):
            socket.create_connection(address, timeout=0.3)
        served, _ = listener.socket.accept()
        with served:
            served.sendall(b"hello")
            assert early.recv(5) == b"hello"
        with pytest.raises(BlockingIOError):
            listener.socket.accept()


# -- what else there is to say ------------------------------------------------------------


def test_with_reuse_port_others_may_listen_too() -> None:
    (first,) = open_listeners([Bind(LOCAL, 0)], Terms(reuse_port=True))
    bind = Bind(LOCAL, first.socket.getsockname()[1])
    with contextlib.closing(first):
        with pytest.raises(BindError, match="is already in use by"):
            open_listeners([bind])
        (second,) = open_listeners([bind], Terms(reuse_port=True))
        second.close()


def test_one_that_does_not_share_its_port(taken: int) -> None:
    with pytest.raises(BindError, match="to share it, that has to say --reuse-port too"):
        open_listeners([Bind(LOCAL, taken)], Terms(reuse_port=True))


def test_several_kinds_at_once_and_all_closed_if_one_fails(tmp_path: Path, taken: int) -> None:
    path = tmp_path / "app.sock"
    found = open_listeners([Bind(LOCAL, 0), UnixBind(str(path)), Bind("localhost", 0)])
    assert [ln.url.partition(":")[0] for ln in found] == ["http", "unix", "http"]
    for listener in found:
        listener.close()
    before = open_descriptors()
    with pytest.raises(BindError):
        open_listeners([UnixBind(str(path)), Bind(LOCAL, taken)])
    assert open_descriptors() == before
    assert not path.exists()


@linux_only
def test_a_backlog_that_the_system_caps_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with open("/proc/sys/net/core/somaxconn") as file:
        cap = int(file.read())
    for backlog, lines in ((cap, 0), (cap + 1, 1)):
        (listener,) = listen(Settings("app:app", bind=(Bind(LOCAL, 0),), backlog=backlog))
        listener.close()
        assert len(caplog.messages) == lines
    assert caplog.messages[0].startswith(
        f"up to {cap} connections may wait to be accepted, for each address, and not {cap + 1} as "
    )


@linux_only
def test_the_backlog_is_what_was_asked_for() -> None:
    (listener,) = open_listeners([Bind(LOCAL, 0)], Terms(backlog=3))
    with contextlib.closing(listener), contextlib.ExitStack() as clients:
        address = listener.socket.getsockname()
        for _ in range(4):  # one more than it says: listen(2) compares with ">"
            clients.enter_context(socket.create_connection(address, timeout=5))
        with pytest.raises(TimeoutError):
            socket.create_connection(address, timeout=0.3)

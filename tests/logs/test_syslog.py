"""The syslog handler, with a real socket for the daemon."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from forkserve.logs.lines import TextFormatter, text_lines
from forkserve.logs.syslog import Syslog, parse_syslog_address


class Complaints(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(record.getMessage())


@pytest.fixture
def listen(tmp_path: Path) -> Iterator[Callable[[], socket.socket]]:
    """Begins to be the daemon, in place of the one before."""
    with contextlib.ExitStack() as stack:

        def begin() -> socket.socket:
            path = tmp_path / "log"
            path.unlink(missing_ok=True)
            daemon = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            stack.callback(daemon.close)
            daemon.bind(str(path))
            daemon.setblocking(False)
            return daemon

        yield begin


@pytest.fixture
def handler(tmp_path: Path) -> Iterator[Syslog]:
    address = parse_syslog_address(f"unix://{tmp_path}/log")
    lines = text_lines(TextFormatter(stamp=""))
    made = Syslog(address, "local3", "me", lines, Complaints())
    yield made
    made.close()


def say(handler: Syslog, text: str, level: int = logging.INFO) -> None:
    handler.handle(logging.LogRecord("x", level, "", 0, text, None, None))


def all_of(daemon: socket.socket) -> list[str]:
    heard = []
    with contextlib.suppress(BlockingIOError):
        while True:
            heard.append(daemon.recv(65536).decode())
    return heard


def test_a_record_is_a_datagram(listen: Callable[[], socket.socket], handler: Syslog) -> None:
    daemon, pid = listen(), os.getpid()
    say(handler, "a")
    say(handler, "b", logging.ERROR)
    say(handler, "c", 5)
    # 19 is local3; 6, 3 and 7 are info, error and debug (RFC 3164).
    numbers = [19 * 8 + severity for severity in (6, 3, 7)]
    expected = zip(numbers, "abc", strict=True)
    assert all_of(daemon) == [f"<{n}>me[{pid}]: {text}" for n, text in expected]


def test_a_missing_daemon_is_said_once_and_found_when_it_comes(
    listen: Callable[[], socket.socket], handler: Syslog, capfd: pytest.CaptureFixture[str]
) -> None:
    complaints = handler._complain_to
    assert isinstance(complaints, Complaints)
    say(handler, "a")
    say(handler, "b")
    assert len(complaints.heard) == 1
    assert "(No such file or directory)" in complaints.heard[0]
    first = listen()
    say(handler, "c")
    lost, said = all_of(first)
    assert lost.endswith("(2 log lines before this could not be written)")
    assert said.endswith(": c")
    first.close()
    second = listen()  # the daemon was started anew, on a socket of its own
    say(handler, "d")
    assert [text[-3:] for text in all_of(second)] == [": d"]
    assert capfd.readouterr() == ("", "")


def test_one_that_does_not_keep_up_is_not_waited_for(
    listen: Callable[[], socket.socket], handler: Syslog
) -> None:
    daemon = listen()
    while not handler.lost:
        say(handler, "x" * 999)
    say(handler, "lost too")
    all_of(daemon)
    say(handler, "again")
    assert [text.partition(": ")[2] for text in all_of(daemon)] == [
        "(2 log lines before this could not be written)",
        "again",
    ]


def test_over_udp(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as daemon:
        daemon.bind(("127.0.0.1", 0))
        daemon.settimeout(60)
        address = parse_syslog_address(f"udp://localhost:{daemon.getsockname()[1]}")
        if socket.getaddrinfo("localhost", 1, type=socket.SOCK_DGRAM)[0][0] != socket.AF_INET:
            address = parse_syslog_address(f"udp://127.0.0.1:{daemon.getsockname()[1]}")
        handler = Syslog(address, "user", "me", text_lines(TextFormatter(stamp="")))
        say(handler, "a")
        assert daemon.recv(65536).endswith(b": a")
        handler.close()


def test_a_name_that_is_not_known_harms_nobody() -> None:
    address = parse_syslog_address("udp://no-such-host.invalid")
    handler = Syslog(address, "user", "me", text_lines(TextFormatter()))
    say(handler, "a")
    assert handler.lost == 1
    handler.close()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("unix:///dev/log", "unix:///dev/log"),
        ("unix:///dev/log#dgram", "unix:///dev/log"),
        ("udp://localhost", "udp://localhost:514"),
        ("udp://[::1]:5140", "udp://[::1]:5140"),
        ("udp://[::1]", "udp://[::1]:514"),
    ],
)
def test_addresses(text: str, shown: str) -> None:
    assert str(parse_syslog_address(text)) == shown


@pytest.mark.parametrize(
    "text",
    ["/dev/log", "unix://log", "udp://", "udp://h:x", "udp://h:0", "tcp://h:1", "unix:///x#stream"],
)
def test_what_is_no_address_for_datagrams_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r'write for example "unix:///dev/log"'):
        parse_syslog_address(text)

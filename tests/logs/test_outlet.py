"""An outlet writes whole lines, never waits, and counts what it could not write."""

from __future__ import annotations

import contextlib
import logging
import os
import pty
import select
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from forkserve.logs.files import open_log
from forkserve.logs.lines import TextFormatter, json_lines, text_lines
from forkserve.logs.outlet import Outlet, that_never_waits

LINES = text_lines(TextFormatter(stamp=""))


def say(outlet: Outlet, text: str) -> None:
    outlet.handle(logging.LogRecord("x", logging.INFO, "", 0, text, None, None))


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for fd in (reader, writer):
        with contextlib.suppress(OSError):
            os.close(fd)


@pytest.fixture(params=["asking", "never waiting"])
def outlet(request: pytest.FixtureRequest, pipe: tuple[int, int]) -> Iterator[Outlet]:
    """On the pipe as it is, or on one that is opened once more, as the master does."""
    _, writer = pipe
    if request.param == "asking":
        yield Outlet(writer, LINES)
        return
    own = that_never_waits(writer)
    if own == writer:
        pytest.skip("needs /proc")
    yield Outlet(own, LINES)
    os.close(own)


def all_of(reader: int) -> str:
    os.set_blocking(reader, False)
    data = b""
    with contextlib.suppress(BlockingIOError):
        while piece := os.read(reader, 1 << 20):
            data += piece
    return data.decode()


def test_what_a_full_pipe_does_not_take_is_counted(outlet: Outlet, pipe: tuple[int, int]) -> None:
    written = 0
    while not outlet.lost:
        say(outlet, "x" * 99)
        written += 1
    for _ in range(7):
        say(outlet, "x" * 99)
    lines = all_of(pipe[0]).splitlines()
    assert len(lines) == written - 1
    assert set(lines) == {"x" * 99}
    say(outlet, "here again")
    say(outlet, "and on")
    said = all_of(pipe[0]).splitlines()
    assert said == ["(8 log lines before this could not be written)", "here again", "and on"]


def test_a_line_that_was_begun_is_ended_before_the_next(
    outlet: Outlet, pipe: tuple[int, int]
) -> None:
    long = "\n".join(f"{number:07d}" for number in range(50_000))  # no pipe takes so much
    say(outlet, long)
    say(outlet, "lost")
    seen = ""
    while "after" not in seen:
        seen += all_of(pipe[0])
        say(outlet, "after")
    assert seen.startswith(long + "\n(")
    assert seen.endswith(" could not be written)\nafter\n")


def test_the_users_own_open_file_is_left_as_it_is(pipe: tuple[int, int]) -> None:
    own = that_never_waits(pipe[1])
    assert os.get_blocking(pipe[1])
    os.close(own)


def test_a_reader_that_has_gone_is_no_fault(
    outlet: Outlet, pipe: tuple[int, int], capfd: pytest.CaptureFixture[str]
) -> None:
    os.close(pipe[0])
    say(outlet, "x")
    assert outlet.lost == 1
    assert capfd.readouterr() == ("", "")


def test_nor_is_a_closed_descriptor_or_a_full_disk() -> None:
    closed = Outlet(987, LINES)
    say(closed, "x")
    assert closed.lost == 1
    fd = open_log("/dev/full")
    full = Outlet(fd, LINES)
    say(full, "x")
    assert full.lost == 1
    os.close(fd)


def test_a_terminal_that_is_held_up_is_not_waited_for() -> None:
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    for fd in (theirs, that_never_waits(theirs)):
        outlet = Outlet(fd, LINES)
        while not outlet.lost:
            say(outlet, "x" * 999)
    assert select.select([ours], [], [], 0)[0]
    os.close(ours)
    os.close(theirs)
    os.close(fd)


def test_two_writers_share_a_file(tmp_path: Path) -> None:
    fds = [open_log(str(tmp_path / "log")) for _ in range(2)]
    one, other = (Outlet(fd, LINES) for fd in fds)
    say(one, "a" * 9999)
    say(other, "b" * 9999)
    say(one, "c")
    assert (tmp_path / "log").read_text().split() == ["a" * 9999, "b" * 9999, "c"]
    for fd in fds:
        os.close(fd)


def test_a_call_that_does_not_fit_its_format_is_not_lost_in_silence(
    pipe: tuple[int, int], capsys: pytest.CaptureFixture[str]
) -> None:
    outlet = Outlet(pipe[1], LINES)
    outlet.handle(logging.LogRecord("x", logging.INFO, "", 0, "%d", ("no number",), None))
    assert "no number" in capsys.readouterr().err


def test_in_json_the_count_is_an_object_too(pipe: tuple[int, int]) -> None:
    outlet = Outlet(pipe[1], json_lines())
    outlet.lost = 3
    say(outlet, "x")
    first, second = all_of(pipe[0]).splitlines()
    assert '"lost": 3' in first
    assert '"message": "x"' in second

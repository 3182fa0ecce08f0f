"""What the master holds of its children."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from forkserve.channel import Channel
from forkserve.master.children import nameless_file
from forkserve.master.family import WorkerChild
from forkserve.scoreboard import SINCE, Scoreboard


def test_the_connections_of_a_worker_that_is_gone_count_no_more() -> None:
    board = Scoreboard(2)
    ours, theirs = Channel.pair()
    gone = WorkerChild(1, 1, None, ours, os.dup(0), board.row(0))
    board.row(0).hold(0)
    board.row(1).hold(7)
    assert board.row(1).fewest_held() == 0
    with contextlib.closing(theirs):
        gone.close()
    assert board.row(1).fewest_held() == 7


@pytest.fixture
def shower() -> Iterator[tuple[WorkerChild, subprocess.Popen[str]]]:
    """A process that writes its stack for each line it reads, to a worker's last words."""
    board = Scoreboard(1)
    ours, theirs = Channel.pair()
    last_words = nameless_file()
    code = (
        "import faulthandler, sys\n"
        "def shows(): faulthandler.dump_traceback(int(sys.argv[1]))\n"
        "for _ in sys.stdin:\n"
        "    shows()\n"
        "    print(flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(last_words)],
        pass_fds=[last_words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        child = WorkerChild(1, 1, process.pid, ours, last_words, board.row(0))
        with contextlib.closing(theirs), contextlib.closing(child):
            yield child, process
        process.kill()


def show(process: subprocess.Popen[str]) -> None:
    assert process.stdin
    assert process.stdout
    process.stdin.write("\n")
    process.stdin.flush()
    process.stdout.readline()


def test_each_stack_is_the_one_that_was_asked_for(
    shower: tuple[WorkerChild, subprocess.Popen[str]],
) -> None:
    """The file, with its place to write at, is the worker's too."""
    child, process = shower
    for _ in range(3):
        child.expect_stack()
        assert child.take_stack() == ""
        show(process)
        assert "\0" not in (stack := child.take_stack())  # it is written where it begins
        assert stack.count("in shows") == 1
        assert child.stack() == ""  # it lives, so these were no last words
    show(process)  # too late for whoever had asked
    child.expect_stack()
    show(process)
    assert child.stack().count("in shows") == 1


def test_what_a_dying_worker_says_is_left_for_its_end() -> None:
    board = Scoreboard(1)
    ours, theirs = Channel.pair()
    child = WorkerChild(1, 1, None, ours, nameless_file(), board.row(0))
    with contextlib.closing(theirs), contextlib.closing(child):
        os.write(child.last_words, b"Fatal Python error: Aborted\n")
        child.expect_stack()
        assert child.take_stack() == ""
        assert child.stack() == "Fatal Python error: Aborted"


def test_what_a_worker_was_doing_when_it_was_asked_is_kept() -> None:
    board = Scoreboard(1)
    ours, theirs = Channel.pair()
    row = board.row(0)
    child = WorkerChild(1, 1, None, ours, nameless_file(), row)
    with contextlib.closing(theirs), contextlib.closing(child):
        row.label(b"GET", b"/report")
        row.counts[SINCE] = 1.0
        child.expect_stack()
        row.counts[SINCE] = 0.0
        assert child.asked_while is not None
        assert child.asked_while.serving == "GET /report"

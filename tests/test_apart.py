"""Finding something out in a child."""

from __future__ import annotations

import os
import select
import signal
import time
from pathlib import Path

import pytest

from forkserve import apart
from tests.system.server import PATIENCE, is_gone, state_of


def test_what_it_returns_is_what_is_said() -> None:
    long = "x" * 1_000_000
    assert apart.ask(lambda: [long, None, "\n"], PATIENCE).said == [long, None, "\n"]


def test_one_that_ends_without_a_word() -> None:
    assert apart.ask(lambda: os._exit(4), PATIENCE) == apart.Answer(None, True, 4)
    crash = apart.ask(lambda: os.kill(os.getpid(), signal.SIGKILL), PATIENCE)
    assert crash == apart.Answer(None, True, -signal.SIGKILL)


def test_one_that_takes_too_long_is_killed() -> None:
    assert apart.ask(lambda: time.sleep(PATIENCE), 0.1) == apart.Answer(None, False, -9)


def test_who_asks_does_not_wait_for_what_the_child_has_started() -> None:
    """As multiprocessing.Manager() in a settings file does. It holds all that the child had."""
    reader, writer = os.pipe()

    def start_somebody() -> int:
        pid = os.fork()
        if pid == 0:
            select.select([reader], [], [], PATIENCE)
            os._exit(0)
        return pid

    began = time.monotonic()
    try:
        pid = apart.ask(start_somebody, 0).said
        assert time.monotonic() - began < PATIENCE / 2
        assert not is_gone(pid)
    finally:
        os.write(writer, b"end")
        os.close(reader)
        os.close(writer)


def test_who_is_interrupted_leaves_nobody() -> None:
    def interrupt() -> None:
        while state_of(os.getppid()) != "S":
            pass  # it is not waiting for us yet
        os.kill(os.getppid(), signal.SIGINT)
        time.sleep(PATIENCE)

    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    before = os.listdir("/proc/self/fd"), children.read_text()
    with pytest.raises(KeyboardInterrupt):
        apart.ask(interrupt, 0)
    assert (os.listdir("/proc/self/fd"), children.read_text()) == before

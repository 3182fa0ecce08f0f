"""Finding something out in a child, so that this process stays small and unharmed."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from time import monotonic
from typing import Any, NoReturn

from forkserve.worker import lifeline

LONGEST_WAIT = 3600.0
"""Seconds. select(2) refuses an endless float."""

END = b"\n"
"""Of what a child says: there is none in JSON as it is made here."""


class NoChildError(Exception):
    """The system refuses another process; the message says so in a sentence."""

    def __init__(self, exc: OSError) -> None:
        super().__init__(
            f"the system refuses to make another process ({exc.strerror}): look at the limits of "
            "processes (ulimit -u, pids.max of the cgroup) and at the memory that is left."
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """What a child has said, if anything, and how it ended (negative: by a signal)."""

    said: Any
    in_time: bool
    code: int


def ask(find_out: Callable[[], Any], seconds: float) -> Answer:
    """What ``find_out`` returns in a forked child, which is killed if that takes longer.

    It has to be what JSON can hold. 0 seconds are no limit. The child does not outlive who
    asks (prctl(2), Linux only). Raises NoChildError.
    """
    reader, writer = os.pipe()
    asker = os.getpid()
    _flush()  # else the child would write it, too
    try:
        pid = os.fork()
    except OSError as exc:
        os.close(reader)
        os.close(writer)
        raise NoChildError(exc) from exc
    if pid == 0:
        os.close(reader)
        _answer(find_out, writer, asker)
    try:
        os.close(writer)
        said, in_time = _said(reader, seconds)
        if not in_time:
            os.kill(pid, signal.SIGKILL)
    except BaseException:  # such as Ctrl-C
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    finally:
        os.close(reader)
    _, status = os.waitpid(pid, 0)
    return Answer(json.loads(said) if said else None, in_time, os.waitstatus_to_exitcode(status))


def _answer(find_out: Callable[[], Any], writer: int, asker: int) -> NoReturn:
    """In the child."""
    try:
        lifeline.die_with_the_master(asker, signal.SIGKILL)
        said = json.dumps(find_out()).encode()
        _flush()
        with open(writer, "wb") as pipe:
            pipe.write(said + END)
    finally:
        _flush()
        os._exit(0)


def _said(reader: int, seconds: float) -> tuple[bytes, bool]:
    """What the child says, nothing if it has ended without; and whether that was in time.

    Not until the pipe is closed: what ``find_out`` has forked may hold it open for ever.
    """
    give_up = monotonic() + (seconds or inf)
    said = b""
    while not said.endswith(END):
        wait = min(max(0.0, give_up - monotonic()), LONGEST_WAIT)
        if not select.select([reader], [], [], wait)[0]:
            if monotonic() < give_up:
                continue
            return b"", False
        piece = os.read(reader, 1 << 16)
        if not piece:
            return b"", True
        said += piece
    return said, True


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()

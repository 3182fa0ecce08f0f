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
from typing import Any

from forkserve.prctl import SET_PDEATHSIG, prctl


@dataclass(frozen=True, slots=True)
class Answer:
    """What a child has said, if anything, and how it ended (negative: by a signal)."""

    said: Any
    in_time: bool
    code: int


def ask(find_out: Callable[[], Any], seconds: float) -> Answer:
    """What ``find_out`` returns in a forked child, which is killed if that takes longer.

    It has to be what JSON can hold. 0 seconds are no limit. The child does not outlive who
    asks (prctl(2), Linux only). Raises OSError (fork(2)).
    """
    reader, writer = os.pipe()
    asker = os.getpid()
    _flush()  # else the child would write it, too
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        prctl(SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != asker:
            os._exit(0)  # it died before we had asked
        try:
            with open(writer, "wb") as pipe:
                pipe.write(json.dumps(find_out()).encode())
            _flush()
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        in_time = bool(select.select([pipe.fileno()], [], [], seconds or None)[0])
        if not in_time:
            os.kill(pid, signal.SIGKILL)
        said = pipe.read() if in_time else b""
    _, status = os.waitpid(pid, 0)
    return Answer(json.loads(said) if said else None, in_time, os.waitstatus_to_exitcode(status))


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()

"""Reading the settings again for a reload: in a child, since a file may be a program."""

from __future__ import annotations

import os
import pickle
import signal
import struct
from collections.abc import Callable
from functools import partial
from typing import NoReturn

from forkserve import titles
from forkserve.apart import NoChildError
from forkserve.config.reading import Reading, WrongSettingsError
from forkserve.config.uvicorn_options import uvicorn_options
from forkserve.master.kernel import Kernel, fork_with_a_pipe
from forkserve.supervisor.failures import BootFailure
from forkserve.worker import birth, lifeline

Reread = Callable[[], Reading]

_LENGTH = struct.Struct("!Q")


class Rereading:
    """One child that reads them, and the pipe on which it says what it has found.

    It ends by itself: whatever it executes has a time limit.
    """

    def __init__(self, kernel: Kernel, reread: Reread) -> None:
        """Raises OSError (EAGAIN, EMFILE)."""
        life = partial(_live, reread=reread, master_pid=os.getpid())
        self._pipe = fork_with_a_pipe(kernel, life)
        self._said = b""
        self.outdated = False
        """They were asked for again meanwhile, so they may have changed since it looked."""

    def fileno(self) -> int:
        return self._pipe

    def is_complete(self) -> bool:
        """Take what it has said; whether that was all.

        Its end is not waited for: what a settings file has forked may hold the pipe open.
        """
        while data := _read(self._pipe):
            self._said += data
        return data == b"" or self._message() is not None

    def _message(self) -> bytes | None:
        """What it has said behind its length; None as long as that is not all."""
        length, message = self._said[: _LENGTH.size], self._said[_LENGTH.size :]
        if len(length) < _LENGTH.size or len(message) < _LENGTH.unpack(length)[0]:
            return None
        return message

    def result(self) -> Reading | BootFailure:
        """The settings, or why they cannot be used."""
        message = self._message()
        if message is None:
            return BootFailure("The settings could not be read: the process that did so was lost.")
        # From our own child, through a pipe that nobody else has.
        said: Reading | BootFailure = pickle.loads(message)
        return said

    def close(self) -> None:
        os.close(self._pipe)


def _read(fd: int) -> bytes | None:
    try:
        return os.read(fd, 1 << 16)
    except BlockingIOError:
        return None


# -- in the child -------------------------------------------------------------------------


def _live(pipe: int, reread: Reread, master_pid: int) -> NoReturn:
    birth.live_and_leave(lambda: _say(pipe, reread, master_pid))


def _say(pipe: int, reread: Reread, master_pid: int) -> int:
    birth.forget_the_parent({pipe}, None, master_pid)
    lifeline.die_with_the_master(master_pid, signal.SIGKILL)
    titles.show("reads the settings", "forkserve-conf", None)
    uvicorn_options.cache_clear()  # there may be another uvicorn by now
    try:
        said: Reading | BootFailure = reread()
    except WrongSettingsError as exc:
        said = BootFailure(_in_one(exc.problems))
    except NoChildError as exc:
        said = BootFailure(f"The settings could not be read: {exc}")
    message = pickle.dumps(said)
    with open(pipe, "wb") as file:
        file.write(_LENGTH.pack(len(message)) + message)
    return 0


def _in_one(problems: tuple[str, ...]) -> str:
    if len(problems) == 1:
        return f"The settings are wrong: {problems[0]}"
    return "\n    ".join([f"{len(problems)} settings are wrong:", *problems])

"""The descriptors that the logs are written to: the master opens, the others inherit."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass

from forkserve.channel import Channel, LogReopened, LogSwitched
from forkserve.logs.outlet import FLAGS, that_never_waits

MODE = 0o640
"""Of a file that is made; the umask takes its part. An access log is not for everybody."""

_STREAMS = {"/dev/stdout": 1, "/dev/stderr": 2}
"""Opened by their names, these would not be had if they are sockets (the journal's, say)."""


@dataclass(frozen=True, slots=True)
class LogFds:
    """Where a process writes its two logs to."""

    error: int = 2
    access: int = 1

    def fds(self) -> set[int]:
        return {self.error, self.access}


STANDARD_STREAMS = LogFds()


@dataclass(frozen=True, slots=True)
class LogFile:
    """A file that the master has opened, and its descriptor, which stays the same."""

    path: str
    fd: int


class LogFiles:
    """The master's part: the files behind the two logs."""

    def __init__(self, fds: LogFds, files: Sequence[LogFile]) -> None:
        self.fds = fds
        self.files = files

    @classmethod
    def open(cls, error: str, access: str) -> LogFiles:
        """``-`` is standard error for the one and standard output for the other.

        Raises OSError, with the path in ``filename``.
        """
        for_error = _STREAMS.get(error, 2 if error == "-" else None)
        for_access = _STREAMS.get(access, 1 if access == "-" else None)
        files: list[LogFile] = []
        fds = []
        for path, stream in ((error, for_error), (access, for_access)):
            if stream is not None:
                fds.append(that_never_waits(stream))
            else:
                files.append(LogFile(os.path.abspath(path), open_log(path)))
                fds.append(files[-1].fd)
        return cls(LogFds(*fds), files)


def open_log(path: str) -> int:
    """Raises OSError. A named pipe that nobody reads cannot be opened (ENXIO, fifo(7))."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | FLAGS, MODE)


def put_in_place(new: int, old: int) -> None:
    """From now on what is written to ``old`` goes where ``new`` goes; atomic (dup(2))."""
    os.dup2(new, old, inheritable=False)


def take_over(channel: Channel, message: LogReopened, fds: Sequence[int]) -> None:
    """In a child: write to what the master has opened from now on, and say so.

    Where there was no room for one more descriptor, the old file is kept, and the master
    hears nothing.
    """
    if fds:
        put_in_place(fds[0], message.fd)
        channel.send(LogSwitched())


def make_sure_of_standard_streams() -> None:
    """Where 0, 1 or 2 is closed, put /dev/null: else the next socket would be opened there,
    and whatever somebody prints would go to a client."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            with contextlib.suppress(OSError):
                null = os.open(os.devnull, os.O_RDWR)
                os.dup2(null, fd)  # inheritable, like any standard stream
                if null != fd:
                    os.close(null)

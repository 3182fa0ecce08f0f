"""The file that a trace is written to.

Nothing here holds up the master or ends it. What cannot be written is counted and said once;
when it can be written again, a snapshot marks the gap. If the file is too long it is put aside,
as ``FILE.1``, in place of the one that was there. If it has been moved or removed, another one
is begun in its place. Each begins with a snapshot.

Two masters may write to the same file, in an upgrade: each write goes to the end and is whole
lines, and only one of them can put the file aside; the other one then follows.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import stat
import sys
import time
from collections.abc import Sequence

from forkserve import __version__
from forkserve.supervisor.brain import Supervisor
from forkserve.trace.lines import FORMAT, Line, Snapshot, Step, to_bytes

log = logging.getLogger("forkserve")

MODE = 0o600
"""Of a file that is made: tracebacks are in it, and with them lines of the app's code."""

FLAGS = (
    os.O_RDWR
    | os.O_CREAT
    | os.O_APPEND
    | os.O_NOFOLLOW
    | os.O_NONBLOCK
    | os.O_NOCTTY
    | os.O_CLOEXEC
)

PAUSE = 1.0
"""Seconds between two attempts to write again after a failure."""


def open_trace(path: str) -> int:
    """Raises OSError: for a symbolic link and whatever else is no file of ours alone, too.

    Somebody else's, or one with a second name (link(2)), may have been laid there so that we
    write to it.
    """
    fd = os.open(path, FLAGS, MODE)
    found = os.fstat(fd)
    ours = found.st_uid == os.geteuid() and found.st_nlink == 1
    if stat.S_ISREG(found.st_mode) and ours:
        return fd
    os.close(fd)
    why = "It is no regular file that belongs to the master's user and has no other name"
    raise OSError(errno.EPERM, why, path)


class Recorder:
    """Writes the lines of one master.

    ``limit``: bytes of a file, beyond which another one is begun; 0: none.
    """

    def __init__(self, path: str, limit: int, app: str, urls: Sequence[str]) -> None:
        """Raises OSError if the file cannot be opened."""
        self.path = os.path.abspath(path)
        self._limit = limit
        self._app = app
        self._urls = tuple(urls)
        self.pid = os.getpid()
        self.last = 0
        """The number of the last step."""
        self._behind = False
        """The state in the file is not the master's any more."""
        self._lost = 0
        self._again = 0.0
        """When it is tried again (monotonic seconds)."""
        self._said = False
        self._head = 0
        """Bytes of the last snapshot."""
        self._fd: int | None = open_trace(self.path)

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
        self._fd = None

    def begin(self, brain: Supervisor) -> None:
        """Write down the state in which it all begins."""
        self._try(brain, "start")

    def record(self, steps: Sequence[Step], brain: Supervisor) -> None:
        """Write down ``steps``, the last of which has led to the state that ``brain`` is in."""
        self.last = steps[-1].step
        if self._behind:
            self._lost += len(steps)
            if time.monotonic() >= self._again:
                self._try(brain, "gap")
            return
        try:
            self._append(steps)
            if self._have_a_file():
                self._append([self._snapshot(brain, "new file")])
        except OSError as exc:
            self._fails(exc)

    # -- writing ------------------------------------------------------------------------

    def _try(self, brain: Supervisor, because: str) -> None:
        """Begin anew with a snapshot, in a file that is where it should be."""
        try:
            self._have_a_file()
            self._append([self._snapshot(brain, because)])
        except OSError as exc:
            self._fails(exc)
            return
        if self._said:
            log.warning(
                "the trace %s is written again; %d steps are missing in it", self.path, self._lost
            )
        self._behind = self._said = False
        self._lost = 0

    def _fails(self, exc: OSError) -> None:
        self._behind = True
        self._again = time.monotonic() + PAUSE
        if not self._said:
            log.warning(
                "the trace %s cannot be written (%s); what happens meanwhile is missing in it, "
                "and nothing else",
                self.path,
                exc.strerror,
            )
        self._said = True

    def _snapshot(self, brain: Supervisor, because: str) -> Snapshot:
        return Snapshot(
            FORMAT,
            because,
            self._lost,
            self.pid,
            self.last,
            __version__,
            sys.version.split()[0],
            time.time(),
            time.monotonic(),
            self._app,
            self._urls,
            brain.policy,
            brain.state,
        )

    def _append(self, lines: Sequence[Line]) -> None:
        """Raises OSError; what has not been written then is counted as lost."""
        assert self._fd is not None
        data = b"".join(to_bytes(line) for line in lines)
        try:
            start = b"\n" if _ends_within_a_line(self._fd) else b""
            written = os.write(self._fd, start + data)
        except OSError:
            self._lost += sum(isinstance(line, Step) for line in lines)
            raise
        if isinstance(lines[0], Snapshot):
            self._head = len(data)
        if written == len(start + data):
            return
        whole = data[: max(0, written - len(start))].count(b"\n")
        self._lost += sum(isinstance(line, Step) for line in lines[whole:])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.path)

    # -- the file -----------------------------------------------------------------------

    def _have_a_file(self) -> bool:
        """At the path, and not too long. Returns whether it is another one. Raises OSError."""
        if self._is_in_place():
            if not self._is_too_long():
                return False
            if not self._put_aside():
                if self._is_too_long(by=2):
                    raise BlockingIOError(errno.EAGAIN, "somebody holds a lock on it", self.path)
                return False
        self.close()
        self._fd = open_trace(self.path)
        return True

    def _is_in_place(self) -> bool:
        """Whether what is at the path is the file that we have open."""
        if self._fd is None:
            return False
        try:
            there = os.stat(self.path, follow_symlinks=False)
        except OSError:
            return False
        return os.path.samestat(there, os.fstat(self._fd))

    def _is_too_long(self, by: int = 1) -> bool:
        """A file is worth more than the snapshot at its beginning, which may be long too."""
        assert self._fd is not None
        most = by * max(self._limit, 2 * self._head)
        return bool(self._limit) and os.fstat(self._fd).st_size > most

    def _put_aside(self) -> bool:
        """Whether it is out of the way. The other master of an upgrade may have done it before,
        or be at it: then this one goes on writing to it, within bounds, and follows the next
        time."""
        assert self._fd is not None
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # until it is closed
        except BlockingIOError:
            return False
        if self._is_in_place():
            os.replace(self.path, f"{self.path}.1")
        return True


def _ends_within_a_line(fd: int) -> bool:
    """As after a crash, or if the other master of an upgrade has met a full disk."""
    size = os.fstat(fd).st_size
    return size > 0 and os.pread(fd, 1, size - 1) != b"\n"

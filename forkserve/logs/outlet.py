"""Writing lines to a descriptor, without ever waiting for it."""

from __future__ import annotations

import logging
import os
import select
import stat

from forkserve.logs.lines import Lines


class Outlet(logging.Handler):
    """Writes log lines to the descriptor ``fd``.

    A full pipe whose reader sleeps, a reader that has gone, a closed descriptor or a
    full disk must not stop the service; lines that cannot be written are counted, and
    the next that can says how many they were. Of a line that has been begun the rest is
    kept, and goes before anything else.
    """

    def __init__(self, fd: int, lines: Lines) -> None:
        super().__init__()
        self.setFormatter(lines.formatter)
        self._lines = lines
        self._fd = fd
        self._rest = b""
        self.lost = 0
        kind = _kind(fd)
        self._in_pieces = not stat.S_ISREG(kind)
        self._must_ask = self._in_pieces and _waits(fd)

    def begin_anew(self) -> None:
        """In a child: what its parent has lost or begun is the parent's own."""
        self._rest = b""
        self.lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception:
            self.handleError(record)  # somebody's call does not fit its format
            return
        if self.lost:
            text = f"{self._lines.lost(self.lost)}\n{text}"
        # What could not be decoded as it came in shall not be a fault as it goes out.
        if self._write(text.encode("utf-8", "backslashreplace") + b"\n"):
            self.lost = 0
        else:
            self.lost += 1

    def _write(self, data: bytes) -> bool:
        """Whether ``data`` is written, or begun."""
        if self._rest:
            self._rest = self._rest[self._push(self._rest) :]
            if self._rest:
                return False
        written = self._push(data)
        if written:
            self._rest = data[written:]
        return written > 0

    def _push(self, data: bytes) -> int:
        """Write as much as is taken at once; returns how much that was."""
        written = 0
        try:
            while written < len(data):
                piece = _first_piece(data, written) if self._in_pieces else data[written:]
                if self._must_ask and not _takes_some(self._fd):
                    break
                written += os.write(self._fd, piece)
        except OSError:
            pass
        return written


def _first_piece(data: bytes, start: int) -> bytes:
    """Of up to PIPE_BUF bytes, which a pipe takes whole or not at all (pipe(7)).

    Cut between two lines where that is possible, since another process may write next.
    """
    end = start + select.PIPE_BUF
    if end < len(data):
        end = data.rfind(b"\n", start, end) + 1 or end
    return data[start:end]


def _takes_some(fd: int) -> bool:
    """Whether PIPE_BUF bytes can be written now: unless another process is faster."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    ready = poll.poll(0)
    return bool(ready and ready[0][1] & select.POLLOUT)


def _kind(fd: int) -> int:
    try:
        return os.fstat(fd).st_mode
    except OSError:
        return 0


def _waits(fd: int) -> bool:
    try:
        return os.get_blocking(fd)
    except OSError:
        return False


def that_never_waits(fd: int) -> int:
    """A descriptor for what is at ``fd`` whose writes return at once, or ``fd`` itself.

    For a pipe or a terminal. O_NONBLOCK belongs to the open file, which the user's shell
    may share with us (open(2)); so it is opened once more. Where that is not possible,
    because it is somebody else's or there is no /proc, an Outlet asks before it writes.
    The caller closes a descriptor that is not ``fd``.
    """
    kind = _kind(fd)
    if not (stat.S_ISFIFO(kind) or stat.S_ISCHR(kind)):
        return fd
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | FLAGS)
    except OSError:
        return fd


FLAGS = os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""How a log is opened: each write goes to the end, and none waits. A log that is a terminal
shall not become our controlling one."""

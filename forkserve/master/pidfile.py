"""The file that says which process is the master, and that there is one.

Whether its master lives is known by a lock (flock(2)), and not by asking whether the pid
does: a pid may be another's by now. The kernel lets go of the lock when the last copy of
the descriptor is closed, so however the master ends; its children close theirs at birth.

The file is never written to where it can be seen: another one is made beside it, locked,
and put in its place (rename(2), link(2)). So a reader finds a whole number or no file, a
full disk does no harm, and what somebody else has put under that name, such as a link to
a file of value, is not touched.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import tempfile

MODE = 0o644
"""Others may read it: a log rotation that is not run by root, say."""

LONGEST = 32
"""Bytes. A file that holds more, or no number, was not made to be a pidfile."""


class PidFileError(Exception):
    """The message is one sentence for the user."""


class PidFile:
    """One that is ours: it holds a pid, and we hold its lock."""

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self._fd = fd
        self._owner = os.getpid()
        self.is_lent = False
        """The master that we are to replace still needs it."""

    @classmethod
    def claim(cls, path: str) -> PidFile:
        """Write our pid to ``path``, unless another master holds it. Raises PidFileError."""
        path = os.path.abspath(path)
        return cls(path, _put_in_place(path, os.getpid(), ours=None))

    @classmethod
    def adopt(cls, path: str, fd: int) -> PidFile:
        """Share the lock of the master that has handed its descriptor down to us.

        The file still says the other's pid; see :meth:`rewrite`. Raises PidFileError if
        ``fd`` is not the file at ``path``, or somebody else has its lock.
        """
        path = os.path.abspath(path)
        try:
            ours = _is_at(fd, path)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.set_inheritable(fd, False)
        except OSError:
            ours = False
        if not ours:
            raise PidFileError(f"what was handed down to this master is not the pidfile {path}")
        adopted = cls(path, fd)
        adopted.is_lent = True
        return adopted

    @staticmethod
    def is_at(path: str, fd: int) -> bool:
        """Whether the file ``fd`` is what stands at ``path``."""
        try:
            return _is_at(fd, os.path.abspath(path))
        except OSError:
            return False

    def fileno(self) -> int:
        """The descriptor that has the lock. A copy of it shares the lock (flock(2))."""
        return self._fd

    def rewrite(self, pid: int) -> None:
        """Have the file say ``pid``. Raises PidFileError, and then it says what it said.

        The lock is a new one, which no former copy of the descriptor shares.
        """
        fd, self._fd = self._fd, _put_in_place(self.path, pid, ours=self._fd)
        self.is_lent = False
        os.close(fd)

    def give_away(self) -> None:
        """Leave file and lock to whom they have been handed down."""
        os.close(self._fd)
        self._fd = -1

    def remove(self) -> None:
        """At the end: take the file away if it is still ours. A fork of its owner may not."""
        if self._fd < 0 or os.getpid() != self._owner:
            return
        with contextlib.suppress(OSError):
            if not self.is_lent and _is_at(self._fd, self.path):
                os.unlink(self.path)
        self.give_away()


def _put_in_place(path: str, pid: int, ours: int | None) -> int:
    """Have a locked file with ``pid`` at ``path``; returns its descriptor."""
    try:
        fd, new = tempfile.mkstemp(prefix=os.path.basename(path) + ".", dir=os.path.dirname(path))
    except OSError as exc:
        raise _cannot_be_written(path, exc) from exc
    try:
        os.write(fd, b"%d\n" % pid)
        os.fchmod(fd, MODE)
        fcntl.flock(fd, fcntl.LOCK_EX)  # nobody else knows of it
        while not _replace(path, new, ours):
            pass  # it was another's meanwhile, who has gone again
    except BaseException as exc:
        os.close(fd)
        os.unlink(new)
        if isinstance(exc, OSError):
            raise _cannot_be_written(path, exc) from exc
        raise
    return fd


def _replace(path: str, new: str, ours: int | None) -> bool:
    """Put the file ``new`` in the place of whatever nobody holds. False: look again."""
    try:
        there = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return _place_where_none_is(path, new)
    try:
        return _replace_this(there, path, new, ours)
    finally:
        os.close(there)


def _replace_this(there: int, path: str, new: str, ours: int | None) -> bool:
    """... the file ``there``, which was at ``path`` when it was opened."""
    if not (ours is not None and os.path.sameopenfile(there, ours)):
        _take_over(path, there)
    # By now it is locked: whoever has replaced it has done so before.
    if not _is_at(there, path):
        return False
    os.rename(new, path)
    return True


def _place_where_none_is(path: str, new: str) -> bool:
    try:
        os.link(new, path)  # unlike rename(2) it replaces nothing
    except FileExistsError:
        return False
    os.unlink(new)
    return True


def _take_over(path: str, there: int) -> None:
    """Lock what a former master has left, or say why it may not be replaced."""
    content = os.pread(there, LONGEST + 1, 0) if stat.S_ISREG(os.fstat(there).st_mode) else b"-"
    if content and not (content.strip().isdigit() and len(content) <= LONGEST):
        raise PidFileError(f"{path} is there already and no pidfile; choose another --pid")
    try:
        fcntl.flock(there, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        holder = f"pid {int(content)}" if content else "a process that is just starting"
        raise PidFileError(
            f"the pidfile {path} is held by another master, {holder}; stop that one first, "
            "or choose another --pid"
        ) from exc


def _is_at(fd: int, path: str) -> bool:
    """Whether the open file ``fd`` is what stands at ``path`` now, and no link to it."""
    try:
        return os.path.samestat(os.fstat(fd), os.lstat(path))
    except FileNotFoundError:
        return False


def _cannot_be_written(path: str, exc: OSError) -> PidFileError:
    why = "it is a symbolic link" if exc.errno == errno.ELOOP else exc.strerror
    return PidFileError(f"the pidfile {path} cannot be written: {why}; choose another --pid")

"""Listening on Unix sockets (unix(7)): taking a path, and giving it back.

The file of a Unix socket stays when nobody listens any more, and then has to be removed
before somebody can listen there again. Whether one is stale is found out by connecting to it.
Two masters that start at once might both find it stale, and the later one would take away
what the earlier has just made; so each looks and binds while it has the directory locked
(flock(2)). The directory, since a lock file would stay, or be removed under somebody's lock.

A file is removed at the end only by the process that has made it, and only while it still is
that file.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from time import monotonic

from forkserve.config.bind import BindError, UnixBind
from forkserve.config.owner import Owner
from forkserve.master.holders import already_in_use, holder_of_unix
from forkserve.master.logbook import log

LONGEST_PATH = 107 if sys.platform == "linux" else 103
"""Bytes: ``sun_path`` without its closing null byte (unix(7))."""

LONGEST_LOCK = 5.0
"""Seconds that another master which starts in the same directory is waited for."""

LAST_WORKERS = 1.0
"""Seconds that a living socket is looked at again: workers whose master was killed need a
moment to notice, and then let nobody in."""

AGAIN = 0.02
"""Seconds between two looks."""


@dataclass(slots=True)
class SocketFile:
    """The file of a socket that we listen on."""

    path: str
    device: int
    inode: int
    _maker: int = field(default_factory=os.getpid)
    _ours: bool = True

    @classmethod
    def of(cls, path: str) -> SocketFile:
        found = os.lstat(path)
        return cls(path, found.st_dev, found.st_ino)

    def give_away(self) -> None:
        """Somebody else sees to it from now on."""
        self._ours = False

    def receive(self) -> None:
        """Whoever has made it leaves it to us."""
        self._ours, self._maker = True, os.getpid()

    def remove(self) -> None:
        """Remove it, if that is ours to do. While the socket is still open: afterwards
        another file could have its inode number."""
        if not self._ours or os.getpid() != self._maker:
            return
        self._ours = False
        with contextlib.suppress(OSError):
            found = os.lstat(self.path)
            if (found.st_dev, found.st_ino) == (self.device, self.inode):
                os.unlink(self.path)


def listen_on_name(bind: UnixBind, backlog: int) -> socket.socket:
    """Listen on an abstract name. Raises BindError."""
    if sys.platform != "linux":
        raise BindError(f"{bind}: abstract names need Linux (unix(7)); choose a path with --bind")
    _check_length(bind, bind.path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind("\0" + bind.path[1:])
        return _listening(sock, backlog)
    except OSError as exc:
        sock.close()
        if exc.errno == errno.EADDRINUSE:
            raise _in_use(bind, bind.path) from exc
        raise BindError(_sentence(bind, exc)) from exc


def listen_on_path(
    bind: UnixBind, backlog: int, mode: int, owner: Owner | None, *, at_once: bool = False
) -> tuple[socket.socket, SocketFile]:
    """Listen on a path, in place of a stale socket if there is one. Raises BindError.

    ``at_once``: wait for nobody who is in the way.
    """
    path = os.path.abspath(bind.path)
    _check_length(bind, path)
    try:
        with _locked(bind, os.path.dirname(path), 0.0 if at_once else LONGEST_LOCK):
            _make_room(bind, path, 0.0 if at_once else LAST_WORKERS)
            return _made(path, backlog, mode, owner)
    except OSError as exc:
        raise BindError(_sentence(bind, exc)) from exc


def _made(
    path: str, backlog: int, mode: int, owner: Owner | None
) -> tuple[socket.socket, SocketFile]:
    """Raises OSError, and leaves nothing behind then."""
    with contextlib.ExitStack() as undo:
        sock = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        # Not chmod(2), which would follow whatever has been put there meanwhile.
        umask = os.umask(0o777 & ~mode)
        try:
            sock.bind(path)
        finally:
            os.umask(umask)
        file = SocketFile.of(path)
        undo.callback(file.remove)
        if owner is not None:
            _give_to(owner, path)
        # Until now everybody is refused: nobody gets in before it belongs to who it should.
        _listening(sock, backlog)
        undo.pop_all()
    return sock, file


def _listening(sock: socket.socket, backlog: int) -> socket.socket:
    sock.listen(backlog)
    # A connection wakes several workers; those that come late must not block in accept().
    sock.setblocking(False)
    return sock


def _give_to(owner: Owner, path: str) -> None:
    try:
        _change_owner(path, owner.uid, owner.gid)
    except OSError as exc:
        raise BindError(
            f"unix:{path} cannot be given to {owner} ({exc.strerror}); start as root, choose a "
            "group of your own, or leave out --unix-owner"
        ) from exc


def _change_owner(path: str, uid: int, gid: int) -> None:
    if not hasattr(os, "O_PATH"):
        os.chown(path, uid, gid, follow_symlinks=False)
        return
    # Who may write to the directory could put something else there; so look, and then give
    # away what was looked at.
    fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            raise OSError(errno.EEXIST, "another file has been put there")
        os.chown(f"/proc/self/fd/{fd}", uid, gid)
    finally:
        os.close(fd)


# -- what is there already ----------------------------------------------------------------


@contextlib.contextmanager
def _locked(bind: UnixBind, directory: str, patience: float) -> Iterator[None]:
    """No other master looks at, or makes, a socket in ``directory`` meanwhile."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _lock(fd, bind, directory, patience)
        yield
    finally:
        os.close(fd)


def _lock(fd: int, bind: UnixBind, directory: str, patience: float) -> None:
    give_up = monotonic() + patience
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if monotonic() > give_up:
                raise BindError(
                    f"{bind} cannot be made: another process keeps {directory} locked "
                    f"(flock(2)); see `lslocks`, or choose another path with {bind.option}"
                ) from None
        time.sleep(AGAIN)


def _make_room(bind: UnixBind, path: str, patience: float) -> None:
    """See to it that there is nothing at ``path``. Raises BindError, OSError."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise BindError(
            f"{bind} cannot be made: {path} is there already and no socket, so it is left "
            f"alone; remove it or choose another path with {bind.option}"
        )
    give_up = monotonic() + patience
    while _is_living(path):
        if monotonic() > give_up:
            raise _in_use(bind, path)
        time.sleep(AGAIN)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
        log.info("removed %s: a socket on which nobody listens any more", path)


def _is_living(path: str) -> bool:
    """Whether anybody has the socket. Raises OSError if that cannot be found out."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        error = probe.connect_ex(path)
    if error in (errno.ECONNREFUSED, errno.ENOENT):
        return False
    # EAGAIN: its queue is full. EPROTOTYPE: it is not a stream.
    if error in (0, errno.EAGAIN, errno.EINPROGRESS, errno.EPROTOTYPE):
        return True
    raise OSError(error, os.strerror(error))


# -- what to say --------------------------------------------------------------------------


def _check_length(bind: UnixBind, path: str) -> None:
    length = len(os.fsencode(path))
    if length > LONGEST_PATH:
        raise BindError(
            f"{bind} cannot be made: {path} is {length} bytes long, and a Unix socket's path has "
            f"at most {LONGEST_PATH} (unix(7)); choose a shorter one with {bind.option}"
        )


def _in_use(bind: UnixBind, address: str) -> BindError:
    return BindError(already_in_use(str(bind), holder_of_unix(address), bind.option))


def _sentence(bind: UnixBind, exc: OSError) -> str:
    directory = os.path.dirname(os.path.abspath(bind.path))
    if not os.path.isdir(directory):
        why = f"there is no directory {directory}; make it or choose"
    elif exc.errno in (errno.EACCES, errno.EPERM):
        why = f"this user lacks permission in {directory}; change that or choose"
    else:
        why = f"{exc.strerror}; choose"
    return f"{bind} cannot be made: {why} another path with {bind.option}"

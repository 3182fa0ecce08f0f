"""The control socket itself: where clients knock, and who of them is let in."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

from forkserve.config.bind import BindError, UnixBind
from forkserve.control import places
from forkserve.control.peer import Peer
from forkserve.master.unix_sockets import SocketFile, listen_on_path

BACKLOG = 128

MOST_AT_ONCE = 64
"""So many are let in, or turned away, before something else has its turn."""

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class ExhaustedError(Exception):
    """The system lacks what it takes to let somebody in, who waits on (accept(2))."""


class Door:
    """A Unix socket that is ours alone, if it is open."""

    def __init__(self, control: str | None, pidfile: str | None) -> None:
        """``control`` is the setting: a path, ``off``, or None for where it usually is."""
        self._control, self._pidfile = control, pidfile
        self._socket: socket.socket | None = None
        self._file: SocketFile | None = None

    @property
    def wanted(self) -> bool:
        return self._control != places.OFF

    @property
    def path(self) -> str | None:
        """Where it is, if it is open."""
        return self._file.path if self._file is not None else None

    def open(self, *, at_once: bool = False) -> str:
        """Listen. Returns why that cannot be, or nothing. ``at_once``: wait for nobody."""
        try:
            path = places.path_for(self._control, self._pidfile)
            if path is not None and self._socket is None:
                bind = UnixBind(path, "--control")
                self._socket, self._file = listen_on_path(
                    bind, BACKLOG, places.MODE, None, at_once=at_once
                )
        except BindError as exc:
            return str(exc)
        except places.PlaceError as exc:
            return f"{exc}; choose another place with --control"
        except OSError as exc:
            return f"{exc.filename}: {exc.strerror}" if exc.filename else str(exc.strerror)
        return ""

    def fileno(self) -> int:
        assert self._socket is not None
        return self._socket.fileno()

    def knocks(self) -> Iterator[tuple[socket.socket, Peer]]:
        """Everybody who waits now, within reason. Raises ExhaustedError."""
        assert self._socket is not None
        for _ in range(MOST_AT_ONCE):
            try:
                sock, _ = self._socket.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as exc:
                if exc.errno in _EXHAUSTED:
                    raise ExhaustedError from exc
                raise
            try:
                sock.setblocking(False)
                peer = Peer.of(sock)
            except OSError:
                sock.close()
            else:
                yield sock, peer

    def close(self) -> None:
        """Let nobody in any more, and leave no file behind."""
        if self._file is not None:
            self._file.remove()
        if self._socket is not None:
            self._socket.close()
        self._socket = self._file = None

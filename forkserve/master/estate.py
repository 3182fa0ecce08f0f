"""The listening sockets that an old master has left, and who wants them."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import NamedTuple


class Left(NamedTuple):
    """A socket that an old master has left."""

    socket: socket.socket
    called: str
    """As the user has written it."""

    file: tuple[int, int] | None = None
    """Device and inode of what a Unix socket had made in the file system: by now something else
    may be at that path, or nothing."""


class Estate:
    """Sockets to be claimed by what they were called by."""

    def __init__(self, sockets: Sequence[Left] = ()) -> None:
        self._unclaimed = [left for left in sockets if _listens(left.socket)]

    def claim(self, called: str) -> Left | None:
        """The first that was called so, if one was."""
        for left in self._unclaimed:
            if left.called == called:
                self._unclaimed.remove(left)
                return left
        return None

    def names(self) -> list[str]:
        """What those are called by that nobody has claimed, each once."""
        return list(dict.fromkeys(left.called for left in self._unclaimed))

    def close(self) -> None:
        """Let go of what nobody has claimed. Whoever has left it holds it for a while yet."""
        for left in self._unclaimed:
            left.socket.close()


def _listens(sock: socket.socket) -> bool:
    try:
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
    except OSError:
        return False

"""The listening sockets that an old master has left, and who wants them."""

from __future__ import annotations

import socket
from collections.abc import Sequence


class Estate:
    """Sockets to be claimed by what they were called by, as the user has written it."""

    def __init__(self, sockets: Sequence[tuple[socket.socket, str]] = ()) -> None:
        self._unclaimed = [(sock, called) for sock, called in sockets if _listens(sock)]

    def claim(self, called: str) -> socket.socket | None:
        """The first that was called so, if one was."""
        for one in self._unclaimed:
            if one[1] == called:
                self._unclaimed.remove(one)
                return one[0]
        return None

    def names(self) -> list[str]:
        """What those are called by that nobody has claimed."""
        return [called for _, called in self._unclaimed]

    def close(self) -> None:
        """Let go of what nobody has claimed. Whoever has left it holds it for a while yet."""
        for sock, _ in self._unclaimed:
            sock.close()


def _listens(sock: socket.socket) -> bool:
    try:
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
    except OSError:
        return False

"""The listening sockets that an old master has left, and who wants them."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any


class Estate:
    """Sockets to be claimed by their address."""

    def __init__(self, sockets: Sequence[socket.socket]) -> None:
        self._unclaimed = [sock for sock in sockets if _listens(sock)]

    def claim(self, family: int, address: Any) -> socket.socket | None:
        """The one that listens there, if one does. Port 0 wants any port of that host."""
        for sock in self._unclaimed:
            if sock.family == family and _fits(address, sock.getsockname()):
                self._unclaimed.remove(sock)
                return sock
        return None

    def close(self) -> None:
        """Let go of what nobody has claimed. Whoever has left it holds it for a while yet."""
        for sock in self._unclaimed:
            sock.close()


def _fits(wanted: Any, held: Any) -> bool:
    if not isinstance(wanted, tuple):
        return bool(wanted == held)
    host, port, *rest = wanted
    return [host, port or held[1], *rest] == [*held]


def _listens(sock: socket.socket) -> bool:
    try:
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
    except OSError:
        return False

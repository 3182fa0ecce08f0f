"""Closing a listening socket without losing who already waits in its queue."""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
import sys

_SO_ATTACH_FILTER = 26
_BPF_RETURN = 0x06
"""``BPF_RET | BPF_K`` of linux/bpf_common.h."""


class Borrowed(socket.socket):
    """A listening socket that was passed in. Who has passed it, systemd say, may hold it for
    whoever is started next: its queue does not end with us."""

    __slots__ = ()


def turn_away(listener: socket.socket) -> bool:
    """Let no further client into the queue of ``listener``; those in it stay.

    A filter that drops each packet keeps TCP handshakes out (socket(7),
    SO_ATTACH_FILTER): such a client tries again a second later and is refused, once
    the last worker has closed the socket. Without it, one that comes between the last
    accept and that close would be reset. Clients of a Unix socket are refused at once, by
    shutdown(2). Both hold for every process that has this socket. Where neither is possible,
    nothing happens.

    A borrowed one is left as it is; returns False then.
    """
    if isinstance(listener, Borrowed):
        return False
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            _shut(listener)
    return True


def _shut(listener: socket.socket) -> None:
    if listener.family == socket.AF_UNIX:
        listener.shutdown(socket.SHUT_RD)
        return
    drop_all = ctypes.create_string_buffer(struct.pack("HBBI", _BPF_RETURN, 0, 0, 0))
    program = struct.pack("HP", 1, ctypes.addressof(drop_all))
    listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)

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


def turn_away(listener: socket.socket) -> None:
    """Let no further client into the queue of ``listener``; those in it stay.

    A filter that drops each packet keeps the handshakes out (socket(7),
    SO_ATTACH_FILTER): such a client tries again a second later and is refused, once
    the last worker has closed the socket. Without it, one that comes between the last
    accept and that close would be reset. Where there is no such filter, nothing happens.
    """
    if sys.platform != "linux":
        return
    drop_all = ctypes.create_string_buffer(struct.pack("HBBI", _BPF_RETURN, 0, 0, 0))
    program = struct.pack("HP", 1, ctypes.addressof(drop_all))
    with contextlib.suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)

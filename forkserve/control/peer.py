"""Who is at the other end of a Unix socket, as the kernel knows it and not as it says."""

from __future__ import annotations

import os
import socket
import struct
import sys
from dataclasses import dataclass

ROOT = 0


@dataclass(frozen=True, slots=True)
class Peer:
    """The process that has connected or, seen from a client, that listens."""

    uid: int
    pid: int | None = None
    """None where the kernel does not tell."""

    @classmethod
    def of(cls, sock: socket.socket) -> Peer:
        """Raises OSError."""
        if sys.platform == "linux":  # unix(7)
            ucred = struct.Struct("=iII")
            said = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, ucred.size)
            pid, uid, _ = ucred.unpack(said)
            return cls(uid, pid or None)  # 0: it is of another pid namespace
        # LOCAL_PEERCRED gives a struct xucred: its version, then the effective uid (unix(4)).
        xucred = struct.Struct("=II")
        said = sock.getsockopt(0, 1, 76)
        return cls(xucred.unpack_from(said)[1])

    @property
    def may_command(self) -> bool:
        """Whether it may tell this process what to do."""
        return self.uid in (os.geteuid(), ROOT)

    @property
    def is_trusted(self) -> bool:
        """Whether this process may believe what it says. Root may ask anybody."""
        return self.may_command or os.geteuid() == ROOT

    @property
    def is_stopped(self) -> bool:
        """Whether it is, as by SIGSTOP; False if that is not known (proc_pid_stat(5))."""
        try:
            with open(f"/proc/{self.pid}/stat") as stat:
                return stat.read().rpartition(")")[2].split()[0] in ("T", "t")
        except (OSError, IndexError):
            return False

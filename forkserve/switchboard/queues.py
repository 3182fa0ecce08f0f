"""The two queues in which connections travel between workers and the switchboard.

A queue is a pair of AF_UNIX sockets of the kind SOCK_SEQPACKET (unix(7)), which keeps
messages apart: one message carries some connections, and is taken by one process, whole.
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import os
import socket
import struct
import termios
from collections.abc import Sequence
from dataclasses import dataclass

from forkserve.scoreboard import SwitchboardRow

MOST_IN_A_MESSAGE = 64
"""Descriptors; the kernel would take 253 (SCM_MAX_FD, unix(7)), and who takes a message needs
room for all of them."""

ROOM = 4 << 20
"""Bytes that a queue may take in the kernel. A message takes about 0.8 KB of it; the default
has room for 278. Without privileges it is bounded by net.core.wmem_max (socket(7))."""

_SO_SNDBUFFORCE = 32
_NO_ROOM = (errno.EAGAIN, errno.ETOOMANYREFS, errno.ENOBUFS, errno.ENOMEM)
"""ETOOMANYREFS: more descriptors are on their way than this user may have open."""


@dataclass(frozen=True, slots=True)
class Parked:
    """An idle connection on its way."""

    fd: int
    deadline: float
    """When it will have been idle for too long (``time.monotonic()``)."""


class Queue:
    """One of the two. Neither end ever blocks."""

    def __init__(self, entrance: socket.socket, exit: socket.socket) -> None:
        self.entrance = entrance
        self.exit = exit

    @classmethod
    def make(cls) -> Queue:
        """An empty one, close-on-exec. Raises OSError (EMFILE)."""
        entrance, exit = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (entrance, exit):
            end.setblocking(False)
        try:
            entrance.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, ROOM)
        except OSError:
            entrance.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, ROOM)
        return cls(entrance, exit)

    @classmethod
    def of(cls, entrance: socket.socket, exit: socket.socket) -> Queue:
        """One that another process has made."""
        for end in (entrance, exit):
            end.setblocking(False)
        return cls(entrance, exit)

    @classmethod
    def to(cls, entrance_fd: int) -> Queue:
        """One of which this process has, and needs, only the entrance."""
        entrance = socket.socket(fileno=entrance_fd)
        return cls.of(entrance, entrance)

    def put(self, connections: Sequence[Parked]) -> bool:
        """Send copies of up to MOST_IN_A_MESSAGE descriptors; the caller's stay open.

        Returns False if there is no room now. Raises OSError for what is a mistake (EBADF),
        and if nobody has the other end any more (EPIPE).
        """
        deadlines = struct.pack(f"{len(connections)}d", *(c.deadline for c in connections))
        fds = array.array("i", [c.fd for c in connections])
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)]
        try:
            self.entrance.sendmsg([deadlines], rights, socket.MSG_DONTWAIT)
        except OSError as exc:
            if exc.errno in _NO_ROOM:
                return False
            raise
        return True

    def take(self, at_most: int = MOST_IN_A_MESSAGE) -> tuple[list[Parked], int]:
        """The connections of the next message, close-on-exec, and how many were lost.

        Lost is what this process has no descriptors for: the kernel closes it (recvmsg(2),
        MSG_CTRUNC). So look whether there are some before. Nothing waits: BlockingIOError.
        """
        room = socket.CMSG_SPACE(at_most * array.array("i").itemsize)
        # Not socket.recv_fds: it ignores its flags in Python 3.11.
        data, ancillary, flags, _ = self.exit.recvmsg(
            at_most * 8, room, socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT
        )
        fds = array.array("i")
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
        deadlines = struct.unpack(f"{len(data) // 8}d", data[: len(data) // 8 * 8])
        for stray in fds[len(deadlines) :]:
            with contextlib.suppress(OSError):
                os.close(stray)
        lost = len(deadlines) - len(fds) if flags & socket.MSG_CTRUNC else 0
        taken = [Parked(fd, deadline) for fd, deadline in zip(fds, deadlines, strict=False)]
        return taken, max(0, lost)

    def fds(self) -> set[int]:
        return {self.entrance.fileno(), self.exit.fileno()}

    def close(self) -> None:
        self.entrance.close()
        self.exit.close()


@dataclass(frozen=True, slots=True)
class Exchange:
    """All that a process needs to park connections, and to get them."""

    inbox: Queue
    """From workers to the switchboard: idle connections."""

    outbox: Queue
    """From the switchboard to workers: connections on which something has come, one a
    message."""

    row: SwitchboardRow

    @classmethod
    def make(cls, row: SwitchboardRow, inbox: Queue | None = None) -> Exchange:
        """Two new queues, or one and this inbox. Raises OSError (EMFILE)."""
        inbox = inbox or Queue.make()
        try:
            return cls(inbox, Queue.make(), row)
        except OSError:
            inbox.close()
            raise

    def fds(self) -> set[int]:
        return self.inbox.fds() | self.outbox.fds()


def unread(fd: int) -> int:
    """Bytes that the client has sent and nobody has read (tcp(7), unix(7): SIOCINQ)."""
    (count,) = struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))
    return int(count)

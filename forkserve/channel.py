"""Messages between the master and a worker, a template, or the switchboard.

A channel is one end of a stream socketpair. A message is one line: a JSON array of
the message's name and its fields. A line that is not a message is counted and
skipped, so a scribble (by an app that writes to a wrong file descriptor, say) harms
nobody.

The end of the stream is a message too: for a worker it says that the master is
gone, however it went.
"""

from __future__ import annotations

import array
import json
import os
import socket
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from typing import ClassVar

PATIENCE = 5.0
"""Seconds that a message may wait for room in the channel."""

LONGEST_LINE = 64 * 1024
"""Bytes. What is longer is no message of ours."""


@dataclass(frozen=True, slots=True)
class Message:
    """Something that one process tells another. Its fields are text or numbers."""

    carries: ClassVar[int] = 0
    """How many descriptors come along."""


# From a worker, and some from a template.


@dataclass(frozen=True, slots=True)
class Hello(Message):
    """The first words of a worker that a template has forked: it is the master's child."""

    pid: int


@dataclass(frozen=True, slots=True)
class Ready(Message):
    """A worker can accept, a template can fork, or a switchboard takes connections."""


@dataclass(frozen=True, slots=True)
class Leaving(Message):
    """The worker has begun to drain, or the switchboard waits for its successor."""


@dataclass(frozen=True, slots=True)
class BootFailed(Message):
    """The app cannot be imported or started. See ``supervisor.failures.BootFailure``."""

    headline: str
    where: str
    details: str


@dataclass(frozen=True, slots=True)
class BootExtended(Message):
    """The app needs up to so many seconds more, from now, until it is ready."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Spent(Message):
    """The worker goes on serving, and wants to be replaced."""

    because: str


@dataclass(frozen=True, slots=True)
class Slow(Message):
    """The worker's handlers have become slow (1), or fast again (0)."""

    slow: int


@dataclass(frozen=True, slots=True)
class Unblocked(Message):
    """The worker's loop turns again, after having been blocked for at least so long."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Encrypted(Message):
    """The worker's connections are, so none of them can be parked."""


@dataclass(frozen=True, slots=True)
class LogSwitched(Message):
    """A worker, or a template, writes no more to the file that a log was in before."""


# From the new master of an upgrade, to the old one. Also BootFailed and BootExtended.


@dataclass(frozen=True, slots=True)
class CanTakeOver(Message):
    """All workers of the new master are ready. ``switchboard``: it has one (1) or none (0), and
    ``pidfile``: whether it writes the same."""

    switchboard: int
    pidfile: int


# From a switchboard.


@dataclass(frozen=True, slots=True)
class Trouble(Message):
    """Something is worth a line in the log: what the switchboard has or does."""

    what: str


# From a template.


@dataclass(frozen=True, slots=True)
class Unfit(Message):
    """The app is imported and must not be forked; the template exits."""

    findings: str


@dataclass(frozen=True, slots=True)
class Spawned(Message):
    """The worker exists, and is the master's child."""

    worker_id: int
    pid: int


@dataclass(frozen=True, slots=True)
class SpawnFailed(Message):
    """The operating system refused the fork."""

    worker_id: int
    error: str


# From the master.


@dataclass(frozen=True, slots=True)
class Spawn(Message):
    """Fork a worker. Its channel and its file for last words come along."""

    carries: ClassVar[int] = 2

    worker_id: int
    slot: int
    spare: int


@dataclass(frozen=True, slots=True)
class Promote(Message):
    """A spare shall begin to accept."""


@dataclass(frozen=True, slots=True)
class Drain(Message):
    """The signal that follows is the master's."""


@dataclass(frozen=True, slots=True)
class LastCall(Message):
    """Nobody will accept after you: what waits in the listen queue is yours to answer. To a
    switchboard: give the workers what you hold."""


@dataclass(frozen=True, slots=True)
class LogReopened(Message):
    """What comes along is to take the place of the descriptor ``fd``, a log."""

    fd: int
    carries: ClassVar[int] = 1


@dataclass(frozen=True, slots=True)
class PassOn(Message):
    """To a switchboard: give all that you hold, and what still comes, to the switchboard of
    the new master. The way to it comes along."""

    carries: ClassVar[int] = 1


@dataclass(frozen=True, slots=True)
class TakeOver(Message):
    """To the new master of an upgrade: the service is yours."""


_BY_NAME: dict[str, type[Message]] = {cls.__name__: cls for cls in Message.__subclasses__()}
_KINDS = {"str": (str,), "int": (int,), "float": (int, float)}


def encode(message: Message) -> bytes:
    """The line that carries ``message``."""
    line = json.dumps([type(message).__name__, *astuple(message)])
    # The newline before it ends whatever a scribble may have begun.
    return b"\n" + line.encode() + b"\n"


def decode(line: bytes) -> Message | None:
    """The message in ``line``, or None if there is none."""
    try:
        name, *values = json.loads(line)
        cls = _BY_NAME[name]
        for field, value in zip(fields(cls), values, strict=True):
            if type(value) not in _KINDS[str(field.type)]:
                return None
        return cls(*values)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


class Channel:
    """One end of the connection between the master and one worker."""

    HANDFUL: ClassVar[int] = 16 * 1024

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._partial = b""
        self._fds: list[int] = []
        self.closed = False
        """Whether the other end is gone."""
        self.scribbles = 0
        """Lines that were no messages."""

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        """Two connected ends, close-on-exec. Raises OSError (EMFILE)."""
        one, other = socket.socketpair()
        return cls(one), cls(other)

    def fileno(self) -> int:
        return self._sock.fileno()

    def send(self, message: Message) -> None:
        """Send, or find the other end gone. What workers and templates use.

        The few messages there are fit the socket's buffer many times over. Should
        somebody have filled it, the master is given PATIENCE seconds to make room.
        """
        self._sock.settimeout(PATIENCE)
        try:
            self._sock.sendall(encode(message))
        except OSError:
            self.closed = True
        finally:
            self._sock.setblocking(False)

    def offer(self, message: Message, fds: Sequence[int] = ()) -> bool:
        """Send without ever waiting, with copies of ``fds``. What the master uses.

        Returns whether it is on its way. If it is not, the other end has gone, or has
        not read for so long that it hangs.
        """
        data = encode(message)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            return self._sock.sendmsg([data], rights, socket.MSG_DONTWAIT) == len(data)
        except OSError:
            return False

    def receive_with_fds(self) -> list[tuple[Message, list[int]]]:
        """Like :meth:`receive`, with the fds that come along: none if they were lost, since
        this process has no room for more. The caller closes them.

        Nothing that comes after fds is in the same read as they (unix(7)), so it is clear
        whose they are. Not :func:`socket.recv_fds`: it ignores its flags in Python 3.11,
        and a descriptor without close-on-exec could leak into a program that the app starts.
        """
        room = socket.CMSG_SPACE(64 * array.array("i").itemsize)
        try:
            data, ancillary, _, _ = self._sock.recvmsg(
                self.HANDFUL, room, getattr(socket, "MSG_CMSG_CLOEXEC", 0)
            )
        except (BlockingIOError, InterruptedError):
            return []
        except OSError:
            data, ancillary = b"", []
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds = array.array("i")
                fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
                self._fds += fds
        received = []
        for line in self._lines(data):
            if (message := decode(line)) is None:
                self.scribbles += 1
                continue
            fds_of_it = self._fds[: message.carries]
            del self._fds[: message.carries]
            received.append((message, fds_of_it))
        return received

    def receive(self) -> list[Message]:
        """What has arrived by now. Sets ``closed`` at the end of the stream.

        Reads a bounded handful, so that one talkative worker cannot keep the
        master from its other work; the selector calls again.
        """
        try:
            data = self._sock.recv(self.HANDFUL)
        except (BlockingIOError, InterruptedError):
            return []
        except OSError:
            data = b""
        messages = [decode(line) for line in self._lines(data)]
        self.scribbles += messages.count(None)
        return [message for message in messages if message is not None]

    def _lines(self, data: bytes) -> list[bytes]:
        """The lines that ``data`` has completed; no data is the end of the stream."""
        if not data:
            self.closed = True
            return []
        *lines, self._partial = (self._partial + data).split(b"\n")
        if len(self._partial) > LONGEST_LINE:
            self._partial = b""
            self.scribbles += 1
        return [line for line in lines if line]

    def receive_rest(self) -> list[Message]:
        """Everything a dead worker has left behind, within reason."""
        rest: list[Message] = []
        for _ in range(64):
            if self.closed:
                break
            rest += self.receive()
        return rest

    def close(self) -> None:
        self._sock.close()


def close_all_but(keep: set[int]) -> None:
    """In a child, close every file descriptor that is the parent's own business.

    Those are the close-on-exec ones: Python opens all of its own that way (PEP
    446), while what the user handed down to the parent cannot be close-on-exec,
    since it came through an exec. So the child keeps what a child that had been
    exec'ed would have, and what is in ``keep``.
    """
    for fd in _open_fds():
        try:
            if fd not in keep and not os.get_inheritable(fd):
                os.close(fd)
        except OSError:
            pass  # it was the descriptor that listed the others


def _open_fds() -> list[int]:
    for folder in ("/proc/self/fd", "/dev/fd"):
        try:
            return [int(name) for name in os.listdir(folder)]
        except OSError:
            continue
    return list(range(3, 1024))

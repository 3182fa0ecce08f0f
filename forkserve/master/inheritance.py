"""What a new master gets from the one that it is to replace: an upgrade's two ends.

Everything is passed as an inherited descriptor, and one environment variable says which
is which. It names the old master too: only a child of that process believes it, so that a
variable that was left in somebody's environment does nothing.
"""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from forkserve.channel import BootFailed, Channel
from forkserve.master.estate import Left
from forkserve.master.origin import Origin
from forkserve.switchboard.queues import Queue

VARIABLE = "FORKSERVE_UPGRADE"

FORM = 1
"""What is passed, and how. Another forkserve may do it in another way; then the upgrade
fails, and the old master goes on."""

NOT_EXECUTED = 127
"""The exit code of a new master that could not be executed, as of a shell."""


@dataclass(frozen=True, slots=True)
class Bequest:
    """The old master's side: what it passes on."""

    channel: Channel
    listeners: Sequence[Left]
    inbox: Queue | None
    """Where the new master's switchboard takes its connections from, the old one's among
    them; None without a switchboard."""

    pidfile: int | None = None
    """The descriptor that has its lock, if there is one."""

    def text(self, master_pid: int) -> str:
        """What the variable says."""
        return json.dumps(
            {
                "form": FORM,
                "master": master_pid,
                "channel": self.channel.fileno(),
                "listeners": [left.socket.fileno() for left in self.listeners],
                "called": [left.called for left in self.listeners],
                "files": [left.file for left in self.listeners],
                "inbox": self._inbox(),
                "pidfile": self._pidfile(),
            }
        )

    def live(self, origin: Origin, master_pid: int) -> NoReturn:
        """Be the new master. Called in the new child, with every signal blocked."""
        try:
            text = self.text(master_pid)
            sockets = [left.socket.fileno() for left in self.listeners]
            for fd in (self.channel.fileno(), *sockets, *self._inbox(), *self._pidfile()):
                os.set_inheritable(fd, True)
            origin.begin_anew(VARIABLE, text)
        except OSError as exc:
            what = exc.filename or origin.program
            self.channel.send(BootFailed(f"It cannot be started: {what}: {exc.strerror}.", "", ""))
        finally:
            os._exit(NOT_EXECUTED)

    def _pidfile(self) -> list[int]:
        return [] if self.pidfile is None else [self.pidfile]

    def _inbox(self) -> list[int]:
        return [self.inbox.entrance.fileno(), self.inbox.exit.fileno()] if self.inbox else []


@dataclass(slots=True)
class Inheritance:
    """The new master's side: what it has got."""

    master_pid: int
    channel: Channel
    listeners: list[Left]
    inbox: Queue | None
    pidfile: int | None
    """The descriptor that has its lock, if there is one."""

    @classmethod
    def take(cls, environment: MutableMapping[str, str]) -> Inheritance | None:
        """What there is, if anything. Its variable is removed, so that no child has it."""
        text = environment.pop(VARIABLE, None)
        if text is None:
            return None
        try:
            return cls._read(json.loads(text))
        except (ValueError, TypeError, KeyError, OSError):
            return None

    @classmethod
    def _read(cls, said: dict[str, Any]) -> Inheritance | None:
        if said["form"] != FORM or said["master"] != os.getppid():
            return None
        fds = [said["channel"], *said["listeners"], *said["inbox"]]
        if not all(map(_is_a_socket, fds)) or len(said["inbox"]) not in (0, 2):
            return None
        called, files = [str(name) for name in said["called"]], list(map(_file, said["files"]))
        if not len(called) == len(files) == len(said["listeners"]):
            return None
        if not all(map(_is_a_file, said["pidfile"])):
            return None
        channel, *others = map(_socket, fds)
        listeners, inbox = others[: len(called)], others[len(called) :]
        pidfile = next(iter(said["pidfile"]), None)
        if pidfile is not None:
            os.set_inheritable(pidfile, False)
        return cls(
            said["master"],
            Channel(channel),
            list(map(Left, listeners, called, files)),
            Queue.of(*inbox) if inbox else None,
            pidfile,
        )

    def tell(self, sentence: str) -> None:
        """Say to the old master why this one cannot start."""
        self.channel.send(BootFailed(sentence, "", ""))


def _file(said: Any) -> tuple[int, int] | None:
    """Device and inode. Raises TypeError, ValueError."""
    if said is None:
        return None
    device, inode = said
    return int(device), int(inode)


def _is_a_socket(fd: int) -> bool:
    """Raises OSError if there is no such descriptor, TypeError if that is none."""
    return stat.S_ISSOCK(os.fstat(fd).st_mode) and fd > 2


def _is_a_file(fd: int) -> bool:
    return stat.S_ISREG(os.fstat(fd).st_mode) and fd > 2


def _socket(fd: int) -> socket.socket:
    os.set_inheritable(fd, False)
    return socket.socket(fileno=fd)

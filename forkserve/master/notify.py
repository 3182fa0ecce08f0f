"""How a service manager is told what its service does: the protocol of sd_notify(3).

A message is a datagram of ``NAME=VALUE`` lines to the Unix socket that ``NOTIFY_SOCKET``
names. Nothing here waits, and no failure is more than a line in the log.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import MutableMapping

from forkserve.master.logbook import log

MOST_UNSAID = 64
"""How many messages are kept for a manager that does not read."""

_NAMES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class ServiceManager:
    """Whoever has started us and wants to hear how it goes. Often nobody does."""

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        """Takes out of ``environment`` what is meant for us: no child shall speak for us."""
        self._taken = {name: environment.pop(name) for name in _NAMES if name in environment}
        self._address = self._find_address()
        self._socket: socket.socket | None = None
        if self._address is not None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
        self._unsaid: deque[bytes] = deque(maxlen=MOST_UNSAID)
        self._complained = False
        self.watchdog = self._find_watchdog() if self.listens else 0.0
        """It ends a service that gives no sign of life for so many seconds; 0: it does not."""

    @property
    def listens(self) -> bool:
        return self._socket is not None

    @property
    def is_behind(self) -> bool:
        """Whether it does not read, so that something still has to be said."""
        return bool(self._unsaid)

    def environment(self) -> dict[str, str]:
        """What another master needs to speak to the same manager.

        Without ``WATCHDOG_PID``, which is ours: who does not find it takes the watchdog to be
        its own (sd_watchdog_enabled(3)).
        """
        return {name: value for name, value in self._taken.items() if name != "WATCHDOG_PID"}

    def say(self, *lines: str) -> None:
        """What it has to hear, in this order, if need be later: see :meth:`catch_up`."""
        if self.listens:
            self._unsaid.append(_message(lines))
            self.catch_up()

    def offer(self, *lines: str) -> bool:
        """What it may hear now or not at all. Returns whether it has."""
        if not self.listens or self.is_behind:
            return False
        return self._send(_message(lines))

    def catch_up(self) -> None:
        """Say what has not been said yet."""
        while self._unsaid and self._send(self._unsaid[0]):
            self._unsaid.popleft()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, message: bytes) -> bool:
        """False: it does not read, and may later. What nobody can hear is gone."""
        assert self._socket is not None
        assert self._address is not None
        try:
            self._socket.sendto(message, self._address)
        except BlockingIOError:
            self._complain("it does not read what it is told")
            return False
        except OSError as exc:
            self._complain(exc.strerror or str(exc))
        return True

    def _complain(self, why: str) -> None:
        if not self._complained:
            name = self._taken["NOTIFY_SOCKET"]
            log.warning("the service manager cannot be told how it goes (%s): %s", name, why)
        self._complained = True

    def _find_address(self) -> bytes | None:
        """The address for sendto(2). A leading ``@`` stands for the zero byte of a name that
        is in no file system (unix(7))."""
        name = self._taken.get("NOTIFY_SOCKET", "")
        if not name:
            return None
        if name.startswith("vsock"):
            log.warning(
                'NOTIFY_SOCKET is "%s": forkserve speaks to its service manager by a Unix socket '
                "and not by vsock, so nobody is told how it goes",
                name,
            )
            return None
        if name[0] not in "/@" or len(name) == 1:
            log.warning(
                'NOTIFY_SOCKET is "%s", which is neither an absolute path nor "@" and a name, so '
                "nobody is told how it goes",
                name,
            )
            return None
        address = os.fsencode(name)
        return b"\0" + address[1:] if name.startswith("@") else address

    def _find_watchdog(self) -> float:
        """Seconds. The watchdog of somebody else, of whom we have inherited it, is not ours."""
        microseconds = self._taken.get("WATCHDOG_USEC", "")
        pid = self._taken.get("WATCHDOG_PID", str(os.getpid()))
        if not microseconds or pid != str(os.getpid()):
            return 0.0
        if not (microseconds.isascii() and microseconds.isdecimal() and int(microseconds)):
            log.warning(
                'WATCHDOG_USEC is "%s", which is no number of microseconds; it is ignored',
                microseconds,
            )
            return 0.0
        return int(microseconds) / 1e6


def microseconds(seconds: float) -> int:
    """In the unit in which systemd speaks of time."""
    return int(seconds * 1e6)


def _message(lines: tuple[str, ...]) -> bytes:
    return "\n".join(lines).encode("utf-8", "replace")

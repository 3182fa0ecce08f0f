"""A service manager for the tests: a real datagram socket that hears what systemd would."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

PATIENCE = 60.0
"""Seconds until a wait is given up."""


class Manager:
    """``name`` is for NOTIFY_SOCKET; ``heard`` is what has been heard so far, in order."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.heard: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)

    @property
    def address(self) -> str:
        return "\0" + self.name[1:] if self.name.startswith("@") else self.name

    def hear(self, what: str, since: int = 0) -> str:
        """The first message with ``what`` in it from number ``since`` on; waits for it."""
        deadline = monotonic() + PATIENCE
        looked_at = since
        while True:
            for message in self.heard[looked_at:]:
                if what in message:
                    return message
            looked_at = max(since, len(self.heard))
            if not self._receive(deadline - monotonic()):
                raise AssertionError(f"{what!r} was never heard:\n" + "\n--\n".join(self.heard))

    def hear_out(self, patience: float = 0.0) -> int:
        """Hear all that has been said, and go on until nothing comes for ``patience``
        seconds. Returns how much has been heard in all, for ``since``."""
        while self._receive(patience):
            pass
        return len(self.heard)

    def moments(self, since: int = 0) -> list[str]:
        """READY, RELOADING and STOPPING, in order."""
        names = [message.partition("=")[0] for message in self.heard[since:]]
        return [name for name in names if name in ("READY", "RELOADING", "STOPPING")]

    def fill_up(self) -> None:
        """Until the queue takes no more: whoever speaks now is not heard."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    other.sendto(b"X=1", self.address)

    def close(self) -> None:
        self._socket.close()
        if not self.name.startswith("@"):
            Path(self.name).unlink()

    def _receive(self, patience: float) -> bool:
        self._socket.settimeout(max(0.0, patience))
        try:
            self.heard.append(self._socket.recv(65536).decode())
        except (TimeoutError, BlockingIOError):
            return False
        return True


@contextlib.contextmanager
def managing(folder: Path, *, abstract: bool = False) -> Iterator[Manager]:
    name = f"@forkserve-test-{os.getpid()}-{id(folder)}" if abstract else str(folder / "notify")
    manager = Manager(name)
    try:
        yield manager
    finally:
        with contextlib.suppress(FileNotFoundError):
            manager.close()


def value(message: str, name: str) -> int:
    """The number that ``message`` gives for ``name``."""
    return int(dict(line.split("=", 1) for line in message.splitlines())[name])

"""The monitor: a process that shows the others' workings over HTTP.

    master ──status──► Feed ─┬─► /metrics   for Prometheus
                             ├─► /livez, /readyz, /status
                             └─► / and /events, the dashboard

It is a child of the master, asks it for the status over a control connection as anybody else
does, and knows nothing that it has not been told. No app code runs in it, so that what is
wrong with the app cannot keep it from saying so; and nobody needs it to live: should it die,
the service does not notice, and the master makes another.

This module is all of it that the master imports.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from typing import NoReturn

from forkserve.channel import Channel
from forkserve.config.monitor import read_token
from forkserve.config.settings import Settings


@dataclass(frozen=True, slots=True)
class Errand:
    """All that a monitor gets from the master."""

    settings: Settings
    listener: socket.socket
    control: socket.socket
    """Its end of a control connection."""

    channel: Channel
    last_words: int
    """A file for the fault handler; the master reads it after the monitor's end."""

    master_pid: int
    token: bytearray = field(default_factory=bytearray, repr=False)
    """What everybody has to know; empty: nothing. Only the monitor itself reads it."""

    def fds(self) -> set[int]:
        ends = {self.listener.fileno(), self.control.fileno(), self.channel.fileno()}
        return ends | {self.last_words}

    def take_the_token(self) -> None:
        """Read it, in the new child that still has the master's rights. Raises TokenError."""
        if self.settings.monitor_token is not None:
            self.token[:] = read_token(self.settings.monitor_token)

    def run(self) -> NoReturn:
        """Be the monitor. Called in the new child, with every signal blocked; never returns."""
        from forkserve.monitor import main

        main.run(self)

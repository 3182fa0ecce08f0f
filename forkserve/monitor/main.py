"""From the fork to the exit of a monitor."""

from __future__ import annotations

import logging
import os
import signal
from math import inf
from time import monotonic
from typing import NoReturn

from forkserve import titles
from forkserve.channel import BootFailed, Channel, Trouble
from forkserve.monitor import Errand
from forkserve.worker import birth, lifeline

SHORT_NAME = "forkserve-mntr"

BOOT_FAILED = 3
"""The exit code, as of a worker that cannot import the app."""

PAUSE = 60.0
"""Seconds between two complaints of the same kind."""


def run(errand: Errand) -> NoReturn:
    birth.live_and_leave(lambda: _be_the_monitor(errand))


def _be_the_monitor(errand: Errand) -> int:
    birth.forget_the_parent(errand.fds(), errand.last_words, errand.master_pid)
    # It holds nothing that anybody could lose, so it need not be asked.
    lifeline.die_with_the_master(errand.master_pid, signal.SIGKILL)
    # What is sent to all processes of the service is for the master to act on: while that
    # drains, people want to look.
    for number in (signal.SIGINT, signal.SIGTERM):
        lifeline.take_no_notice_of(number)
    titles.show("monitor", SHORT_NAME, errand.settings.name)
    _complain_through(errand.channel)
    # Else prometheus-client would keep its numbers in the app's directory for them.
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
    try:
        from forkserve.monitor.serve import serve
    except ImportError as exc:
        # They were there when the master began; since then somebody has changed them.
        headline = f'{exc}; "pip install forkserve[monitor]" brings what it needs'
        errand.channel.offer(BootFailed(headline, "", ""))
        return BOOT_FAILED
    return serve(errand)


class _Complaints(logging.Handler):
    """Has the master log them: it alone knows where to, and when that changes.

    Of one kind not more than one a PAUSE: whoever can connect can cause some.
    """

    def __init__(self, channel: Channel) -> None:
        super().__init__(logging.WARNING)
        self._channel = channel
        self._said: dict[str, float] = {}
        """When, by what the code calls it."""

    def emit(self, record: logging.LogRecord) -> None:
        kind, now = str(record.msg), monotonic()
        if now - self._said.get(kind, -inf) < PAUSE:
            return
        self._said[kind] = now
        try:
            self._channel.offer(Trouble(f"has a difficulty: {self.format(record)}"))
        except Exception:
            self.handleError(record)


def _complain_through(channel: Channel) -> None:
    root = logging.getLogger()
    root.handlers = [_Complaints(channel)]
    root.setLevel(logging.WARNING)

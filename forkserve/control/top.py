"""``forkserve top``: the status, again and again, in all of the terminal.

A thread of its own asks the master: one that does not answer must not keep the user from
quitting. Everything else happens in one loop, which waits for keys, signals and that thread.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from time import monotonic

from rich.console import RenderableType

from forkserve.control.client import Client, ControlError
from forkserve.control.rates import Status
from forkserve.control.screen import picture
from forkserve.control.terminal import News, Terminal

PATIENCE = 3.0
"""Seconds, beyond the interval, after which a silence of the master is told."""

_QUITTING = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})


def watch(client: Client, interval: float) -> None:
    """Show it, every so many seconds, until the user has seen enough.

    Raises ControlError when the master goes.
    """
    first = client.status()
    client.be_patient(None)  # from now on the picture tells of a silence
    # When the terminal goes there is nobody left to tell.
    with suppress(OSError), Terminal() as terminal:
        looks = _Looks(client, interval, first, terminal.poke)
        looks.start()
        while True:
            if looks.failure is not None:
                raise ControlError(f"the master (pid {first['pid']}) has gone") from looks.failure
            terminal.show(looks.picture)
            news = terminal.wait(interval + 1.0)
            if _is_enough(news):
                return
            if signal.SIGTSTP in news.signals:
                terminal.suspend()


def _is_enough(news: News) -> bool:
    return news.gone or "q" in news.keys.lower() or not _QUITTING.isdisjoint(news.signals)


class _Looks(threading.Thread):
    """Looks at the status every so many seconds."""

    def __init__(
        self, client: Client, interval: float, first: Status, news: Callable[[], None]
    ) -> None:
        super().__init__(daemon=True)
        self._client = client
        self._interval = interval
        self._news = news
        self._last_two: tuple[Status, Status | None] = (first, None)
        self._looked = monotonic()
        self.failure: ControlError | None = None
        """Why there will be no other."""

    def run(self) -> None:
        pause = threading.Event()
        try:
            while not pause.wait(self._interval):
                status = self._client.status()
                self._last_two = status, self._last_two[0]
                self._looked = monotonic()
                self._news()
        except ControlError as exc:
            self.failure = exc
            self._news()

    def picture(self, width: int, height: int) -> RenderableType:
        """What is known now."""
        now, before = self._last_two
        silence = monotonic() - self._looked - self._interval
        return picture(now, before, width, height, silence if silence > PATIENCE else 0.0)

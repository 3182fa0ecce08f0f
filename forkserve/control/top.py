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
from forkserve.control.instances import successor_of
from forkserve.control.rates import Status
from forkserve.control.screen import picture
from forkserve.control.terminal import News, Terminal

PATIENCE = 3.0
"""Seconds, beyond the interval, after which a silence of the master is told."""

SEARCH = 6.0
"""Seconds for which another master is looked for, once the one that was watched has gone. A new
one may need some to make its socket."""

LOOK_AGAIN = 0.2
"""Seconds between two such looks."""

_QUITTING = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP})


def watch(client: Client, interval: float) -> None:
    """Show it, every so many seconds, until the user has seen enough.

    Raises ControlError when the master goes, and no other comes in its place.
    """
    first = client.status()
    client.be_patient(None)  # from now on the picture tells of a silence
    # When the terminal goes there is nobody left to tell.
    with suppress(OSError), Terminal() as terminal:
        looks = _Looks(client, interval, first, terminal.poke)
        looks.start()
        while True:
            if looks.failure is not None:
                raise looks.failure
            terminal.show(looks.picture)
            news = terminal.wait(interval + 1.0)
            if _is_enough(news):
                return
            if signal.SIGTSTP in news.signals:
                terminal.suspend()


def _is_enough(news: News) -> bool:
    return news.gone or "q" in news.keys.lower() or not _QUITTING.isdisjoint(news.signals)


class _Looks(threading.Thread):
    """Looks at the status every so many seconds: of the master that there is, and of the one
    after it if there is an upgrade."""

    def __init__(
        self, client: Client, interval: float, first: Status, news: Callable[[], None]
    ) -> None:
        super().__init__(daemon=True)
        self._client = client
        self._interval = interval
        self._news = news
        self._last_two: tuple[Status, Status | None] = (first, None)
        self._looked = monotonic()
        self._searches = False
        self._pause = threading.Event()
        self.failure: ControlError | None = None
        """Why there will be no other."""

    def run(self) -> None:
        try:
            while not self._pause.wait(self._interval):
                self._look()
                self._news()
        except ControlError as exc:
            self.failure = exc
            self._news()

    def _look(self) -> None:
        try:
            self._see(self._client.status())
        except ControlError as exc:
            self._search(exc)
        else:
            # It only ends what it has begun, and that may take long.
            if self._last_two[0].get("succeeded_by"):
                self._go_over()

    def _see(self, status: Status) -> None:
        self._last_two = status, self._last_two[0]
        self._looked = monotonic()

    def _search(self, because: ControlError) -> None:
        """Raises ControlError if there is nobody."""
        self._searches = True
        self._news()
        until = monotonic() + SEARCH
        while not self._go_over():
            if monotonic() > until:
                gone = f"the master (pid {self._last_two[0]['pid']}) has gone"
                raise ControlError(f"{gone}, and no other has come in its place") from because
            self._pause.wait(LOOK_AGAIN)
        self._searches = False

    def _go_over(self) -> bool:
        """To the master that is there now instead, if there is one."""
        found = successor_of(self._client.path, self._last_two[0])
        if found is None:
            return False
        try:
            self._see(found.status())
        except ControlError:
            found.close()
            return False
        self._client.close()
        self._client = found
        found.be_patient(None)
        return True

    def picture(self, width: int, height: int) -> RenderableType:
        """What is known now."""
        now, before = self._last_two
        return picture(now, before, width, height, self._trouble(now))

    def _trouble(self, now: Status) -> str:
        if now.get("succeeded_by") or (self._searches and now.get("upgrading_to")):
            return "upgrading…"
        if self._searches:
            return "has gone, another is looked for"
        silence = monotonic() - self._looked - self._interval
        return f"no answer for {silence:.0f} s" if silence > PATIENCE else ""

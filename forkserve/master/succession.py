"""What belongs to the service and not to one master, and how it passes to the next (SIGUSR2).

The listeners, the pidfile and the service manager's ear are *lent* to a new master. They become
its own when the old one says so, or dies.
"""

from __future__ import annotations

import os
import selectors
from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic

from forkserve.channel import BootExtended, BootFailed, CanTakeOver, TakeOver
from forkserve.master.family import MasterChild
from forkserve.master.inheritance import Inheritance
from forkserve.master.listeners import Listener
from forkserve.master.logbook import log
from forkserve.master.pidfile import PidFile, PidFileError
from forkserve.master.reporter import Reporter
from forkserve.scoreboard import Scoreboard
from forkserve.supervisor.events import Event, PredecessorGone, TakenOver
from forkserve.supervisor.failures import BootFailure


class Succession:
    """One master's place in the row of those that have served and will."""

    def __init__(
        self,
        predecessor: Inheritance | None,
        listeners: Sequence[Listener],
        pidfile: PidFile | None,
        scoreboard: Scoreboard,
        reporter: Reporter,
    ) -> None:
        self.predecessor = predecessor
        """What the master has left that this one replaces, until that has gone."""

        self.is_lent = predecessor is not None
        """Whether the service is still the predecessor's."""

        self._listeners = listeners
        self._pidfile = pidfile
        self._scoreboard = scoreboard
        self._reporter = reporter

    def begin(self, selector: selectors.BaseSelector, handle: Callable[[Event], None]) -> None:
        """Listen to the predecessor, if there is one; what it says becomes an event."""
        if self.predecessor is not None:
            self._reporter.wait_for_its_turn()
            self._scoreboard.share_the_queue(True)
            hear = partial(self._hear, selector, handle)
            selector.register(self.predecessor.channel, selectors.EVENT_READ, hear)

    @property
    def predecessor_pid(self) -> int | None:
        return self.predecessor.master_pid if self.predecessor is not None else None

    @property
    def pidfile(self) -> int | None:
        """The descriptor that a new master is lent."""
        return self._pidfile.fileno() if self._pidfile is not None else None

    # -- the old master ---------------------------------------------------------------

    def hand_over(self, successor: MasterChild) -> None:
        """The one place where this master ceases to be the one that serves ..."""
        assert successor.pid is not None
        self._reporter.main_pid(successor.pid)
        for listener in self._listeners:
            listener.give_away()
        if self._pidfile is not None and successor.takes_the_pidfile:
            self._pidfile.give_away()
        successor.channel.offer(TakeOver())

    # -- the new one ------------------------------------------------------------------

    def _own(self) -> None:
        """... and where the new one becomes it. Its workers may not be ready yet, if the
        other has died."""
        self.is_lent = False
        self._scoreboard.share_the_queue(False)
        for listener in self._listeners:
            listener.receive()
        if self._pidfile is not None:
            try:
                self._pidfile.rewrite(os.getpid())
            except PidFileError as exc:
                log.error("%s", exc)
        self._reporter.main_pid(os.getpid())

    def _hear(self, selector: selectors.BaseSelector, handle: Callable[[Event], None]) -> None:
        assert self.predecessor is not None
        channel = self.predecessor.channel
        for message in channel.receive():
            if isinstance(message, TakeOver):
                self._own()
                handle(TakenOver(monotonic()))
        if channel.closed:
            if self.is_lent:  # it has died
                self._own()
            selector.unregister(channel)
            channel.close()
            self.predecessor = None
            handle(PredecessorGone(monotonic()))

    def can_take_over(self, has_a_switchboard: bool) -> None:
        """Say that the workers are ready."""
        if self.predecessor is not None:
            pidfile = self._pidfile is not None and self._pidfile.is_lent
            self.predecessor.channel.offer(CanTakeOver(int(has_a_switchboard), int(pidfile)))

    def takes_longer(self, seconds: float) -> None:
        """Ask the predecessor for so much patience from now on."""
        if self.predecessor is not None:
            self.predecessor.channel.offer(BootExtended(seconds))

    def confess(self, why: BootFailure) -> None:
        """The predecessor says why this one has failed, since it is the one that serves on."""
        if self.predecessor is not None:
            said = BootFailed(why.headline, why.where, why.details)
            self.predecessor.channel.offer(said)

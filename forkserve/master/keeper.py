"""Keeps a monitor alive, with back-off, and has it leave last. The supervisor knows of none.

Whatever becomes of it, the service does not notice: nothing here waits, and nobody but the
monitor's own users misses it.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from math import inf

from forkserve.channel import BootExtended, BootFailed, LastCall, Message, Ready
from forkserve.master import signals
from forkserve.master.family import MonitorChild
from forkserve.master.logbook import log
from forkserve.supervisor.backoff import STABLE_AFTER, Backoff
from forkserve.supervisor.events import BootFailure, Exit
from forkserve.worker.lifeline import STACK_SIGNAL

BOOT = 30.0
"""Seconds until it must have given a sign of life; each then says for how long it is good."""

LAST_WORDS = 0.25
"""Seconds between the order to write its stacks and SIGKILL."""

FAREWELL = 1.0
"""Seconds that it has to leave, and again to be gone after SIGKILL: then it is left alone."""


class _Phase(Enum):
    LIVES = "lives"
    DUMPS = "writes its stacks"
    LEAVES = "leaves"
    KILLED = "killed"


@dataclass(frozen=True, slots=True)
class Means:
    """What the master does for it."""

    fork: Callable[[], MonitorChild]
    """Make a monitor. Raises OSError."""

    signal: Callable[[MonitorChild, int], None]
    forget: Callable[[MonitorChild], None]
    """It is no child of ours any more, as far as we are concerned."""

    is_wanted: Callable[[], bool]
    """Whether the service is ours to show: it is not while another master has it."""


@dataclass(slots=True)
class _Life:
    """One monitor's."""

    child: MonitorChild
    born: float
    deadline: float
    phase: _Phase = _Phase.LIVES
    ready_at: float | None = None
    killed_because: str = ""
    failed: bool = False
    """It has said why it cannot live."""


class MonitorKeeper:
    """The monitor that there is, or when there will be one."""

    def __init__(self, url: str | None, means: Means) -> None:
        """``url``: where it can be seen; None: there is to be none."""
        self._url = url
        self._means = means
        self._life: _Life | None = None
        self._backoff = Backoff()
        self._over = url is None

    @property
    def is_gone(self) -> bool:
        return self._life is None

    @property
    def child(self) -> MonitorChild | None:
        return self._life.child if self._life else None

    def leave(self, now: float) -> None:
        """There is to be none any more."""
        self._over = True
        if self._life is not None and self._life.phase is _Phase.LIVES:
            self._life.child.channel.offer(LastCall())
            self._life.phase, self._life.deadline = _Phase.LEAVES, now + FAREWELL

    # -- what it says, and its end ----------------------------------------------------

    def hear(self, child: MonitorChild, message: Message, now: float) -> None:
        life = self._life
        if life is None or life.child is not child:
            return
        match message:
            case Ready():
                life.ready_at = now
                log.info("the monitor (pid %d) is at %s", child.pid, self._url)
            case BootExtended(seconds) if life.phase is _Phase.LIVES:
                life.deadline = max(life.deadline, now + seconds)
            case BootFailed(headline, where, details):
                life.failed = True
                failure = BootFailure(headline, where, details)
                log.error("the monitor (pid %d) cannot live: %s", child.pid, failure)

    def has_ended(self, child: MonitorChild, exit: Exit, stack: str, now: float) -> None:
        """It has been waited for."""
        life = self._life
        if life is None or life.child is not child:
            return
        self._life = None
        if self._over:
            log.debug("the monitor (pid %d) has left", child.pid)
            return
        if life.ready_at is not None and now - life.ready_at >= STABLE_AFTER:
            self._backoff.stable()
        delay = self._backoff.young_death(now, life.born) or 0.0
        log.warning(
            "the monitor (pid %d) %s, after %.1f s; the service goes on, and another one is made "
            "%s%s",
            child.pid,
            _how_it_ended(life, exit),
            now - life.born,
            f"in {delay:.1f} s" if delay else "now",
            f"\n{stack}" if stack else "",
        )

    # -- deadlines --------------------------------------------------------------------

    def next_deadline(self) -> float:
        if self._life is not None:
            return self._life.deadline
        return inf if self._over or not self._means.is_wanted() else self._backoff.until

    def alarm(self, now: float) -> None:
        """Do what is due by now."""
        life = self._life
        if life is None:
            if now >= self.next_deadline():
                self._make(now)
        elif now >= life.deadline:
            self._go_further(life, now)

    def _make(self, now: float) -> None:
        try:
            self._life = _Life(self._means.fork(), now, now + BOOT)
        except OSError as exc:
            self._backoff.young_death(now, now)
            # Else the first tries would follow each other without a pause.
            self._backoff.until = max(self._backoff.until, now + 1.0)
            log.error("no monitor can be made: %s; it is tried again", exc.strerror)

    def _go_further(self, life: _Life, now: float) -> None:
        match life.phase:
            case _Phase.LIVES:
                life.phase, life.deadline = _Phase.DUMPS, now + LAST_WORDS
                life.killed_because = "it hangs"
                self._means.signal(life.child, STACK_SIGNAL)
            case _Phase.DUMPS | _Phase.LEAVES:
                life.phase, life.deadline = _Phase.KILLED, now + FAREWELL
                self._means.signal(life.child, signal.SIGKILL)
            case _Phase.KILLED:
                self._life = None
                log.error(
                    "the monitor (pid %d) was sent SIGKILL and is still there; it is left alone, "
                    "and no other is made",
                    life.child.pid,
                )
                self._over = True
                self._means.forget(life.child)


def _how_it_ended(life: _Life, exit: Exit) -> str:
    if life.killed_because:
        return f"was killed: {life.killed_because}"
    if exit.signal:
        return f"was ended by {signals.name(exit.signal)}"
    return f"has ended with {exit.code}"

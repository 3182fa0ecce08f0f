"""Keeps a monitor alive, with back-off, and has it leave last. The supervisor knows of none.

Whatever becomes of it, the service does not notice: nothing here waits, and nobody but the
monitor's own users misses it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from forkserve.channel import BootExtended, BootFailed, LastCall, Message, Ready
from forkserve.master.family import MonitorChild
from forkserve.master.heard import failure_of
from forkserve.master.lives import Life, Means, Phase
from forkserve.master.logbook import log
from forkserve.supervisor.backoff import STABLE_AFTER, Backoff
from forkserve.supervisor.events import Exit

BOOT = 30.0
"""Seconds until it must have given a sign of life; each then says for how long it is good."""

FAREWELL = 1.0
"""Seconds that it has to leave."""

ASLEEP = 1.0
"""Seconds by which the master is not late unless it did not run itself (SIGSTOP, a suspended
machine), and so nor did the monitor, which ..."""

AWAKE = 5.0
"""... then has so many more for a sign of life."""


@dataclass(slots=True)
class _Monitor(Life[MonitorChild]):
    """A monitor's life."""

    ready_at: float | None = None


class MonitorKeeper:
    """The monitor that there is, or when there will be one."""

    def __init__(
        self,
        url: str | None,
        fork: Callable[[], MonitorChild],
        is_wanted: Callable[[], bool],
        means: Means,
    ) -> None:
        """``url``: where it can be seen; None: there is to be none. ``fork`` makes a monitor,
        and raises OSError if it cannot. ``is_wanted``: whether the service is ours to show; it
        is not while another master has it."""
        self._url = url
        self._fork = fork
        self._is_wanted = is_wanted
        self._means = means
        self._life: _Monitor | None = None
        self._backoff = Backoff()
        self._over = url is None

    @property
    def is_gone(self) -> bool:
        return self._life is None

    def leave(self, now: float) -> None:
        """There is to be none any more."""
        self._over = True
        if self._life is not None and self._life.phase is Phase.LIVES:
            self._life.child.channel.offer(LastCall())
            self._life.phase, self._life.deadline = Phase.LEAVES, now + FAREWELL

    # -- what it says, and its end ----------------------------------------------------

    def hear(self, child: MonitorChild, message: Message, now: float) -> None:
        life = self._life
        if life is None or life.child is not child:
            return
        match message:
            case Ready():
                life.ready_at = now
                log.info("the monitor (pid %d) is at %s", child.pid, self._url)
            case BootExtended(seconds) if life.phase is Phase.LIVES:
                life.deadline = now + seconds
            case BootFailed():
                log.error("the monitor (pid %d) cannot live: %s", child.pid, failure_of(message))

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
            life.ended(exit),
            now - life.born,
            f"in {delay:.1f} s" if delay else "now",
            f"\n{stack}" if stack else "",
        )

    # -- deadlines --------------------------------------------------------------------

    def next_deadline(self) -> float:
        if self._life is not None:
            return self._life.deadline
        return inf if self._over or not self._is_wanted() else self._backoff.until

    def alarm(self, now: float) -> None:
        """Do what is due by now."""
        life = self._life
        if life is None:
            if now >= self.next_deadline():
                self._make(now)
        elif life.phase is Phase.LIVES and now > life.deadline + ASLEEP:
            life.deadline = now + AWAKE
        elif now >= life.deadline and life.go_further(self._means, now, "it hangs"):
            self._give_up(life)

    def _make(self, now: float) -> None:
        try:
            self._life = _Monitor(self._fork(), now, now + BOOT)
        except OSError as exc:
            self._backoff.young_death(now, now)
            # Else the first tries would follow each other without a pause.
            self._backoff.until = max(self._backoff.until, now + 1.0)
            log.error("no monitor can be made: %s; it is tried again", exc.strerror)

    def _give_up(self, life: _Monitor) -> None:
        self._life, self._over = None, True
        log.error(
            "the monitor (pid %d) was sent SIGKILL and is still there; it is left alone, and no "
            "other is made",
            life.child.pid,
        )

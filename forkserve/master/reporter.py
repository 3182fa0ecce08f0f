"""What a service manager hears of the master, and when.

The moments are those of systemd: starting, ready, reloading, ready again, stopping. They
follow from the supervisor's record of facts, looked at after each event, so that none is
missed; the last failure comes from its notes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from enum import Enum
from functools import singledispatchmethod

from forkserve.master import signals
from forkserve.master.notify import ServiceManager, microseconds
from forkserve.supervisor import actions as note
from forkserve.supervisor.actions import Departure
from forkserve.supervisor.events import Event, ReloadRequested, SettingsRejected
from forkserve.supervisor.phases import Phase
from forkserve.supervisor.state import FOREVER, Policy, Stage, State

MARGIN = 5.0
"""Seconds. From the deadline of a process until the master has said what comes of it."""

NEGLIGIBLE = 1.0
"""Seconds, less than the margin, for which nothing is said: many workers are born together."""

LONGEST_PATIENCE = 24 * 3600.0
"""Seconds that are asked for where there is no deadline."""

RETRY = 1.0
"""Seconds. How soon a manager that does not read is tried again."""

LONGEST_FAILURE = 300
"""Characters of a failure. systemd drops a message of more than 4096 bytes."""


class Moment(Enum):
    """Where the service is in the manager's eyes."""

    STARTING = "starting"
    READY = "ready"
    RELOADING = "reloading"
    STOPPING = "stopping"


class Reporter:
    """Tells the service manager, if there is one, how it goes."""

    def __init__(self, manager: ServiceManager, policy: Callable[[], Policy]) -> None:
        """``policy`` says which is in force: a reload may bring another."""
        self._manager = manager
        self._policy = policy
        self._listens = manager.listens
        self._moment = Moment.STARTING
        self._since = time.monotonic()
        """When it began."""

        self._granted = 0.0
        """Until when we have asked for patience."""

        self._reading = False
        """A reload was asked for, and its settings are being read."""

        self._failure = ""
        self._verdict: object = None
        """The failure for which a generation was dropped."""

        self._because = ""
        """Why it stops."""

        self._status = self._said = ""
        self._next_beat = 0.0 if manager.watchdog else FOREVER
        self._next_try = FOREVER

    # -- the watchdog, and what has not been heard ------------------------------------

    def due(self) -> float:
        """When :meth:`turn` has something to do (monotonic seconds, or infinity)."""
        return min(self._next_beat, self._next_try)

    def turn(self, now: float) -> None:
        """The master's loop has turned, and has seen to all that it had to see to."""
        if now >= self._next_beat:
            self._manager.offer("WATCHDOG=1")
            # Not half of it, as is usual: a busy machine may be late.
            self._next_beat = now + self._manager.watchdog / 3
        if now >= self._next_try:
            self._manager.catch_up()
            self._say_status()
            self._plan_next_try(now)

    def _plan_next_try(self, now: float) -> None:
        behind = self._manager.is_behind or self._status != self._said
        self._next_try = now + RETRY if behind else FOREVER

    # -- another master takes over ----------------------------------------------------

    def wait_for_its_turn(self) -> None:
        """Another master speaks for the service, until :meth:`main_pid` is told our own."""
        self._listens, self._next_beat = False, FOREVER

    def main_pid(self, pid: int) -> None:
        """From now on ``pid`` is the master, and speaks for the service; if that is somebody
        else, we say no more."""
        self._manager.say(f"MAINPID={pid}")
        self._listens = self._manager.listens and pid == os.getpid()
        if not self._listens:
            self._status, self._next_beat = self._said, FOREVER
        else:  # what we have said before has not been heeded
            self._said = ""
            self._next_beat = 0.0 if self._manager.watchdog else FOREVER
        self._plan_next_try(time.monotonic())

    def environment(self) -> dict[str, str]:
        """What another master needs in its environment to speak to the same manager."""
        return self._manager.environment()

    def close(self) -> None:
        self._manager.close()

    # -- the moments ------------------------------------------------------------------

    def reload_asked(self, now: float) -> None:
        """The signal for a reload has come; an event follows once its settings are read."""
        if not self._listens or self._moment in (Moment.STARTING, Moment.STOPPING):
            return
        self._reading = True
        self._begin(Moment.RELOADING, now)
        # When we took the signal: systemd holds that against when it sent it.
        self._manager.say("RELOADING=1", f"MONOTONIC_USEC={microseconds(now)}")

    def follow(self, event: Event, state: State) -> None:
        """``event`` has happened, and ``state`` is what came of it."""
        if not self._listens:
            return
        if isinstance(event, ReloadRequested | SettingsRejected):
            self._reading = False
        now = event.now
        self._status = f"STATUS={status(state, self._failure, self._because)}"
        if lines := self._new_moment(event, state):
            self._manager.say(*lines, self._status)
            self._said = self._status
        self._say_status()
        self._ask_for_patience(state, now)
        self._plan_next_try(now)

    def _new_moment(self, event: Event, state: State) -> tuple[str, ...]:
        """What is to be said if another moment has come, or the same one again."""
        if state.stopping:
            if self._moment is Moment.STOPPING:
                return ()
            self._begin(Moment.STOPPING, event.now)
            return ("STOPPING=1",)
        if self._moment is not Moment.READY and _is_settled(state) and not self._reading:
            self._begin(Moment.READY, event.now)
            return ("READY=1",)
        return ()

    def _begin(self, moment: Moment, now: float) -> None:
        # The manager has a timeout of its own for each.
        self._moment, self._since, self._granted = moment, now, 0.0

    def _say_status(self) -> None:
        if self._status != self._said and self._manager.offer(self._status):
            self._said = self._status

    # -- patience ---------------------------------------------------------------------

    def _ask_for_patience(self, state: State, now: float) -> None:
        """Have the manager wait as long as we do."""
        until = min(self._needed_until(state), self._since + LONGEST_PATIENCE) + MARGIN
        if until > now + MARGIN and until > self._granted + NEGLIGIBLE:
            self._manager.say(f"EXTEND_TIMEOUT_USEC={microseconds(until - now)}")
            self._granted = until

    def _needed_until(self, state: State) -> float:
        if state.stopping:
            return (state.stop_began or 0.0) + self._policy().graceful_timeout + 1.0
        # Who keeps dying shall not hold up a start for ever.
        if self._moment is Moment.READY or state.backoff.looping or state.template_backoff.looping:
            return 0.0
        starting = (p.deadline for p in state.processes() if p.phase is Phase.STARTING)
        return max(starting, default=0.0)

    # -- failures ---------------------------------------------------------------------

    @singledispatchmethod
    def tell(self, what: note.Note) -> None:
        """Most notes are no failures."""

    @tell.register
    def _(self, what: note.Stopping) -> None:
        self._because = f"because of {what.because}"

    @tell.register
    def _(self, what: note.FirstBootFailed) -> None:
        self._because = f"because it cannot start: {_one_line(what.failure.headline)}"

    @tell.register
    def _(self, what: note.GenerationDropped) -> None:
        self._verdict = what.failure
        self._fails(f"reload of generation {what.generation}: {what.failure.headline}")

    @tell.register
    def _(self, what: note.ReloadRefused) -> None:
        self._fails(f"reload: {what.failure.headline}")

    @tell.register
    def _(self, what: note.ReloadDone) -> None:
        self._failure = ""  # it was of code that is gone

    @tell.register
    def _(self, what: note.WorkerOverdue) -> None:
        if what.departure is not Departure.CUT_OFF:
            self._fails(f"worker {what.worker_id} {what.departure.value}")

    @tell.register
    def _(self, what: note.WorkerGone) -> None:
        told = (Departure.HUNG, Departure.BOOT_TIMED_OUT)  # when it was overdue
        if what.planned or not what.next or what.departure in told:
            return
        if what.failure and what.failure == self._verdict:
            return
        why = f": {what.failure.headline}" if what.failure else ""
        how = _how(what.exit.signal, what.departure)
        self._fails(f"worker {what.worker_id} {how}{why}")

    @tell.register
    def _(self, what: note.TemplateGone) -> None:
        if not what.planned and what.next:
            why = f": {what.failure.headline}" if what.failure else ""
            self._fails(f"the template {_how(what.exit.signal, what.departure)}{why}")

    @tell.register
    def _(self, what: note.SwitchboardGone) -> None:
        if not what.planned and what.next:
            self._fails(f"the switchboard {_how(what.exit.signal, what.departure)}")

    @tell.register
    def _(self, what: note.ForkRefused) -> None:
        self._fails(f"the system refused a new process ({what.error})")

    def _fails(self, what: str) -> None:
        at = time.strftime("%Y-%m-%d %H:%M:%S")
        self._failure = f"last failure at {at}: {_one_line(what)}"


def _is_settled(state: State) -> bool:
    """Whether the first generation is all there, and no reload is under way."""
    return state.all_ready_once and state.trial is None and state.reload_began is None


def status(state: State, failure: str = "", because: str = "") -> str:
    """How it goes, in one line, for ``systemctl status``.

    ``failure``: the last one, in words. ``because``: why it stops.
    """
    if state.stage is Stage.STOPPED:
        return f"stopped {because}"
    if state.stopping:
        return f"stopping {because}; {_count(len(state.workers))} left"
    start = "" if state.all_ready_once else "starting: "
    parts = [
        f"{start}{_count(len(state.serving()))} ready, {state.target} wanted",
        f"generation {state.wanted_generation}",
        *_what_goes_on(state),
    ]
    return "; ".join([*parts, failure] if failure else parts)


def _what_goes_on(state: State) -> list[str]:
    goes_on = []
    if state.current and state.trial is not None:
        goes_on.append(f"reload: generation {state.trial} is tried")
    elif state.reload_began is not None:
        older = sum(w.generation != state.current for w in state.serving())
        goes_on.append(f"reload: {_count(older)} of older generations to replace")
    if any(b.until > float("-inf") for b in (state.backoff, state.template_backoff)):
        goes_on.append("they keep dying young, so the next one waits")
    return goes_on


def _how(signal: int | None, departure: Departure) -> str:
    if departure is Departure.CRASHED and signal:
        return f"was ended by {signals.name(signal)}"
    return departure.value


def _count(workers: int) -> str:
    return f"{workers} worker" if workers == 1 else f"{workers} workers"


def _one_line(text: str) -> str:
    """``text`` as a value: a line break would begin another field, and systemd ignores a
    message with a zero byte in it."""
    printable = "".join(c if c.isprintable() else " " for c in text)
    line = " ".join(printable.split())
    return line if len(line) <= LONGEST_FAILURE else f"{line[:LONGEST_FAILURE]}…"

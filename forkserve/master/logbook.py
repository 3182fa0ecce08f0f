"""What the master says: one line an event, for whoever reads it at 3 a.m.

Each note of the supervisor has one function here that puts it into words: who, what,
why, and what next.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from functools import singledispatchmethod
from time import monotonic

from forkserve.config.reading import Reading
from forkserve.config.settings import Settings, changed
from forkserve.logs import outputs
from forkserve.logs.files import LogFds
from forkserve.master import signals
from forkserve.master.kernel import process_state
from forkserve.master.persons import Person, Persons
from forkserve.memory import mebibytes
from forkserve.readings import Snapshot
from forkserve.supervisor import actions as note
from forkserve.supervisor.actions import Departure
from forkserve.supervisor.events import Exit
from forkserve.supervisor.failures import BootFailure

log = logging.getLogger("forkserve")


def configure(settings: Settings, fds: LogFds) -> None:
    """Send what the master says to the error log, in this process."""
    log.handlers = outputs.of_errors(settings, fds.error, speaks=True)
    log.setLevel(settings.log_level.upper())
    log.propagate = False


class Logbook:
    """Puts notes into words."""

    def __init__(self, persons: Persons, urls: list[str], app: str) -> None:
        self._who = persons.worker
        self._which = persons.template
        self._board = persons.switchboard
        self._said_encrypted = False
        self._traceback = ""
        """The one that was shown last."""

        self._urls = ", ".join(urls)
        self._app = app

    def opening(self, workers: int, predecessor: int | None = None) -> None:
        upgrade = f" to replace master pid {predecessor}" if predecessor else ""
        log.info(
            "forkserve starts%s: master pid %d listens on %s and makes %s of %s",
            upgrade,
            os.getpid(),
            self._urls,
            _count(workers, "worker"),
            self._app,
        )

    def connections_are_encrypted(self) -> None:
        """Said once, although each worker says so."""
        if not self._said_encrypted:
            log.info(
                "connections are encrypted, so they stay with their worker: the switchboard "
                "holds plaintext ones only"
            )
        self._said_encrypted = True

    def read_anew(self, reading: Reading, old: Settings) -> None:
        """For a reload. What has changed and cannot take effect is said."""
        for warning in reading.notes:
            log.warning("%s", warning)
        if fixed := [o.name for o in changed(reading.settings, old) if o.fixed]:
            log.warning(
                "reload: %s cannot be changed while the master runs, and is as before; "
                "SIGUSR2 brings a master that takes it up",
                " and ".join(fixed),
            )

    def cannot_start(self, failure: BootFailure) -> None:
        why = _reason(failure)
        block = self._end_of_traceback(failure)
        log.critical("cannot start %s. %s", self._app, why, extra=block)

    def trouble(self, person: Person, what: str) -> None:
        """Somebody meets a difficulty, and says which in the words that follow its name."""
        log.warning("%s %s", person.name, what)

    def _end_of_traceback(self, failure: BootFailure) -> dict[str, str]:
        self._traceback = failure.details
        return _block(failure.details)

    def _unless_seen(self, failure: BootFailure) -> dict[str, str]:
        """Those of a crash loop die of the same, one after the other."""
        seen = failure.details == self._traceback
        return {} if seen else self._end_of_traceback(failure)

    @singledispatchmethod
    def tell(self, what: note.Note) -> None:
        log.info("%r", what)

    @tell.register
    def _(self, what: note.WorkerServes) -> None:
        log.info(
            "%s is ready after %.2f s; %d ready, %d wanted",
            self._who(what.worker_id).name,
            what.after,
            what.ready,
            what.target,
        )

    @tell.register
    def _(self, what: note.SpareReady) -> None:
        log.info(
            "%s is ready after %.2f s, as a spare that does not accept yet",
            self._who(what.worker_id).name,
            what.after,
        )

    @tell.register
    def _(self, what: note.SparePromoted) -> None:
        log.info(
            "%s was a spare and accepts from now on; %d ready, %d wanted",
            self._who(what.worker_id).name,
            what.ready,
            what.target,
        )

    @tell.register
    def _(self, what: note.WorkerWorn) -> None:
        log.info(
            "%s will be recycled, its replacement first: %s",
            self._who(what.worker_id).name,
            what.because,
        )

    @tell.register
    def _(self, what: note.BootExtended) -> None:
        person = (
            self._who(what.worker_id)
            if what.worker_id is not None
            else self._which(what.template_id or 0)
        )
        log.info("%s asks for up to %.0f s more to become ready", person.name, what.seconds)

    @tell.register
    def _(self, what: note.AllReady) -> None:
        log.info(
            "serving %s on %s: all %d workers are ready after %.2f s",
            self._app,
            self._urls,
            what.workers,
            what.after,
        )

    @tell.register
    def _(self, what: note.WorkerOverdue) -> None:
        person = self._who(what.worker_id)
        if what.departure is Departure.HUNG:
            log.error(
                "%s hangs: its event loop has not turned for %g s%s; it is killed and replaced, "
                "its stacks follow",
                person.name,
                what.limit,
                _busy_with(person.seen),
            )
        elif what.departure is Departure.BOOT_TIMED_OUT and person.pid is None:
            log.error(
                "%s was asked of a template that has ended, and nothing was heard of it for %g s; "
                "it is given up",
                person.name,
                what.limit,
            )
        elif what.departure is Departure.BOOT_TIMED_OUT:
            log.error(
                "%s is not ready after %g s (--boot-timeout); it is killed, its stacks follow",
                person.name,
                what.limit,
            )
        else:
            log.warning(
                "%s has not drained within %.1f s%s; it is killed",
                person.name,
                what.limit,
                _busy_with(person.seen),
            )

    @tell.register
    def _(self, what: note.LoopBlocked) -> None:
        person = self._who(what.worker_id)
        log.warning(
            "%s is blocked: its event loop has not turned for %.1f s%s; it is left alone, %s",
            person.name,
            what.seconds,
            _busy_with(person.asked_while),
            "its stacks follow" if what.stack else _why_without_stacks(person),
            extra=_block(what.stack),
        )

    @tell.register
    def _(self, what: note.LoopTurns) -> None:
        name = self._who(what.worker_id).name
        log.info("%s turns again: its event loop was blocked for %.1f s", name, what.seconds)

    @tell.register
    def _(self, what: note.WorkerImmortal) -> None:
        person = self._who(what.worker_id)
        state = process_state(person.pid) if person.pid else ""
        doing = f" (it is {state})" if state else ""
        log.error("%s was sent SIGKILL and is still there%s; trying again", person.name, doing)

    @tell.register
    def _(self, what: note.WorkerLeaves) -> None:
        log.info("%s drains and leaves: %s", self._who(what.worker_id).name, what.because)

    @tell.register
    def _(self, what: note.WorkerGone) -> None:
        person = self._who(what.worker_id)
        next_ = f"; {what.next}" if what.next else ""
        text = (
            f"{person.name} {_ending(what)} after {_duration(what.age)}"
            f"{_record(person.seen, what.planned)}{_size(person.peak, what)}{next_}"
        )
        stopping = not what.next
        if stopping and what.departure in (Departure.FAILED_TO_BOOT, Departure.NOT_NEEDED):
            log.debug("%s", text)  # why has been said, once for all of them
        elif what.planned:
            as_wanted = what.exit.code == 0 or _left_as_asked(what)
            log.log(logging.INFO if as_wanted else logging.WARNING, "%s", text)
        elif what.departure is Departure.FAILED_TO_BOOT and what.failure:
            where = f" ({what.failure.where})" if what.failure.where else ""
            block = self._unless_seen(what.failure)
            log.error("%s: %s%s", text, what.failure.headline, where, extra=block)
        else:
            log.error("%s", text, extra=_block(what.stack))

    @tell.register
    def _(self, what: note.TemplateServes) -> None:
        log.info(
            "%s is ready after %.2f s: workers are forked from it",
            self._which(what.template_id).name,
            what.after,
        )

    @tell.register
    def _(self, what: note.TemplateRejected) -> None:
        log.warning(
            "%s cannot be shared between workers, so each worker of generation %d imports it by "
            "itself. The app has opened at import: %s. (--preload shares it all the same, "
            "--no-preload saves the try.)",
            self._app,
            what.generation,
            what.findings,
        )

    @tell.register
    def _(self, what: note.TemplateOverdue) -> None:
        person = self._which(what.template_id)
        if what.departure is Departure.BOOT_TIMED_OUT:
            failing = f"is not ready after {what.limit:g} s (--boot-timeout)"
        else:
            failing = f"was told to fork a worker and has not for {what.limit:g} s"
        log.error("%s %s; it is killed, its stacks follow", person.name, failing)

    @tell.register
    def _(self, what: note.TemplateGone) -> None:
        person = self._which(what.template_id)
        if what.planned:
            log.debug("%s has left", person.name)
            return
        how = _how_it_ended(what.exit)
        if what.departure is not Departure.CRASHED:
            how += f" ({what.departure.value})"
        failure = f": {what.failure.headline}" if what.failure else ""
        next_ = f"; its workers live on, {what.next}" if what.next else ""
        # Why a first boot has failed has been said already.
        told = what.departure in (Departure.FAILED_TO_BOOT, Departure.NOT_NEEDED)
        level = logging.DEBUG if told and not next_ else logging.ERROR
        age = _duration(what.age)
        said = "%s %s after %s%s%s"
        block = self._unless_seen(what.failure) if what.failure else _block(what.stack)
        log.log(level, said, person.name, how, age, next_, failure, extra=block)

    @tell.register
    def _(self, what: note.SwitchboardServes) -> None:
        level = logging.DEBUG if what.switchboard_id == 1 else logging.INFO
        name = self._board(what.switchboard_id).name
        log.log(level, "%s is ready after %.2f s", name, what.after)

    @tell.register
    def _(self, what: note.SwitchboardLeaves) -> None:
        log.info(
            "%s was asked to leave by a signal from outside; its successor gets the connections "
            "that wait there",
            self._board(what.switchboard_id).name,
        )

    @tell.register
    def _(self, what: note.SwitchboardOverdue) -> None:
        person = self._board(what.switchboard_id)
        killed = "it is killed, its stacks follow"
        if what.departure is Departure.HUNG:
            failing = f"hangs: its loop has not turned for {what.limit:g} s"
        elif what.departure is Departure.BOOT_TIMED_OUT:
            failing = f"is not ready after {what.limit:g} s"
        else:
            failing, killed = f"has not left within {what.limit:.1f} s", "it is killed"
        holding = f", with {held}" if (held := _held(*person.held)) else ""
        log.error("%s %s%s; %s", person.name, failing, holding, killed)

    @tell.register
    def _(self, what: note.SwitchboardGone) -> None:
        person = self._board(what.switchboard_id)
        next_ = f"; {what.next}" if what.next else ""
        how, age = _how_it_ended(what.exit), _duration(what.age)
        if what.exit.code == 0 and what.planned:
            level = logging.INFO if next_ else logging.DEBUG
            log.log(level, "%s has left after %s%s", person.name, age, next_)
            return
        held = f", and with it went {lost}" if (lost := _held(*person.held)) else ""
        level = logging.ERROR if next_ else logging.WARNING if held else logging.DEBUG
        block = _block(what.stack)
        log.log(level, "%s %s after %s%s%s", person.name, how, age, held, next_, extra=block)

    @tell.register
    def _(self, what: note.ParkingBegins) -> None:
        log.info(
            "requests hold others up in %s: from now on idle keep-alive connections wait at the "
            "switchboard, for whichever worker is free",
            self._who(what.worker_id).name,
        )

    @tell.register
    def _(self, what: note.ParkingEnds) -> None:
        log.info("no handler holds others up any more: connections stay with their worker")

    @tell.register
    def _(self, what: note.ForkRefused) -> None:
        log.error(
            "the system refused a new process (%s); trying again in %.1f s", what.error, what.delay
        )

    @tell.register
    def _(self, what: note.BackingOff) -> None:
        if what.out_of_memory:
            log.warning(
                "memory is short, so the next worker is made in %.1f s and not at once; fewer "
                "workers (TTOU, -w) or a higher limit may help",
                what.delay,
            )
            return
        log.warning(
            "workers keep dying young (%d times in a row); the next is made in %.1f s",
            what.rounds,
            what.delay,
        )

    @tell.register
    def _(self, what: note.ReloadBegins) -> None:
        instead = f", instead of generation {what.superseded}" if what.superseded else ""
        meanwhile = (
            f"; generation {what.serving} keeps serving until a worker of it is ready"
            if what.serving
            else ""
        )
        log.info("reload: generation %d is tried%s%s", what.generation, instead, meanwhile)

    @tell.register
    def _(self, what: note.GenerationAccepted) -> None:
        log.info(
            "reload: generation %d can serve (worker %d is ready); %s of older generations "
            "to replace, at most %d at a time",
            what.generation,
            what.canary,
            _count(what.to_replace, "worker"),
            what.surge,
        )

    @tell.register
    def _(self, what: note.ReloadDone) -> None:
        log.info(
            "reload done: all %d workers are of generation %d after %.2f s",
            what.workers,
            what.generation,
            what.after,
        )

    @tell.register
    def _(self, what: note.GenerationDropped) -> None:
        log.error(
            "reload failed: generation %d is dropped and generation %d keeps serving. %s",
            what.generation,
            what.serving,
            _reason(what.failure),
            extra=self._end_of_traceback(what.failure),
        )

    @tell.register
    def _(self, what: note.ReloadRefused) -> None:
        log.error(
            "reload failed: generation %d keeps serving, with the settings that it has. %s",
            what.serving,
            _reason(what.failure),
            extra=_block(what.failure.details),
        )

    @tell.register
    def _(self, what: note.FirstBootFailed) -> None:
        self.cannot_start(what.failure)

    @tell.register
    def _(self, what: note.Scaled) -> None:
        log.info("%s wanted now (before: %d)", _count(what.target, "worker"), what.before)

    @tell.register
    def _(self, what: note.ScaleRefused) -> None:
        log.warning(
            "%d workers cannot be had: between %d and %d are possible",
            what.target,
            what.lowest,
            what.highest,
        )

    @tell.register
    def _(self, what: note.Ignored) -> None:
        log.info("%s ignored: %s", what.request, what.because)

    @tell.register
    def _(self, what: note.Waits) -> None:
        log.info("%s waits: %s", what.request, what.because)

    @tell.register
    def _(self, what: note.UpgradeBegins) -> None:
        log.info(
            "upgrade: a new master (pid %d) starts; this one serves until that can",
            what.pid,
        )

    @tell.register
    def _(self, what: note.UpgradeFailed) -> None:
        who = f"the new master (pid {what.pid})" if what.pid else "a new master"
        log.error(
            "upgrade failed: %s cannot take over, and this one serves on. %s",
            who,
            _reason(what.failure),
        )

    @tell.register
    def _(self, what: note.UpgradeDone) -> None:
        log.info(
            "upgrade: the new master (pid %d) takes over after %.2f s; %s of this one may finish "
            "within %.1f s",
            what.pid,
            what.after,
            _count(what.workers, "worker"),
            what.limit,
        )

    @tell.register
    def _(self, what: note.MasterOverdue) -> None:
        log.error("the new master has not left within %.1f s; it is killed", what.limit)

    @tell.register
    def _(self, what: note.MasterGone) -> None:
        how = _how_it_ended(what.exit)
        if what.served:
            log.error("the new master (pid %d) %s; nobody comes after this one", what.pid, how)
        else:
            log.info("the new master (pid %d) %s", what.pid, how)

    @tell.register
    def _(self, what: note.TookOver) -> None:
        log.info(
            "upgrade done: this master (pid %d) has taken over from pid %d; %d ready",
            os.getpid(),
            what.predecessor,
            what.workers,
        )

    @tell.register
    def _(self, what: note.PredecessorLeft) -> None:
        if what.died:
            log.warning(
                "the old master (pid %d) has died; this one (pid %d) goes on alone",
                what.predecessor,
                os.getpid(),
            )
        else:
            log.info("the old master (pid %d) has left", what.predecessor)

    @tell.register
    def _(self, what: note.Stopping) -> None:
        workers = _count(what.workers, "worker")
        if what.limit:
            log.info(
                "stopping because of %s: %s may finish within %.1f s",
                what.because,
                workers,
                what.limit,
            )
        else:
            log.warning("stopping at once because of %s: killing %s", what.because, workers)

    @tell.register
    def _(self, what: note.LivenessExcused) -> None:
        log.warning(
            "the master itself did not run for %.1f s; no worker is judged by its heartbeat "
            "this round",
            what.late,
        )

    @tell.register
    def _(self, what: note.Stopped) -> None:
        log.info("stopped after %.2f s, exit code %d", what.after, what.code)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, _ = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _held(idle: int, waiting: int) -> str:
    """What a switchboard holds, in words, or empty."""
    words = [_count(idle, "idle connection")] if idle else []
    words += [f"{waiting} with a request"] if waiting else []
    return " and ".join(words)


def _how_it_ended(exit: Exit) -> str:
    number = exit.signal
    if not number:
        return f"exited with {exit.code}"
    return f"was ended by {signals.name(number)}{_by_whom(exit)}"


def _by_whom(exit: Exit) -> str:
    if exit.oom is None:
        return ""
    if not exit.oom:
        return " (from outside, not by the kernel's OOM killer)"
    limit = f"the cgroup's limit is {mebibytes(exit.limit)}, and " if exit.limit else ""
    return f" (out of memory: {limit}it had up to {mebibytes(exit.peak)})"


def _left_as_asked(what: note.WorkerGone) -> bool:
    """Whether it drained. One that has not come so far as to serve just ends by the signal."""
    as_asked = (0, -signal.SIGTERM, -signal.SIGINT)
    return what.departure is Departure.DRAINED and what.exit.code in as_asked


def _ending(what: note.WorkerGone) -> str:
    how = _how_it_ended(what.exit)
    if _left_as_asked(what):
        return "has left"
    if what.departure is Departure.CRASHED:
        return how
    return f"{how} ({what.departure.value})"


def _record(seen: Snapshot | None, planned: bool) -> str:
    if seen is None:
        return ""
    busy = "" if planned and not seen.in_flight else _busy_with(seen)
    return f" and {_count(seen.requests, 'request')}{busy}"


def _size(peak: int, what: note.WorkerGone) -> str:
    """The memory of one that did not go by itself, where that may have been the reason."""
    boot = what.departure in (Departure.FAILED_TO_BOOT, Departure.NOT_NEEDED)
    told = bool(what.exit.oom)  # by _by_whom
    if not peak or boot or told or what.exit.code == 0 or _left_as_asked(what):
        return ""
    return f", with up to {mebibytes(peak)} of memory"


def _busy_with(seen: Snapshot | None) -> str:
    if seen is None or not seen.in_flight:
        return ""
    others = f" and {seen.in_flight - 1} more" if seen.in_flight > 1 else ""
    since = monotonic() - seen.serving_since
    return f", serving {seen.serving} for {since:.1f} s{others}"


def _why_without_stacks(person: Person) -> str:
    state = process_state(person.pid) if person.pid else ""
    return "and it does not show where" + (f" (it is {state})" if state else "")


def _reason(failure: BootFailure) -> str:
    where = f" ({failure.where})" if failure.where else ""
    return f"{failure.headline}{where}"


def _block(text: str) -> dict[str, str]:
    """What stands below a line: a stack, or the end of a traceback (``logs.lines``)."""
    return {"details": text}


def to_stderr(sentence: str) -> None:
    """Say one sentence to the user at the command line."""
    try:
        print(f"forkserve: {sentence}", file=sys.stderr, flush=True)
    except (OSError, ValueError):
        pass

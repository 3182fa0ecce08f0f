"""The hooks that the master calls, each in a process apart: which is due, and until when.

Only ``on_starting`` and ``on_exit`` are waited for; the supervisor knows of none. Of each
hook one process runs at a time, and what comes meanwhile is for the next: so the deaths of
many workers are told by one or two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf
from time import monotonic

from forkserve.config.settings import Settings
from forkserve.hooks.views import Worker
from forkserve.master.family import HookChild
from forkserve.master.lives import Life, Means, Phase
from forkserve.master.logbook import log
from forkserve.supervisor import actions as note
from forkserve.supervisor.events import Exit
from forkserve.supervisor.failures import BootFailure

LONGEST = 60.0
"""Seconds that a hook may take that nobody waits for."""

LONGEST_FAREWELL = 10.0
"""Seconds that hooks may hold up the end of the master, at most ..."""

SHORTEST_FAREWELL = 1.0
"""... and that on_exit has in any case, however long the workers have taken to leave."""

MOST_DEATHS = 512
"""So many workers' ends may wait to be told. More come only where child_exit hangs."""


@dataclass(slots=True)
class _Run(Life[HookChild]):
    """One process that calls a hook."""

    failures: list[BootFailure] = field(default_factory=list)


class HookCalls:
    """What has been called, and what is still to be called."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        fork: Callable[[str, Sequence[Worker]], HookChild],
        means: Means,
    ) -> None:
        """``settings`` says which are in force; ``fork`` makes a process that calls this
        hook, and raises OSError if it cannot."""
        self._settings = settings
        self._fork = fork
        self._means = means
        self._waiting: dict[str, list[Worker]] = {}
        self._running: dict[str, _Run] = {}
        self._until = inf
        """When the last hook but on_exit must have ended, once the master is to stop."""
        self._ending = False
        self._cut_short = False
        self.start_failure: BootFailure | None = None
        """Why on_starting has failed, if it has."""

    @property
    def busy(self) -> bool:
        """Whether any is running, or is still to be called."""
        return bool(self._running or self._waiting)

    def call(self, name: str, worker: Worker | None = None) -> None:
        """Call the hook ``name``, if the user has one, as soon as the one before has ended."""
        if not any(hook.name == name for hook in self._settings().hooks):
            return
        workers = self._waiting.setdefault(name, [])
        if worker is not None and len(workers) < MOST_DEATHS:
            workers.append(worker)
        self._go_on()

    def hear(self, what: note.Note) -> None:
        """The master notes something: it may be the moment for a hook."""
        match what:
            case note.AllReady():
                self.call("when_ready")
            case note.ReloadBegins():
                self.call("on_reload")
            case note.Stopping(limit=limit):
                self._until = monotonic() + limit
                if self._ending and not limit:
                    self.end_at_once()

    def say_goodbye(self) -> None:
        """Everybody else has gone: on_exit, as soon as what runs has ended or must end."""
        now = monotonic()
        left = min(self._until - now, LONGEST_FAREWELL)
        self._until = now + max(left, SHORTEST_FAREWELL)
        self._ending = True
        for run in self._running.values():
            run.deadline = min(run.deadline, self._until)
        self.call("on_exit")

    def end_at_once(self) -> None:
        """Kill what runs, and call nothing more."""
        self._waiting.clear()
        self._cut_short = True
        for run in self._running.values():
            if run.phase is not Phase.KILLED:
                run.killed_because = "the master stops"
                run.kill(self._means, monotonic())

    # -- what becomes of it -----------------------------------------------------------

    def extend(self, child: HookChild, seconds: float) -> None:
        """on_starting may ask for more time, as an app may; the others have what they have."""
        run = self._running.get(child.hook)
        if run and child.hook == "on_starting" and run.phase is Phase.LIVES and seconds > 0:
            run.deadline = max(run.deadline, monotonic() + seconds)

    def has_failed(self, child: HookChild, failure: BootFailure) -> None:
        """It says so itself."""
        if run := self._running.get(child.hook):
            self._fail(run, failure)

    def has_ended(self, child: HookChild, exit: Exit, stack: str) -> None:
        """Its process has been waited for."""
        run = self._running.get(child.hook)
        if run is None or run.child is not child:
            return
        del self._running[child.hook]
        if exit.code and not run.failures:
            failed = "" if run.killed_because else "has failed: its process "
            headline = f"The hook {child.hook} {failed}{run.ended(exit)}."
            self._fail(run, BootFailure(headline, "", stack))
        elif not run.failures:
            took = monotonic() - run.born
            log.debug("the hook %s (pid %d) has ended after %.2f s", child.hook, child.pid, took)
        self._go_on()

    def _fail(self, run: _Run, failure: BootFailure) -> None:
        run.failures.append(failure)
        if run.child.hook == "on_starting" and not self._cut_short:
            self.start_failure = failure
        else:
            log.error("%s", failure)

    # -- deadlines --------------------------------------------------------------------

    def next_deadline(self) -> float:
        return min((run.deadline for run in self._running.values()), default=inf)

    def alarm(self, now: float) -> None:
        """See to those whose time is over."""
        for run in [r for r in self._running.values() if r.deadline <= now]:
            because = f"it has not ended within {now - run.born:.1f} s"
            if run.go_further(self._means, now, because):
                self._give_up(run)

    def _give_up(self, run: _Run) -> None:
        del self._running[run.child.hook]
        log.error(
            "the process of the hook %s (pid %d) was sent SIGKILL and is still there; it is left "
            "alone",
            run.child.hook,
            run.child.pid,
        )
        self._go_on()

    # -- what comes next --------------------------------------------------------------

    def _go_on(self) -> None:
        """Make the processes that can be made now. on_exit comes after all others."""
        for name in [n for n in self._waiting if n not in self._running and n != "on_exit"]:
            self._start(name, monotonic())
        if "on_exit" in self._waiting and not self._running:
            self._start("on_exit", monotonic())

    def _start(self, name: str, now: float) -> None:
        workers = self._waiting.pop(name)
        limit = self._limit(name, now)
        if limit <= 0:
            log.error("the hook %s is not called: there is no time left before the end", name)
            return
        try:
            child = self._fork(name, workers)
        except OSError as exc:
            failure = BootFailure(f"The hook {name} could not be called: {exc.strerror}.")
            if name == "on_starting":
                self.start_failure = failure
            else:
                log.error("%s", failure)
            return
        self._running[name] = _Run(child, now, now + limit)
        if name == "on_starting":
            log.info("the hook on_starting (pid %d) comes first, then the workers", child.pid)
        elif name == "on_exit":
            log.info("the hook on_exit (pid %d) comes last, within %.1f s", child.pid, limit)

    def _limit(self, name: str, now: float) -> float:
        """Seconds that it may take."""
        if name == "on_starting":
            return self._settings().boot_timeout or inf
        if name == "on_exit":
            return max(self._until - now, SHORTEST_FAREWELL)
        return min(LONGEST, self._until - now) if self._ending else LONGEST

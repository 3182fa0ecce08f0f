"""An event in, actions out: first observe, then reconcile."""

from __future__ import annotations

import signal
from functools import singledispatchmethod

from forkserve.supervisor import actions as do
from forkserve.supervisor import events as on
from forkserve.supervisor.actions import Action, Departure
from forkserve.supervisor.backoff import STABLE_AFTER, Backoff
from forkserve.supervisor.events import BootFailure, Event
from forkserve.supervisor.reconcile import plan
from forkserve.supervisor.state import FOREVER, Phase, Policy, Stage, State, Worker

TRIAL_PATIENCE = 3
"""How often, for each worker that tries it, a generation may be killed from outside
(SIGKILL, say) before it was ever ready, until that too counts as unable to boot."""

LATE = 0.5
"""Seconds. A verdict that comes later than this after it was due was held up because
the master itself did not run, and then the workers may not have run either."""

_OWN_FAULT = frozenset(
    {
        signal.SIGILL,
        signal.SIGTRAP,
        signal.SIGABRT,
        signal.SIGBUS,
        signal.SIGFPE,
        signal.SIGSEGV,
        signal.SIGSYS,
    }
)
"""Signals by which a process ends through its own doing (signal(7))."""


class Supervisor:
    """The pure brain of the master. See the package's theory of operation."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.state = State(target=policy.workers, backoff=Backoff(seed=policy.seed))
        self._out: list[Action] = []

    def handle(self, event: Event) -> list[Action]:
        """Take note of ``event`` and return what is to be done, in that order."""
        self._out = []
        self._observe(event)
        self._reconcile(event.now)
        return self._out

    def next_deadline(self) -> float:
        """When an :class:`~.events.Alarm` is due (monotonic seconds, or infinity)."""
        state = self.state
        due = [self._due(w) for w in state.workers.values()]
        if not state.stopping and state.backoff.until > float("-inf"):
            due.append(state.backoff.until)
        return min(due, default=FOREVER)

    # -- observe: what each event changes in the record ------------------------------

    @singledispatchmethod
    def _observe(self, event: Event) -> None:
        raise TypeError(f"the supervisor does not know the event {event!r}")

    @_observe.register
    def _started(self, event: on.Started) -> None:
        self.state.started_at = event.now
        self.state.newest = self.state.trial = 1

    @_observe.register
    def _reload(self, event: on.ReloadRequested) -> None:
        state = self.state
        if state.stopping:
            self._out.append(do.Ignored("reload", "the master is stopping"))
            return
        state.backoff.stable()
        if state.trial is not None and not self._tried(state.trial):
            return  # its canary is not born yet and will import what is on disk then
        superseded, state.newest = state.trial, state.newest + 1
        state.trial = state.newest
        state.deaths_in_trial = 0
        if state.current and state.reload_began is None:
            state.reload_began = event.now
        self._out.append(do.ReloadBegins(state.newest, state.current or None, superseded))

    def _tried(self, generation: int) -> bool:
        return any(w.generation == generation for w in self.state.workers.values())

    @_observe.register
    def _scale(self, event: on.ScaleRequested) -> None:
        state, target = self.state, self.state.target + event.by
        if state.stopping:
            self._out.append(do.Ignored("scale", "the master is stopping"))
        elif not 1 <= target <= self.policy.most_workers:
            self._out.append(do.ScaleRefused(target, 1, self.policy.most_workers))
        else:
            self._out.append(do.Scaled(target, before=state.target))
            state.target = target

    @_observe.register
    def _terminate(self, event: on.TerminateRequested) -> None:
        self._stop(event.now, event.because, patient=True)

    @_observe.register
    def _interrupt(self, event: on.InterruptRequested) -> None:
        self.state.interrupts += 1
        if self.state.interrupts > 1:
            self._stop_at_once(event.now, "a second SIGINT")
        else:
            self._stop(event.now, "SIGINT", patient=False)

    @_observe.register
    def _quit(self, event: on.QuitRequested) -> None:
        self._stop_at_once(event.now, "SIGQUIT")

    @_observe.register
    def _resumed(self, event: on.Resumed) -> None:
        self._excuse(event.now)

    @_observe.register
    def _forked(self, event: on.Forked) -> None:
        worker = self.state.workers[event.worker_id]
        worker.pid = event.pid
        # It may have been given up while its birth was under way.
        if worker.phase is Phase.DRAINING:
            self._out.append(do.Drain(worker.id, event.pid, worker.patient))
        elif worker.phase is Phase.KILLED:
            self._kill(worker, event.now)

    @_observe.register
    def _fork_failed(self, event: on.ForkFailed) -> None:
        worker = self.state.workers.pop(event.worker_id)  # any phase -> exited
        backoff = self.state.backoff
        self._note_stability(worker, event.now)
        backoff.young_death(event.now, worker.born)
        # Unlike a death, a refused fork is never worth an immediate second try.
        backoff.until = max(backoff.until, event.now + 0.5)
        self._out.append(do.ForkRefused(event.error, backoff.until - event.now))

    @_observe.register
    def _ready(self, event: on.WorkerReady) -> None:
        state = self.state
        worker = state.workers.get(event.worker_id)
        if worker is None or worker.phase is not Phase.STARTING:
            return
        worker.phase = Phase.READY  # starting -> ready
        worker.ready_at = worker.beat = event.now
        worker.deadline = FOREVER
        if worker.generation == state.trial and not state.stopping:
            self._accept(worker)
        ready = len(state.in_phase(Phase.READY))
        self._out.append(do.WorkerServes(worker.id, event.now - worker.born, ready, state.target))

    def _accept(self, canary: Worker) -> None:
        state = self.state
        first = state.current == 0
        state.current, state.trial = canary.generation, None
        if state.stage is Stage.BOOTING:
            state.stage = Stage.SERVING  # booting -> serving
        if not first:
            old = sum(w.generation != state.current for w in state.staying())
            self._out.append(
                do.GenerationAccepted(state.current, canary.id, old, self.policy.surge)
            )

    @_observe.register
    def _boot_failed(self, event: on.WorkerBootFailed) -> None:
        worker = self.state.workers.get(event.worker_id)
        if worker is None or worker.phase is not Phase.STARTING:
            return
        worker.failure = event.failure
        worker.departure = Departure.FAILED_TO_BOOT
        # It has said its last word and only has to exit.
        worker.phase = Phase.DRAINING  # starting -> draining
        worker.deadline = event.now + self.policy.cutoff_grace
        self._count_young_death(worker, event.now)
        self._boot_verdict(worker, event.failure, event.now)

    @_observe.register
    def _leaving(self, event: on.WorkerLeaving) -> None:
        worker = self.state.workers.get(event.worker_id)
        if worker is None or not worker.staying:
            return
        worker.departure = Departure.LEFT
        worker.deadline = event.now + self._drain_limit(worker)
        worker.phase = Phase.DRAINING  # starting, ready -> draining
        self._out.append(do.WorkerLeaves(worker.id, "it was asked to by a signal from outside"))

    @_observe.register
    def _exited(self, event: on.WorkerExited) -> None:
        state = self.state
        worker = state.workers.pop(event.worker_id, None)  # any phase -> exited
        if worker is None:
            return
        was, worker.phase = worker.phase, Phase.EXITED
        departure = worker.departure or Departure.CRASHED
        planned = departure in (Departure.DRAINED, Departure.LEFT, Departure.CUT_OFF)
        gone = do.WorkerGone(
            worker.id,
            departure,
            event.exit,
            event.now - worker.born,
            planned,
            event.stack,
            worker.failure,
            self._what_next(worker),
        )
        self._out.append(gone)
        if not planned and not state.stopping:
            self._judge_death(worker, was, event)

    @_observe.register
    def _alarm(self, event: on.Alarm) -> None:
        for worker_id, beat in event.beats.items():
            if worker := self.state.workers.get(worker_id):
                worker.beat = max(worker.beat, beat)
        overdue = [w for w in self.state.workers.values() if self._due(w) <= event.now]
        if any(w.phase is Phase.READY and event.now - self._due(w) > LATE for w in overdue):
            late = max(event.now - self._due(w) for w in overdue if w.phase is Phase.READY)
            self._out.append(do.LivenessExcused(late))
            self._excuse(event.now)
            overdue = [w for w in overdue if w.phase is not Phase.READY]
        for worker in overdue:
            if self._due(worker) <= event.now:  # the verdict on another may have settled it
                self._overdue(worker, event.now)

    # -- verdicts ---------------------------------------------------------------------

    def _due(self, worker: Worker) -> float:
        """When something must be done about a worker that does nothing itself."""
        if worker.phase is not Phase.READY:
            return worker.deadline
        return worker.beat + self.policy.timeout if self.policy.timeout else FOREVER

    def _excuse(self, now: float) -> None:
        for worker in self.state.in_phase(Phase.READY):
            worker.beat = max(worker.beat, now)

    def _note_stability(self, dead: Worker, now: float) -> None:
        """One that was born in this row and lived on ends it."""
        backoff = self.state.backoff
        for worker in (dead, *self.state.workers.values()):
            lived = worker.ready_at is not None and now - worker.ready_at >= STABLE_AFTER
            if lived and worker.born >= backoff.raised_at:
                backoff.stable()

    def _overdue(self, worker: Worker, now: float) -> None:
        policy = self.policy
        if worker.phase is Phase.STARTING:  # starting -> killed
            self._condemn(worker, Departure.BOOT_TIMED_OUT, policy.boot_timeout, now)
            limit = f"it was not ready within the boot timeout of {policy.boot_timeout:g} s"
            self._boot_verdict(worker, BootFailure(f"Worker {worker.id} was killed: {limit}."), now)
        elif worker.phase is Phase.READY:  # ready -> killed
            self._condemn(worker, Departure.HUNG, policy.timeout, now)
        elif worker.phase is Phase.DRAINING:  # draining -> killed
            if worker.departure is not Departure.FAILED_TO_BOOT:
                worker.departure = Departure.CUT_OFF
                limit_s = self._drain_limit(worker)
                self._out.append(do.WorkerOverdue(worker.id, Departure.CUT_OFF, limit_s))
            self._kill(worker, now)
        else:
            if worker.killed_at is not None:
                self._out.append(do.WorkerImmortal(worker.id))
            self._kill(worker, now)

    def _condemn(self, worker: Worker, why: Departure, limit: float, now: float) -> None:
        """Kill it, but have it write its stacks first."""
        worker.phase = Phase.KILLED
        worker.departure = why
        worker.deadline = now + self.policy.dump_grace
        self._out.append(do.WorkerOverdue(worker.id, why, limit))
        if worker.pid is not None:
            self._out.append(do.DumpStacks(worker.id, worker.pid))

    def _kill(self, worker: Worker, now: float) -> None:
        worker.phase = Phase.KILLED
        worker.deadline = now + self.policy.kill_retry
        if worker.pid is not None:
            worker.killed_at = now
            self._out.append(do.Kill(worker.id, worker.pid))

    def _judge_death(self, worker: Worker, was: Phase, event: on.WorkerExited) -> None:
        """Somebody died who should not have."""
        if worker.departure is not Departure.FAILED_TO_BOOT:  # counted when it said so
            self._count_young_death(worker, event.now)
        if worker.ready_at is None and was is Phase.STARTING:
            self._unexplained_boot_death(worker, event)

    def _count_young_death(self, worker: Worker, now: float) -> None:
        self._note_stability(worker, now)
        if worker.ready_at is not None and now - worker.ready_at >= STABLE_AFTER:
            return
        delay = self.state.backoff.young_death(now, worker.born)
        if delay:
            self._out.append(do.BackingOff(delay, self.state.backoff.rounds))

    def _unexplained_boot_death(self, worker: Worker, event: on.WorkerExited) -> None:
        if not self._on_trial(worker):
            return
        self.state.deaths_in_trial += 1
        tries = self.state.target if not self.state.current else 1
        killed = event.exit.signal is not None and event.exit.signal not in _OWN_FAULT
        if killed and self.state.deaths_in_trial < TRIAL_PATIENCE * tries:
            return
        number = event.exit.signal
        how = f"was ended by {_signal_name(number)}" if number else f"exited with {event.exit.code}"
        headline = f"Worker {worker.id} {how} before it was ready."
        self._boot_verdict(worker, BootFailure(headline), event.now)

    def _on_trial(self, worker: Worker) -> bool:
        return worker.generation == self.state.trial

    def _boot_verdict(self, worker: Worker, failure: BootFailure, now: float) -> None:
        """A worker cannot boot: what does that mean for its generation?"""
        state = self.state
        if not self._on_trial(worker) or state.stopping:
            return
        if state.current:
            state.trial = None
            if all(w.generation == state.current for w in state.staying()):
                state.reload_began = None  # else an earlier reload still goes on
            self._out.append(do.GenerationDropped(worker.generation, state.current, failure))
        else:
            self._out.append(do.FirstBootFailed(failure))
            state.exit_code = 3
            self._begin_stop(now)
            for other in [w for w in state.workers.values() if w is not worker]:
                # Nobody was ever ready, so nobody serves anyone.
                other.departure = other.departure or Departure.NOT_NEEDED
                self._kill(other, now)

    # -- stopping ---------------------------------------------------------------------

    def _stop(self, now: float, because: str, *, patient: bool) -> None:
        state = self.state
        if not state.stopping:
            limit = self.policy.graceful_timeout + self.policy.cutoff_grace
            self._out.append(do.Stopping(because, len(state.workers), limit))
            self._begin_stop(now)
        for worker in state.staying():
            self._drain(worker, now, patient=patient)
        if not patient:
            self._hurry()

    def _hurry(self) -> None:
        """Whoever drains patiently shall not wait for idle clients any longer."""
        for worker in self.state.in_phase(Phase.DRAINING):
            if worker.patient and worker.pid is not None:
                self._out.append(do.Drain(worker.id, worker.pid, patient=False))
            worker.patient = False

    def _stop_at_once(self, now: float, because: str) -> None:
        self._out.append(do.Stopping(because, len(self.state.workers), 0.0))
        self._begin_stop(now)
        for worker in self.state.workers.values():
            worker.departure = worker.departure or Departure.CUT_OFF
            self._kill(worker, now)

    def _begin_stop(self, now: float) -> None:
        if not self.state.stopping:
            self.state.stage = Stage.STOPPING  # booting, serving -> stopping
            self.state.stop_began = now
            self._out.append(do.CloseListeners())

    # -- reconcile --------------------------------------------------------------------

    def _reconcile(self, now: float) -> None:
        state = self.state
        if state.stage is Stage.STOPPING:
            if not state.workers:
                state.stage = Stage.STOPPED  # stopping -> stopped
                began = now if state.stop_began is None else state.stop_began
                self._out.append(do.Stopped(state.exit_code, now - began))
                self._out.append(do.Leave(state.exit_code))
            return
        if state.stage is Stage.STOPPED or state.newest == 0:
            return
        if now >= state.backoff.until:
            state.backoff.until = float("-inf")
        steps = plan(state, self.policy, now)
        for worker in steps.leave:
            self._drain(worker, now)
            self._out.append(do.WorkerLeaves(worker.id, self._why_it_leaves(worker)))
        for generation in steps.fork:
            self._fork(generation, now)
        self._note_completion(now)

    def _fork(self, generation: int, now: float) -> None:
        state, limit = self.state, self.policy.boot_timeout
        state.last_id += 1
        slot = next(state.free_slots())
        deadline = now + limit if limit else FOREVER
        state.workers[state.last_id] = Worker(
            state.last_id, generation, slot, Phase.STARTING, born=now, deadline=deadline
        )
        self._out.append(do.Fork(state.last_id, generation, slot))

    def _drain(self, worker: Worker, now: float, *, patient: bool = True) -> None:
        worker.deadline = now + self._drain_limit(worker)
        worker.phase = Phase.DRAINING  # starting, ready -> draining
        worker.departure = Departure.DRAINED
        worker.patient = patient
        if worker.pid is not None:
            self._out.append(do.Drain(worker.id, worker.pid, patient))

    def _drain_limit(self, worker: Worker) -> float:
        graceful = self.policy.graceful_timeout
        if worker.ready_at is None:
            return min(graceful, self.policy.abort_timeout) + self.policy.cutoff_grace
        return graceful + self.policy.cutoff_grace

    def _note_completion(self, now: float) -> None:
        state = self.state
        staying = state.staying()
        ready = [w for w in staying if w.phase is Phase.READY]
        settled = len(ready) == len(staying) == state.target and state.trial is None
        if not settled or any(w.generation != state.current for w in ready):
            return
        if not state.all_ready_once:
            self._out.append(do.AllReady(state.target, now - state.started_at))
        elif state.reload_began is not None:
            took = now - state.reload_began
            self._out.append(do.ReloadDone(state.current, state.target, took))
        state.all_ready_once = True
        state.reload_began = None

    def _why_it_leaves(self, worker: Worker) -> str:
        if worker.generation in (self.state.wanted_generation, self.state.trial):
            return f"{self.state.target} workers are wanted"
        if worker.ready_at is None:
            return f"generation {worker.generation} is not wanted any more"
        return f"generation {self.state.wanted_generation} takes its place"

    def _what_next(self, worker: Worker) -> str:
        state = self.state
        if state.stopping:
            return ""
        return f"{len(state.in_phase(Phase.READY))} of {state.target} ready"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"

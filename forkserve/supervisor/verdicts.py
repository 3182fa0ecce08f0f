"""What becomes of a process that fails, is late, or is to go.

The judging half of the :class:`~.brain.Supervisor`: who is late, crash loops, what a failed
boot means for its generation, and the stop.
"""

from __future__ import annotations

import signal

from forkserve.supervisor import actions as do
from forkserve.supervisor import events as on
from forkserve.supervisor.actions import Departure
from forkserve.supervisor.backoff import STABLE_AFTER
from forkserve.supervisor.deeds import signal_name
from forkserve.supervisor.events import Exit
from forkserve.supervisor.failures import BootFailure
from forkserve.supervisor.phases import Phase
from forkserve.supervisor.state import (
    FOREVER,
    Policy,
    Preload,
    Process,
    Stage,
    Successor,
    Switchboard,
    Template,
    Worker,
)
from forkserve.supervisor.upgrades import Upgrades

TRIAL_PATIENCE = 3
"""How often, for each worker that tries it, a generation may be killed from outside
(SIGKILL, say) before it was ever ready, until that too counts as unable to boot."""

HAND_BACK = 0.3
"""Seconds. So long a stop waits for the switchboard before it asks the workers to drain, so
that they find what it hands back: a drained worker takes nothing more. That needs some
milliseconds; a switchboard that is stopped or hangs must not hold up a stop."""

LONGEST_EXTENSION = 24 * 3600.0
"""Seconds. More is a mistake."""

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


class Verdicts(Upgrades):
    """The judging half of the supervisor."""

    # -- deadlines and deaths ---------------------------------------------------------

    def _policy_of(self, generation: int) -> Policy:
        """What it is made by: the one on trial has settings of its own."""
        on_trial = generation == self.state.trial
        return self.state.proposed if on_trial and self.state.proposed else self.policy

    def _boot_timeout(self, generation: int) -> float:
        return self._policy_of(generation).boot_timeout

    def _boot_deadline(self, generation: int, now: float) -> float:
        timeout = self._boot_timeout(generation)
        return now + timeout if timeout else FOREVER

    def _extend(self, process: Process, seconds: float, now: float) -> None:
        if process.phase is not Phase.STARTING or not seconds > 0:
            return
        later = now + min(seconds, LONGEST_EXTENSION)
        if later <= process.deadline:
            return
        process.deadline = later
        worker_id, template_id = (
            (process.id, None) if isinstance(process, Worker) else (None, process.id)
        )
        self._out.append(do.BootExtended(worker_id, template_id, later - now))

    def _last_word(self, process: Process, departure: Departure, now: float) -> None:
        """It has said why it goes and only has to exit."""
        process.departure = departure
        process.phase = Phase.DRAINING  # starting -> draining
        process.deadline = self._in_time(now + self.policy.cutoff_grace)

    def _note_stability(self, dead: Worker, now: float) -> None:
        """One that was born in this row and lived on ends it."""
        backoff = self.state.backoff
        for worker in (dead, *self.state.workers.values()):
            lived = worker.ready_at is not None and now - worker.ready_at >= STABLE_AFTER
            if lived and worker.born >= backoff.raised_at:
                backoff.stable()

    def _overdue(self, process: Process, now: float) -> None:
        policy = self.policy
        if isinstance(process, Switchboard):
            self._switchboard_overdue(process, now)
        elif isinstance(process, Successor):
            self._successor_overdue(process, now)
        elif isinstance(process, Worker) and self._waits_for_its_birth(process):
            self._blame_the_template(process, now)
        elif process.phase is Phase.STARTING and self._is_missing(process):  # starting -> killed
            # Its template ended without a word on it. That says nothing about the code.
            self._condemn(process, Departure.BOOT_TIMED_OUT, policy.spawn_timeout, now)
        elif process.phase is Phase.STARTING:  # starting -> killed
            timeout = self._boot_timeout(process.generation)
            self._condemn(process, Departure.BOOT_TIMED_OUT, timeout, now)
            who = f"Worker {process.id}" if isinstance(process, Worker) else "The template"
            limit = f"it was not ready within the boot timeout of {timeout:g} s"
            self._boot_verdict(process, BootFailure(f"{who} was killed: {limit}."), now)
        elif process.phase is Phase.READY:  # ready -> killed
            self._condemn(process, Departure.HUNG, policy.timeout, now)
        elif process.phase is Phase.DRAINING:  # draining -> killed
            if isinstance(process, Worker) and process.departure is not Departure.FAILED_TO_BOOT:
                self._overstays(process, Departure.CUT_OFF, self._drain_limit(process))
            self._kill(process, now)
        else:
            if process.killed_at is not None and isinstance(process, Worker):
                self._out.append(do.WorkerImmortal(process.id))
            self._kill(process, now)

    def _waits_for_its_birth(self, worker: Worker) -> bool:
        return worker.pid is None and worker.template in self.state.templates

    def _is_missing(self, process: Process) -> bool:
        asked_for = isinstance(process, Worker) and process.template is not None
        return asked_for and process.pid is None

    def _blame_the_template(self, worker: Worker, now: float) -> None:
        """It was told to fork ``worker`` and has not: it hangs. Its end settles the birth."""
        template = self.state.templates[worker.template or 0]
        enough = worker.born + self.policy.spawn_timeout
        if worker.phase is Phase.DRAINING and template.staying and now < enough:
            worker.deadline = enough  # nobody wants it any more, but the template is not late
            return
        worker.deadline = now + self.policy.dump_grace + self.policy.kill_retry
        if template.phase is not Phase.KILLED:  # ready, draining -> killed
            self._condemn(template, Departure.HUNG, self.policy.spawn_timeout, now)

    def _dismiss(self, template: Template, now: float) -> None:
        """A template serves nobody, so nobody waits for it."""
        template.phase = Phase.DRAINING  # starting, ready -> draining
        template.departure = Departure.DRAINED
        template.deadline = now + self.policy.cutoff_grace
        if template.pid is not None:
            self._out.append(do.DismissTemplate(template.id, template.pid))

    def _judge_template(
        self, template: Template, now: float, *, out_of_memory: bool = False
    ) -> None:
        """A template died that should not have: how soon may there be another?"""
        backoff = self.state.template_backoff
        if out_of_memory:
            self._wait_for_memory(now)
            return
        lived = template.ready_at is not None and now - template.ready_at >= STABLE_AFTER
        if lived:
            backoff.stable()
            return
        backoff.young_death(now, template.born)
        if backoff.looping and self.policy.preload is Preload.AUTO:
            self.state.direct |= {template.generation}
            backoff.stable()

    def _judge_death(self, worker: Worker, was: Phase, event: on.WorkerExited) -> None:
        """Somebody died who should not have."""
        if event.exit.oom:
            self._count_out_of_memory(worker, event.now)
        elif worker.departure is not Departure.FAILED_TO_BOOT:  # counted when it said so
            self._count_young_death(worker, event.now)
        if worker.ready_at is None and was is Phase.STARTING:
            self._unexplained_boot_death(worker, event.exit, event.now)

    def _count_young_death(self, worker: Worker, now: float) -> None:
        self._note_stability(worker, now)
        if worker.ready_at is not None and now - worker.ready_at >= STABLE_AFTER:
            return
        delay = self.state.backoff.young_death(now, worker.born)
        if delay:
            self._out.append(do.BackingOff(delay, self.state.backoff.rounds))

    def _count_out_of_memory(self, worker: Worker, now: float) -> None:
        self._note_stability(worker, now)
        delay = self.state.backoff.out_of_memory(now)
        if delay:
            self._out.append(do.BackingOff(delay, self.state.backoff.rounds, out_of_memory=True))

    def _wait_for_memory(self, now: float) -> None:
        """The OOM killer has taken a template. The next one waits, and the workers with it: one
        that was made without it in the meantime would take more memory, and not less."""
        template, workers = self.state.template_backoff, self.state.backoff
        template.out_of_memory(now)
        workers.out_of_memory(now)
        template.until = workers.until = max(template.until, workers.until)

    def _unexplained_boot_death(self, process: Process, exit: Exit, now: float) -> None:
        if not self._on_trial(process):
            return
        self.state.deaths_in_trial += 1
        tries = self.state.target if not self.state.current else 1
        killed = exit.signal is not None and exit.signal not in _OWN_FAULT
        if killed and self.state.deaths_in_trial < TRIAL_PATIENCE * tries:
            return
        who = f"Worker {process.id}" if isinstance(process, Worker) else "The template"
        how = (
            f"was ended by {signal_name(exit.signal)}"
            if exit.signal
            else f"exited with {exit.code}"
        )
        how += " (out of memory)" if exit.oom else ""
        self._boot_verdict(process, BootFailure(f"{who} {how} before it was ready."), now)

    def _on_trial(self, process: Process) -> bool:
        return process.generation == self.state.trial

    def _boot_verdict(self, process: Process, failure: BootFailure, now: float) -> None:
        """A process cannot boot: what does that mean for its generation?"""
        state = self.state
        if not self._on_trial(process) or state.stopping:
            return
        if state.current:
            state.trial = state.proposed = None
            if all(w.generation == state.current for w in state.staying()):
                state.reload_began = None  # else an earlier reload still goes on
            self._out.append(do.GenerationDropped(process.generation, state.current, failure))
        else:
            self._out.append(do.FirstBootFailed(failure))
            state.exit_code = 3
            self._begin_stop(now)
            for other in [p for p in state.processes() if p is not process]:
                # Nobody was ever ready, so nobody serves anyone.
                other.departure = other.departure or Departure.NOT_NEEDED
                self._kill(other, now)

    def _drain(self, worker: Worker, now: float, *, patient: bool = True) -> None:
        worker.deadline = self._drain_deadline(worker, now)
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

    def _drain_deadline(self, worker: Worker, now: float) -> float:
        """In a stop everybody's time began with it, whenever they were asked."""
        began = now if self.state.stop_began is None else self.state.stop_began
        return began + self._drain_limit(worker)

    # -- stopping ---------------------------------------------------------------------

    def _stop(self, now: float, because: str) -> None:
        if not self.state.stopping:
            limit = self.policy.graceful_timeout + self.policy.cutoff_grace
            self._out.append(do.Stopping(because, len(self.state.workers), limit))
            self._begin_stop(now)

    def _go_on_stopping(self, now: float) -> None:
        """First the switchboard gives back what it holds, then the workers drain."""
        state, patient = self.state, not self.state.interrupts
        if not (self._workers_wait() and now < self._hand_back_ends()):
            for worker in state.staying():
                self._drain(worker, now, patient=patient)
        if not patient:
            self._hurry()
        if not state.workers:
            self._pass_on_no_more(now)
            self._hand_back_no_more(now)
        if not state.processes():
            state.stage = Stage.STOPPED  # stopping -> stopped
            began = now if state.stop_began is None else state.stop_began
            self._out.append(do.Stopped(state.exit_code, now - began))
            self._out.append(do.Leave(state.exit_code))

    def _workers_wait(self) -> bool:
        """Whether some are still to be asked to drain, for the switchboard's sake."""
        state = self.state
        return bool(state.switchboards and state.staying() and not state.has_onward_way)

    def _hand_back_ends(self) -> float:
        return (self.state.stop_began or 0.0) + HAND_BACK

    def _hurry(self) -> None:
        """Whoever drains patiently shall not wait for idle clients any longer."""
        for worker in self.state.in_phase(Phase.DRAINING):
            ends = worker.departure is Departure.FAILED_TO_BOOT
            if worker.patient and worker.pid is not None and not ends:
                self._out.append(do.Drain(worker.id, worker.pid, patient=False))
            worker.patient = False

    def _stop_at_once(self, now: float, because: str) -> None:
        self._out.append(do.Stopping(because, len(self.state.workers), 0.0))
        self._begin_stop(now)
        self._dismiss_successor_at_once(now)
        for process in [p for p in self.state.processes() if not isinstance(p, Successor)]:
            process.departure = process.departure or Departure.CUT_OFF
            self._kill(process, now)

    def _begin_stop(self, now: float) -> None:
        if not self.state.stopping:
            self.state.stage = Stage.STOPPING  # booting, serving -> stopping
            self.state.stop_began = now
            self._out.append(do.CloseListeners(self.state.others_accept))
            self._dismiss_successor(now)
            self._dismiss_switchboards(now)
            for template in [t for t in self.state.templates.values() if t.staying]:
                self._dismiss(template, now)

"""An event in, actions out: first observe, then reconcile."""

from __future__ import annotations

from functools import singledispatchmethod

from forkserve.supervisor import actions as do
from forkserve.supervisor import events as on
from forkserve.supervisor.actions import Action, Departure
from forkserve.supervisor.backoff import Backoff
from forkserve.supervisor.blockages import Blockages
from forkserve.supervisor.deeds import LATE
from forkserve.supervisor.events import Event
from forkserve.supervisor.phases import Phase
from forkserve.supervisor.reconcile import Birth, plan
from forkserve.supervisor.state import FOREVER, Policy, Stage, Template, Worker
from forkserve.supervisor.switchboards import Switchboards
from forkserve.supervisor.upgrades import Upgrades
from forkserve.supervisor.verdicts import Verdicts


class Supervisor(Verdicts, Blockages):
    """The pure brain of the master. See the package's theory of operation."""

    def handle(self, event: Event) -> list[Action]:
        """Take note of ``event`` and return what is to be done, in that order."""
        self._out = []
        self._observe(event)
        self._reconcile(event.now)
        return self._out

    def next_deadline(self) -> float:
        """When an :class:`~.events.Alarm` is due (monotonic seconds, or infinity)."""
        state = self.state
        due = [self._due(p) for p in state.processes()]
        due += [self._look_due(w) for w in state.workers.values() if w.slow_threshold]
        if not state.stopping:
            due += [b.until for b in self._backoffs() if b.until > float("-inf")]
        elif self._workers_wait():
            due.append(self._hand_back_ends())
        return min(due, default=FOREVER)

    def _backoffs(self) -> tuple[Backoff, ...]:
        state = self.state
        return state.backoff, state.template_backoff, state.switchboard_backoff

    # -- observe: what each event changes in the record ------------------------------

    @singledispatchmethod
    def _observe(self, event: Event) -> None:
        raise TypeError(f"the supervisor does not know the event {event!r}")

    @_observe.register
    def _started(self, event: on.Started) -> None:
        self.state.started_at = event.now
        self.state.predecessor = self.state.replaced = event.predecessor
        self.state.borrowed = event.predecessor is not None
        self.state.newest = self.state.trial = 1

    @_observe.register
    def _reload(self, event: on.ReloadRequested) -> None:
        state = self.state
        if state.stopping:
            self._out.append(do.Ignored("reload", self._why_too_late()))
        elif self._is_tried():
            state.reload_waits = True
            state.waiting_policy = event.policy
            self._out.append(do.Waits("reload", self._not_ready_yet()))
        else:
            self._reload_now(event.now, event.policy)

    def _reload_now(self, now: float, policy: Policy | None) -> None:
        state = self.state
        state.backoff.stable()
        state.template_backoff.stable()
        generation = self.next_generation()
        state.proposed = policy
        if not state.current:
            self._adopt()  # nobody serves by the old one
        if generation == state.trial or state.newest == 0:
            return  # nobody is made of it yet, and whoever will be imports what is on disk then
        superseded, state.newest = state.trial, generation
        state.trial = state.newest
        state.deaths_in_trial = 0
        if state.current and state.reload_began is None:
            state.reload_began = now
        self._out.append(do.ReloadBegins(state.newest, state.current or None, superseded))

    @_observe.register
    def _settings_rejected(self, event: on.SettingsRejected) -> None:
        state = self.state
        if state.stopping:
            self._out.append(do.Ignored("reload", "the master is stopping"))
        else:
            self._out.append(do.ReloadRefused(state.wanted_generation, event.failure))

    def next_generation(self) -> int:
        """Which generation a reload would be tried as."""
        trial = self.state.trial
        return trial if trial is not None and not self._tried(trial) else self.state.newest + 1

    def _adopt(self) -> None:
        """From now on decide by what has been proposed."""
        state = self.state
        policy, state.proposed = state.proposed or self.policy, None
        if policy.workers != self.policy.workers:
            self._out.append(do.Scaled(policy.workers, before=state.target))
            state.target = policy.workers
        self.policy = policy

    def _tried(self, generation: int) -> bool:
        return any(p.generation == generation for p in self.state.processes())

    @_observe.register
    def _scale(self, event: on.ScaleRequested) -> None:
        self._aim(self.state.target + event.by)

    @_observe.register
    def _scale_to(self, event: on.TargetRequested) -> None:
        self._aim(event.workers)

    def _aim(self, target: int) -> None:
        state = self.state
        if state.stopping:
            self._out.append(do.Ignored("scale", self._why_too_late()))
        elif not 1 <= target <= self.policy.most_workers:
            self._out.append(do.ScaleRefused(target, 1, self.policy.most_workers))
        else:
            self._out.append(do.Scaled(target, before=state.target))
            state.target = target

    @_observe.register
    def _recycle(self, event: on.RecycleRequested) -> None:
        state, wanted = self.state, event.worker_id
        workers = [w for w in state.workers.values() if wanted in (None, w.id)]
        ready = [w for w in workers if w.phase is Phase.READY]
        if state.stopping:
            self._out.append(do.Ignored("recycle", self._why_too_late()))
        elif wanted is not None and not ready:
            why = f"it is {workers[0].phase.value}" if workers else f"there is no worker {wanted}"
            self._out.append(do.Ignored("recycle", why))
        for worker in [w for w in ready if not (w.spent or state.stopping)]:
            worker.spent = "it was asked for"
            self._out.append(do.WorkerWorn(worker.id, worker.spent))

    @_observe.register
    def _terminate(self, event: on.TerminateRequested) -> None:
        self._stop(event.now, event.because)

    @_observe.register
    def _interrupt(self, event: on.InterruptRequested) -> None:
        self.state.interrupts += 1
        if self.state.interrupts > 1:
            self._stop_at_once(event.now, "a second SIGINT")
        else:
            self._stop(event.now, "SIGINT")

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
        if worker.template is not None and worker.phase is Phase.STARTING:
            worker.deadline = max(
                worker.deadline, self._boot_deadline(worker.generation, event.now)
            )
        # It may have been given up while its birth was under way.
        if worker.phase is Phase.DRAINING:
            limit = event.now + self._drain_limit(worker)
            worker.deadline = self._in_time(min(worker.deadline, limit))
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
    def _fork_lost(self, event: on.ForkLost) -> None:
        del self.state.workers[event.worker_id]  # any phase -> exited

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
        after = event.now - worker.born
        if worker.spare:
            self._out.append(do.SpareReady(worker.id, after))
        else:
            ready = len(state.serving())
            self._out.append(do.WorkerServes(worker.id, after, ready, state.target))

    def _accept(self, canary: Worker) -> None:
        state = self.state
        first = state.current == 0
        state.current, state.trial = canary.generation, None
        self._adopt()
        if state.stage is Stage.BOOTING:
            state.stage = Stage.SERVING  # booting -> serving
        if not first:
            old = sum(w.generation != state.current for w in state.staying())
            self._out.append(
                do.GenerationAccepted(state.current, canary.id, old, self.policy.surge)
            )

    @_observe.register
    def _boot_extended(self, event: on.WorkerBootExtended) -> None:
        worker = self.state.workers.get(event.worker_id)
        if worker is not None:
            self._extend(worker, event.seconds, event.now)

    @_observe.register
    def _spent(self, event: on.WorkerSpent) -> None:
        worker = self.state.workers.get(event.worker_id)
        if worker is None or worker.phase is not Phase.READY or worker.spent:
            return
        worker.spent = event.because
        self._out.append(do.WorkerWorn(worker.id, event.because))

    @_observe.register
    def _boot_failed(self, event: on.WorkerBootFailed) -> None:
        worker = self.state.workers.get(event.worker_id)
        if worker is None or worker.phase is not Phase.STARTING:
            return
        worker.failure = event.failure
        self._last_word(worker, Departure.FAILED_TO_BOOT, event.now)
        self._count_young_death(worker, event.now)
        self._boot_verdict(worker, event.failure, event.now)

    @_observe.register
    def _leaving(self, event: on.WorkerLeaving) -> None:
        worker = self.state.workers.get(event.worker_id)
        if worker is None or not worker.staying:
            return
        worker.departure = Departure.LEFT
        worker.deadline = self._drain_deadline(worker, event.now)
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

    # What a template says, and how it ends.

    @_observe.register
    def _template_forked(self, event: on.TemplateForked) -> None:
        template = self.state.templates[event.template_id]
        template.pid = event.pid
        if template.phase is Phase.DRAINING:
            self._out.append(do.DismissTemplate(template.id, event.pid))
        elif template.phase is Phase.KILLED:
            self._kill(template, event.now)

    @_observe.register
    def _template_fork_failed(self, event: on.TemplateForkFailed) -> None:
        template = self.state.templates.pop(event.template_id)  # any phase -> exited
        backoff = self.state.template_backoff
        backoff.young_death(event.now, template.born)
        backoff.until = max(backoff.until, event.now + 0.5)
        self._out.append(do.ForkRefused(event.error, backoff.until - event.now))

    @_observe.register
    def _template_ready(self, event: on.TemplateReady) -> None:
        template = self.state.templates.get(event.template_id)
        if template is None or template.phase is not Phase.STARTING:
            return
        template.phase = Phase.READY  # starting -> ready
        template.ready_at = event.now
        template.deadline = FOREVER
        self._out.append(do.TemplateServes(template.id, event.now - template.born))

    @_observe.register
    def _template_boot_extended(self, event: on.TemplateBootExtended) -> None:
        template = self.state.templates.get(event.template_id)
        if template is not None:
            self._extend(template, event.seconds, event.now)

    @_observe.register
    def _template_unfit(self, event: on.TemplateUnfit) -> None:
        template = self.state.templates.get(event.template_id)
        if template is None or template.phase is not Phase.STARTING:
            return
        self._last_word(template, Departure.UNFIT, event.now)
        self.state.direct |= {template.generation}
        rejected = do.TemplateRejected(template.id, template.generation, event.findings)
        self._out.append(rejected)

    @_observe.register
    def _template_boot_failed(self, event: on.TemplateBootFailed) -> None:
        template = self.state.templates.get(event.template_id)
        if template is None or template.phase is not Phase.STARTING:
            return
        template.failure = event.failure
        self._last_word(template, Departure.FAILED_TO_BOOT, event.now)
        self._judge_template(template, event.now)  # now: the next one does not wait for its exit
        self._boot_verdict(template, event.failure, event.now)

    @_observe.register
    def _template_exited(self, event: on.TemplateExited) -> None:
        template = self.state.templates.pop(event.template_id, None)  # any phase -> exited
        if template is None:
            return
        was, template.phase = template.phase, Phase.EXITED
        departure = template.departure or Departure.CRASHED
        planned = departure in (Departure.DRAINED, Departure.UNFIT)
        judged = departure is Departure.FAILED_TO_BOOT  # when it said so
        if not (planned or judged or self.state.stopping):
            self._judge_template(template, event.now, out_of_memory=bool(event.exit.oom))
        gone = do.TemplateGone(
            template.id,
            departure,
            event.exit,
            event.now - template.born,
            planned,
            event.stack,
            template.failure,
            "" if planned else self._what_next_for(template, event.now),
        )
        self._out.append(gone)
        if departure is Departure.CRASHED and was is Phase.STARTING:
            self._unexplained_boot_death(template, event.exit, event.now)

    @_observe.register
    def _alarm(self, event: on.Alarm) -> None:
        for worker_id, beat in event.beats.items():
            if worker := self.state.workers.get(worker_id):
                worker.beat = max(worker.beat, beat)
        self._switchboard_beat(event.switchboard_beat)
        overdue = [p for p in self.state.processes() if self._due(p) <= event.now]
        late = max((event.now - self._due(p) for p in overdue if p.phase is Phase.READY), default=0)
        if late > LATE:
            self._out.append(do.LivenessExcused(late))
            self._excuse(event.now)
            overdue = [p for p in overdue if p.phase is not Phase.READY]
        for process in overdue:
            if self._due(process) <= event.now:  # the verdict on another may have settled it
                self._overdue(process, event.now)
        self._look_at_loops(event)

    # What is seen of a blocked loop: see Blockages.

    _observe.register(on.StacksRead, Blockages._stacks_read)
    _observe.register(on.WorkerUnblocked, Blockages._unblocked)

    # What a switchboard says, and how it ends: see Switchboards.

    _observe.register(on.SwitchboardForked, Switchboards._switchboard_forked)
    _observe.register(on.SwitchboardForkFailed, Switchboards._switchboard_fork_failed)
    _observe.register(on.SwitchboardReady, Switchboards._switchboard_ready)
    _observe.register(on.SwitchboardLeaving, Switchboards._switchboard_leaving)
    _observe.register(on.SwitchboardExited, Switchboards._switchboard_exited)
    _observe.register(on.WorkerSlow, Switchboards._slow)

    # What the masters of an upgrade say, and how they end: see Upgrades.

    _observe.register(on.UpgradeRequested, Upgrades._upgrade_requested)
    _observe.register(on.SuccessorForked, Upgrades._successor_forked)
    _observe.register(on.SuccessorForkFailed, Upgrades._successor_fork_failed)
    _observe.register(on.SuccessorReady, Upgrades._successor_ready)
    _observe.register(on.SuccessorExtended, Upgrades._successor_extended)
    _observe.register(on.SuccessorFailed, Upgrades._successor_failed)
    _observe.register(on.SuccessorExited, Upgrades._successor_exited)
    _observe.register(on.TakenOver, Upgrades._taken_over)
    _observe.register(on.PredecessorGone, Upgrades._predecessor_gone)

    # -- reconcile --------------------------------------------------------------------

    def _reconcile(self, now: float) -> None:
        state = self.state
        if state.succeeded_by is not None and not state.stopping:
            self._begin_stop(now)
        if state.stage is Stage.STOPPING:
            self._go_on_stopping(now)
            return
        if state.stage is Stage.STOPPED or state.newest == 0:
            return
        state.direct &= {state.wanted_generation, state.trial or 0}
        for backoff in self._backoffs():
            if now >= backoff.until:
                backoff.until = float("-inf")
        self._note_parking()
        if state.reload_waits and not self._is_tried():
            state.reload_waits = False
            self._reload_now(now, state.waiting_policy)
        if state.upgrade_wanted and not self._upgrade_waits():
            self._fork_successor(now)
        steps = plan(state, self.policy, now)
        if steps.switchboard:
            self._fork_switchboard(now)
        for spare in steps.promote:
            self._promote(spare)
        for worker in steps.leave:
            self._drain(worker, now)
            self._out.append(do.WorkerLeaves(worker.id, self._why_it_leaves(worker)))
        for template in steps.dismiss:
            self._dismiss(template, now)
        for generation in steps.templates:
            self._fork_template(generation, now)
        for birth in steps.fork:
            self._fork(birth, now)
        self._note_completion(now)

    def _fork(self, birth: Birth, now: float) -> None:
        state = self.state
        state.last_id += 1
        deadline = self._boot_deadline(birth.generation, now)
        if birth.template is not None:  # the boot begins once it is born
            deadline = min(deadline, now + self.policy.spawn_timeout)
        worker = Worker(
            state.last_id,
            birth.generation,
            Phase.STARTING,
            born=now,
            deadline=deadline,
            slot=next(state.free_slots()),
            template=birth.template,
            spare=birth.spare,
            slow_threshold=self._policy_of(birth.generation).slow_threshold,
        )
        state.workers[worker.id] = worker
        fork = do.Fork(worker.id, worker.generation, worker.slot, worker.template, worker.spare)
        self._out.append(fork)

    def _fork_template(self, generation: int, now: float) -> None:
        state = self.state
        state.last_template += 1
        state.templates[state.last_template] = Template(
            state.last_template,
            generation,
            Phase.STARTING,
            born=now,
            deadline=self._boot_deadline(generation, now),
        )
        self._out.append(do.ForkTemplate(state.last_template, generation))

    def _promote(self, spare: Worker) -> None:
        spare.spare = False
        if spare.pid is not None:
            self._out.append(do.Promote(spare.id, spare.pid))
        ready = len(self.state.serving())
        self._out.append(do.SparePromoted(spare.id, ready, self.state.target))

    def _note_completion(self, now: float) -> None:
        state = self.state
        staying = [w for w in state.staying() if not w.spare]
        ready = [w for w in staying if w.phase is Phase.READY]
        settled = len(ready) == len(staying) == state.target and state.trial is None
        if not settled or any(w.generation != state.current for w in ready):
            return
        if not state.all_ready_once:
            self._out.append(do.AllReady(state.target, now - state.started_at))
            if state.borrowed:
                self._out.append(do.ReportReady())
        elif state.reload_began is not None:
            took = now - state.reload_began
            self._out.append(do.ReloadDone(state.current, state.target, took))
        state.all_ready_once = True
        state.reload_began = None

    def _why_it_leaves(self, worker: Worker) -> str:
        if worker.spent:
            return "it is recycled"
        if worker.generation in (self.state.wanted_generation, self.state.trial):
            return f"{self.state.target} workers are wanted"
        if worker.ready_at is None:
            return f"generation {worker.generation} is not wanted any more"
        return f"generation {self.state.wanted_generation} takes its place"

    def _what_next(self, worker: Worker) -> str:
        state = self.state
        if state.stopping:
            return ""
        return f"{len(state.serving())} of {state.target} ready"

    def _what_next_for(self, dead: Template, now: float) -> str:
        state = self.state
        if state.stopping or dead.generation not in (state.current, state.trial):
            return ""
        if dead.generation in state.direct:
            return "each worker imports the app by itself from now on"
        delay = state.template_backoff.until - now
        return f"another is made in {delay:.1f} s" if delay > 0 else "another is made"

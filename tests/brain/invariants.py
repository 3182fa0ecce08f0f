"""What must hold after every event, whatever happened before.

The :class:`Witness` stands beside a supervisor, sees every event and every action,
keeps its own books from those alone, and raises :class:`Violation` when a rule is
broken. From the supervisor's record it reads the phases and the deadlines.
"""

from __future__ import annotations

from collections import Counter

from forkserve.supervisor import actions as do
from forkserve.supervisor import events as on
from forkserve.supervisor.actions import Action
from forkserve.supervisor.brain import Supervisor
from forkserve.supervisor.events import Event
from forkserve.supervisor.phases import Phase
from forkserve.supervisor.state import FOREVER, Policy, Preload

HAND_BACK = 0.3
"""Seconds that the workers may be kept waiting in a stop for what the switchboard holds."""

GRACE = 1.0
"""Seconds after the graceful timeout in which the last of a stop must have been killed."""

MOST_SWITCHBOARDS = 3

PAUSE = 1.0
"""Seconds, at least, between two looks at the stacks of one worker that goes on."""

PATIENCE = 1.0
"""Seconds after which a blockage is told without stacks."""

READ_AFTER = 0.1
"""Seconds until somebody looks whether they are there."""

TINY = 1e-6
"""Seconds that a sum of times may be wrong by."""

SHORTEST_WAIT = 0.37
"""Seconds that nobody is made after the OOM killer has taken a process that was of use."""

OF_A_SUCCESSOR = (
    on.SuccessorForked,
    on.SuccessorForkFailed,
    on.SuccessorExtended,
    on.SuccessorFailed,
    on.SuccessorExited,
)
"""Whatever of that happens, it does not end the service."""

OF_A_SWITCHBOARD = (
    on.SwitchboardForked,
    on.SwitchboardForkFailed,
    on.SwitchboardReady,
    on.SwitchboardLeaving,
    on.SwitchboardExited,
)

ORDER = {phase: place for place, phase in enumerate(Phase)}


class Violation(AssertionError):
    """A rule was broken; ``rule`` is its name."""

    def __init__(self, rule: str, what: object) -> None:
        super().__init__(f"{rule}: {what}")
        self.rule = rule


def require(holds: bool, rule: str, what: object) -> None:
    """``what`` is put into words only if it does not hold, which is hardly ever."""
    if not holds:
        raise Violation(rule, what)


class Witness:
    """The books of an onlooker."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.phases: dict[int, Phase] = {}
        """The phase of every worker that is not gone, as it was after the last event."""
        self.generations: dict[int, int] = {}
        self.slots: dict[int, int] = {}
        self.templates: dict[int, int] = {}
        """The generation of every template that is not gone."""
        self.template_phases: dict[int, Phase] = {}
        self.template_pids: dict[int, int] = {}
        self.can_fork: frozenset[int] = frozenset()
        """The templates that have said that they are ready."""
        self.last_template = 0
        self.board_phases: dict[int, Phase] = {}
        """The phase of every switchboard that is not gone."""
        self.board_pids: dict[int, int] = {}
        self.last_board = 0
        self.asked: dict[int, int] = {}
        """Which template each worker has to be forked by that is not born yet."""
        self.spares: frozenset[int] = frozenset()
        self.unborn: frozenset[int] = frozenset()
        self.pids: dict[int, int] = {}
        """Of the processes that were confirmed and are not gone."""
        self.last_id = 0
        self.newest = 1
        self.given_up: frozenset[int] = frozenset()
        """Generations that were dropped or superseded."""
        self.ever_ready = False
        self.stopping = False
        self.stop_began = 0.0
        self.now = 0.0
        """The time of the last event."""
        self.successor: int | None = None
        """The new master that was asked for and is not gone, by its id ..."""
        self.successor_pid: int | None = None
        """... and its pid, once it is born."""
        self.last_successor = 0
        self.handed_over = False
        self.passes_on = False
        """... to one that has a switchboard, and so have we."""
        self.can_take_over: int | None = None
        """The new master that has just said so."""
        self.reload_waits = False
        self.predecessor: int | None = None
        self.borrowed = False
        self.reported = False
        self.slow: frozenset[int] = frozenset()
        self.parking = False
        self.memory_is_short_until = 0.0
        self.beats: dict[int, float] = {}
        """When each worker's loop turned last, as far as it has been heard."""
        self.dumped: dict[int, float] = {}
        """When a worker that was left alone was last asked for its stacks ..."""
        self.untold: frozenset[int] = frozenset()
        """... and who has been, without a word in the log yet ..."""
        self.blocked: frozenset[int] = frozenset()
        """... or with one, and does not turn again for all that is known."""
        self.leaver: int | None = None
        """The worker that left by itself at the last event, if one did."""
        self.left = False
        self.policy: Policy | None = None
        """What the brain has to decide by."""
        self.proposed: Policy | None = None
        """... once the generation on trial is accepted."""
        self.transitions: frozenset[tuple[Phase, Phase]] = frozenset()
        """Those of the last event."""

    def copy(self) -> Witness:
        twin = Witness.__new__(Witness)
        twin.__dict__.update(self.__dict__)
        for name in (
            "phases",
            "generations",
            "slots",
            "pids",
            "templates",
            "template_phases",
            "template_pids",
            "board_phases",
            "board_pids",
            "asked",
            "beats",
            "dumped",
        ):
            setattr(twin, name, dict(getattr(self, name)))
        return twin

    def watch(self, brain: Supervisor, event: Event) -> list[Action]:
        """Have ``brain`` handle ``event`` and check what it does."""
        self.policy = self.policy or brain.policy
        self._hear(event)
        actions = brain.handle(event)
        self._follow(brain, event, actions)
        return actions

    def newest_hope(self) -> int:
        """The generation that all workers must be of in the end."""
        return max(g for g in range(1, self.newest + 1) if g not in self.given_up)

    # -- the books ----------------------------------------------------------------------

    def _hear(self, event: Event) -> None:
        self.now = event.now
        self.leaver = event.worker_id if isinstance(event, on.WorkerLeaving) else None
        self.can_take_over = None
        match event:
            case on.ReloadRequested(policy=policy):
                self.memory_is_short_until = 0.0  # the user wants another try
                if not self.stopping:
                    self.proposed = policy
                    if not self.ever_ready:
                        self._adopt()
            case on.Started(predecessor=predecessor):
                self.predecessor, self.borrowed = predecessor, predecessor is not None
            case on.SuccessorForked(pid=pid):
                self.successor_pid = pid
            case on.SuccessorForkFailed() | on.SuccessorExited():
                self.successor = self.successor_pid = None
            case on.SuccessorReady(successor_id=successor_id, switchboard=switchboard):
                self.can_take_over = successor_id
                self.passes_on = switchboard
            case on.TakenOver():
                self.borrowed = False
            case on.PredecessorGone():
                self.predecessor, self.borrowed = None, False
            case on.Forked(worker_id=worker_id, pid=pid):
                self.unborn -= {worker_id}
                self.pids[worker_id] = pid
                self.asked.pop(worker_id, None)
            case on.ForkFailed(worker_id=worker_id) | on.ForkLost(worker_id=worker_id):
                self.unborn -= {worker_id}
                self.asked.pop(worker_id, None)
            case on.TemplateForked(template_id=template_id, pid=pid):
                self.template_pids[template_id] = pid
            case on.TemplateForkFailed(template_id=template_id):
                del self.templates[template_id]
            case on.TemplateReady(template_id=template_id):
                if self.template_phases.get(template_id) is Phase.STARTING:  # else too late
                    self.can_fork |= {template_id}
            case on.TemplateExited(template_id=template_id, exit=exit):
                was = self.template_phases.get(template_id)
                self._note_oom(exit, was)
                del self.template_pids[template_id], self.templates[template_id]
                self.can_fork -= {template_id}
            case on.WorkerExited(worker_id=worker_id, exit=exit):
                self._note_oom(exit, self.phases.get(worker_id))
                # One that a template has forked may be waited for before its pid was told.
                self.pids.pop(worker_id, None)
                self.unborn -= {worker_id}
                self.asked.pop(worker_id, None)
                self.untold -= {worker_id}
                self.blocked -= {worker_id}
            case on.WorkerReady(worker_id=worker_id) | on.WorkerUnblocked(worker_id=worker_id):
                self.beats[worker_id] = self.now
            case on.Alarm(beats=beats):
                for worker_id, beat in beats.items():
                    self.beats[worker_id] = max(beat, self.beats.get(worker_id, 0.0))
            case on.WorkerSlow(worker_id=worker_id, slow=slow):
                self.slow = self.slow | {worker_id} if slow else self.slow - {worker_id}
            case on.SwitchboardForked(switchboard_id=board_id, pid=pid):
                self.board_pids[board_id] = pid
            case on.SwitchboardExited(switchboard_id=board_id):
                del self.board_pids[board_id]
            case on.TerminateRequested() | on.InterruptRequested() | on.QuitRequested():
                self._stop_begins()

    def _adopt(self) -> None:
        self.policy, self.proposed = self.proposed or self.policy, None

    def _note_oom(self, exit: on.Exit, phase: Phase | None) -> None:
        if exit.oom and phase in (Phase.STARTING, Phase.READY):
            self.memory_is_short_until = self.now + SHORTEST_WAIT

    def _stop_begins(self) -> None:
        if not self.stopping:
            self.stopping, self.stop_began = True, self.now

    def _follow(self, brain: Supervisor, event: Event, actions: list[Action]) -> None:
        stopping = self.stopping
        self.passes_on &= brain.policy.switchboard
        before, phases = self.phases, {w.id: w.phase for w in brain.state.workers.values()}
        were, are = self.template_phases, {t.id: t.phase for t in brain.state.templates.values()}
        require(not self.left or not any(map(_is_deed, actions)), "leave", "a deed after it")
        self._count(actions)
        for action in actions:
            self._take(action, brain, before)
        agreed = brain.policy is self.policy
        require(agreed, "settings are of a generation that serves", brain.policy)
        self._phases(before, phases, event)
        self._template_phases(were, are, event)
        if brain.policy.switchboard:
            self._board_phases(brain, event)
            if not stopping:
                self._harmless(before, phases, event)
            if not self.stopping:
                self._parking_is_told(phases)
        self._masters(brain)
        if not stopping and isinstance(event, OF_A_SUCCESSOR):
            lost = [i for i, p in before.items() if p is Phase.READY and phases.get(i) is not p]
            harmless = not lost and not self.stopping
            require(harmless, "a failed upgrade harms nobody", f"{event} cost {lost}")
        self._capacity(before, phases, event, brain.policy.spares)
        self._spares_are_used(brain)
        self._room(brain, phases, actions)
        self._deadlines(brain)
        self._blocked_are_left_alone(brain, before, phases, event)
        if self.untold:
            self._blockages_are_told(brain, phases, event)
        if self.stopping:
            self._ends_in_time(brain)
        if any(isinstance(a, do.GenerationDropped) for a in actions):
            self._dropped_harmlessly(before, phases)
        self.phases, self.template_phases = phases, are
        self.ever_ready |= Phase.READY in phases.values()
        for gone in self.slots.keys() - phases.keys():
            del self.slots[gone], self.generations[gone]
            self.spares -= {gone}

    def _take(self, action: Action, brain: Supervisor, before: dict[int, Phase]) -> None:
        match action:
            case do.Fork(worker_id, generation, slot, template, spare):
                if template is None:
                    alone = _may_be_direct(brain, generation)
                    require(alone, "direct only where it may be", action)
                else:
                    fit = template in self.can_fork and self.templates[template] == generation
                    require(fit, "only a ready template forks", action)
                    self.asked[worker_id] = template
                require(not self.stopping, "no fork in a stop", action)
                self._memory_allows(action)
                require(worker_id > self.last_id, "ids are new", action)
                taken = {self.slots[i] for i in brain.state.workers if i in self.slots}
                require(slot not in taken, "slots are free", action)
                require(0 <= slot < brain.policy.slots, "slots are few", action)
                require(generation not in self.given_up, "given up is given up", action)
                self.last_id = worker_id
                self.spares |= {worker_id} if spare else set()
                self.slots[worker_id], self.generations[worker_id] = slot, generation
                self.unborn |= {worker_id}
            case do.ForkTemplate(template_id, generation):
                require(not self.stopping, "no fork in a stop", action)
                alone = brain.policy.preload is Preload.NEVER
                require(not alone, "no template without preload", action)
                require(template_id > self.last_template, "ids are new", action)
                require(generation not in self.given_up, "given up is given up", action)
                self.last_template = template_id
                self.templates[template_id] = generation
                require(len(self.templates) <= 6, "templates are few", self.templates)
            case (
                do.DismissTemplate(template_id, pid)
                | do.KillTemplate(template_id, pid)
                | do.DumpTemplate(template_id, pid)
            ):
                ours = self.template_pids.get(template_id) == pid
                require(ours, "only our own pids", action)
                self.can_fork -= {template_id}
                if isinstance(action, do.KillTemplate) and not self.stopping:
                    was = self.template_phases.get(template_id)
                    require(was is not Phase.READY, "a dump before a kill", action)
            case do.Promote(worker_id, pid):
                require(self.pids.get(worker_id) == pid, "only our own pids", action)
                ready = brain.state.workers[worker_id].phase is Phase.READY
                fit = ready and worker_id in self.spares
                require(fit, "only ready spares", action)
                self.spares -= {worker_id}
            case do.Drain(worker_id, pid) | do.Kill(worker_id, pid) | do.DumpStacks(worker_id, pid):
                require(self.pids.get(worker_id) == pid, "only our own pids", action)
                if isinstance(action, do.Kill) and not self.stopping:
                    was = before.get(worker_id)
                    require(was is not Phase.READY, "a dump before a kill", action)
                if isinstance(action, do.Drain) and self.stopping:
                    self._nothing_is_handed_back_too_late(action, brain, before)
                alive = brain.state.workers[worker_id].phase in (Phase.READY, Phase.DRAINING)
                if isinstance(action, do.DumpStacks) and alive:
                    self._looks_only_at_the_blocked(worker_id, brain)
                    self.dumped[worker_id] = self.now
                    self.untold |= {worker_id}
            case do.LoopBlocked(worker_id):
                told_once = worker_id in self.untold
                require(told_once, "a blockage is told once", action)
                self.untold -= {worker_id}
                self.blocked |= {worker_id}
            case do.LoopTurns(worker_id):
                told_once = worker_id in self.blocked
                require(told_once, "a blockage is told once", action)
                self.blocked -= {worker_id}
            case do.ForkSwitchboard(board_id):
                require(not self.stopping, "no fork in a stop", action)
                require(brain.policy.switchboard, "no switchboard without leave", action)
                require(board_id > self.last_board, "ids are new", action)
                self.last_board = board_id
            case (
                do.DismissSwitchboard(board_id, pid)
                | do.KillSwitchboard(board_id, pid)
                | do.DumpSwitchboard(board_id, pid)
            ):
                ours = self.board_pids.get(board_id) == pid
                require(ours, "only our own pids", action)
                if isinstance(action, do.KillSwitchboard) and not self.stopping:
                    alive = self.board_phases.get(board_id) in (Phase.STARTING, Phase.READY)
                    require(not alive, "a dump before a kill", action)
                if isinstance(action, do.DismissSwitchboard):
                    require(self.stopping, "only a stop dismisses the switchboard", action)
            case do.ParkingBegins(worker_id):
                told = worker_id in self.slow and not self.parking
                require(told, "parking is told as it is", action)
                self.parking = True
            case do.ParkingEnds():
                require(self.parking, "parking is told as it is", action)
                self.parking = False
            case do.Scaled(target, was):
                require(was == self.target, "the target", action)
                self.target = target
            case do.ReloadBegins(generation, superseded=superseded):
                self.newest = generation
                self.reload_waits = False
                self.given_up |= {superseded} if superseded else set()
            case do.GenerationAccepted():
                self._adopt()
            case do.GenerationDropped(generation, serving):
                self.proposed = None
                require(serving not in self.given_up, "given up is given up", action)
                self.given_up |= {generation}
            case do.FirstBootFailed():
                require(not self.ever_ready, "first boot", "a worker had been ready")
                self._stop_begins()
            case do.CloseListeners():
                require(self.stopping, "leave", "listeners closed for no reason")
                others = self.borrowed or self.handed_over
                alone = action.others_accept is others
                require(alone, "only the last one closes the queue", action)
            case do.ForkMaster(successor_id):
                require(not self.stopping, "no fork in a stop", action)
                require(self.ever_ready, "a master that serves is replaced", action)
                require(successor_id > self.last_successor, "ids are new", action)
                alone = self.successor is None and self.predecessor is None
                require(alone, "at most two masters", action)
                self.last_successor = self.successor = successor_id
            case do.DismissMaster(successor_id, pid) | do.KillMaster(successor_id, pid):
                ours = (self.successor, self.successor_pid) == (successor_id, pid)
                require(ours, "only our own pids", action)
                require(not self.handed_over, "who has taken over is left alone", action)
            case do.HandOver(successor_id, pid):
                ours = (self.successor, self.successor_pid) == (successor_id, pid)
                require(ours, "only our own pids", action)
                ready = self.can_take_over == successor_id and not self.stopping
                require(ready, "make before break", action)
                self.handed_over = True
                self._stop_begins()
            case do.PassReloadOn(pid):
                require(self.successor_pid == pid, "only our own pids", action)
                require(self.reload_waits and self.handed_over, "no reload is lost", action)
                self.reload_waits = False
            case do.Waits("reload"):
                self.reload_waits = True
            case do.ReportReady():
                ready = sum(w.phase is Phase.READY for w in brain.state.workers.values())
                fit = self.borrowed and not self.reported and ready >= self.target
                require(fit, "it reports what is", action)
                self.reported = True
            case do.ForwardSwitchboard(board_id, pid):
                ours = self.board_pids.get(board_id) == pid
                require(ours, "only our own pids", action)
                way = self.handed_over and self.passes_on
                require(way, "there is a way on", action)
            case do.Leave():
                require(self.stopping, "leave", "for no reason")
                require(not self.unborn and not self.pids, "leave", "a worker is left behind")
                require(not self.templates, "leave", "a template is left behind")
                alone = not brain.state.switchboards and not self.board_pids
                require(alone, "leave", "a switchboard is left behind")
                alone = self.successor is None or self.handed_over
                require(alone, "leave", "a new master is left behind")
                self.left = True

    # -- the rules ----------------------------------------------------------------------

    def _looks_only_at_the_blocked(self, worker_id: int, brain: Supervisor) -> None:
        threshold = brain.state.workers[worker_id].slow_threshold
        last = self.beats.get(worker_id, 0.0)
        blocked = threshold > 0 and self.now - last >= threshold
        require(blocked, "only who is blocked shows where", f"worker {worker_id}, {last}")
        before = self.dumped.get(worker_id, float("-inf"))
        require(last > before, "once a blockage", f"worker {worker_id} was asked at {before}")
        seldom = self.now - before >= PAUSE - TINY
        require(seldom, "stacks are asked for seldom", f"worker {worker_id}")

    def _blocked_are_left_alone(
        self, brain: Supervisor, before: dict[int, Phase], phases: dict[int, Phase], event: Event
    ) -> None:
        """Who has beaten within the liveness timeout is not killed, blocked or not."""
        if self.stopping or not isinstance(event, on.Alarm):
            return
        killed = [i for i in before if before[i] is Phase.READY and phases.get(i) is Phase.KILLED]
        timeout = brain.policy.timeout
        for worker_id in killed:
            silent = self.now - self.beats.get(worker_id, 0.0)
            hung = timeout > 0 and silent >= timeout - TINY
            require(hung, "the blocked are left alone", f"worker {worker_id}, {silent:.1f} s")

    def _blockages_are_told(
        self, brain: Supervisor, phases: dict[int, Phase], event: Event
    ) -> None:
        due = brain.next_deadline()
        for worker_id in self.untold:
            if phases.get(worker_id) not in (Phase.READY, Phase.DRAINING):
                continue
            known = isinstance(event, on.StacksRead) and event.worker_id == worker_id
            waited = self.now >= self.dumped[worker_id] + PATIENCE
            late = known and (waited or bool(event.stack))  # type: ignore[attr-defined]
            soon = due <= self.now + READ_AFTER + TINY
            require(soon and not late, "what was asked for is told", f"worker {worker_id}")

    def _memory_allows(self, action: Action) -> None:
        waits = self.now >= self.memory_is_short_until
        require(waits, "who lacks memory waits", action)

    def _count(self, actions: list[Action]) -> None:
        twice = [a for a, times in Counter(actions).items() if times > 1]
        require(not twice, "nothing twice", twice)

    def _phases(self, before: dict[int, Phase], phases: dict[int, Phase], event: Event) -> None:
        moved = {
            (was, phases.get(worker_id, Phase.EXITED))
            for worker_id, was in before.items()
            if was is not phases.get(worker_id)
        }
        for was, becomes in moved:
            require(ORDER[was] < ORDER[becomes], "phases go forward", f"{was} -> {becomes}")
        gone = before.keys() - phases.keys()
        ends = on.WorkerExited | on.ForkFailed | on.ForkLost
        ended = {event.worker_id} if isinstance(event, ends) else set()
        require(gone <= ended, "nobody is forgotten", gone)
        self.transitions = frozenset(moved)

    def _template_phases(self, were: dict[int, Phase], are: dict[int, Phase], event: Event) -> None:
        ends = on.TemplateExited | on.TemplateForkFailed
        ended = {event.template_id} if isinstance(event, ends) else set()
        _require_order("template", were, are, ended)
        require(are.keys() == self.templates.keys(), "nobody is forgotten", ("templates", are))

    def _board_phases(self, brain: Supervisor, event: Event) -> None:
        boards = brain.state.switchboards
        were, are = self.board_phases, {b.id: b.phase for b in boards.values()}
        ends = on.SwitchboardExited | on.SwitchboardForkFailed
        ended = {event.switchboard_id} if isinstance(event, ends) else set()
        _require_order("switchboard", were, are, ended)
        require(self.board_pids.keys() <= are.keys(), "nobody is forgotten", ("switchboards", are))
        few = sum(p in (Phase.STARTING, Phase.READY) for p in are.values()) <= 1
        require(few and len(are) <= MOST_SWITCHBOARDS, "switchboards are few", are)
        due, timeout = brain.next_deadline(), brain.policy.switchboard_timeout
        for board in boards.values():
            ready = board.phase is Phase.READY
            limit = board.beat + timeout if ready else board.deadline
            timed = limit < FOREVER and due <= limit
            judged = limit > event.now or not isinstance(event, on.Alarm)
            require(timed and judged, "every phase ends", board)
        self.board_phases = are

    def _harmless(self, before: dict[int, Phase], phases: dict[int, Phase], event: Event) -> None:
        """What a switchboard does or suffers concerns nobody else."""
        if not isinstance(event, OF_A_SWITCHBOARD):
            return
        lost = [i for i, p in before.items() if p is Phase.READY and phases.get(i) is not p]
        require(not lost, "the switchboard harms nobody", f"it cost {lost}")
        require(not self.stopping, "the switchboard harms nobody", "it ended the service")

    def _masters(self, brain: Supervisor) -> None:
        """There is a new master or there is none, and what was asked of it is not forgotten."""
        state, successor = brain.state, brain.state.successor
        known = None if successor is None else successor.id
        is_ours = None if self.handed_over else self.successor
        require(known == is_ours, "nobody is forgotten", ("new master", is_ours, successor))
        if successor is not None:
            timed = brain.next_deadline() <= successor.deadline < FOREVER
            require(timed, "every phase ends", successor)
        tried = successor is not None and successor.phase is Phase.STARTING
        # A canary that is not born yet will have what is on disk then.
        met = tried or self.stopping or state.trial is not None
        require(met or not self.reload_waits, "no reload is lost", "it waits for nobody")
        self.reload_waits &= tried

    def _parking_is_told(self, phases: dict[int, Phase]) -> None:
        slow = self.slow & phases.keys()
        require(self.parking is bool(slow), "parking is told as it is", ("slow", slow))

    def _nothing_is_handed_back_too_late(
        self, drain: do.Drain, brain: Supervisor, before: dict[int, Phase]
    ) -> None:
        by_itself = self.leaver == drain.worker_id
        if by_itself or before.get(drain.worker_id) not in (Phase.STARTING, Phase.READY):
            return  # it drains already, and is hurried
        gone = not brain.state.switchboards or self.passes_on
        waited = self.now >= self.stop_began + HAND_BACK
        require(gone or waited, "what is handed back is found", drain)

    def _ends_in_time(self, brain: Supervisor) -> None:
        """A stop has asked everybody soon, and kills everybody soon enough."""
        state, rule = brain.state, "the stop ends in time"
        if state.staying():
            asks = self.stop_began + HAND_BACK
            soon = self.now < asks and brain.next_deadline() <= asks
            require(soon, rule, f"not asked: {state.staying()}")
        latest = self.stop_began + brain.policy.graceful_timeout + GRACE
        for process in state.processes():
            sentenced = process.phase is Phase.DRAINING or process.killed_at is None
            if process.pid is not None and not process.staying and sentenced:
                require(process.deadline <= latest, rule, process)
        waits = [b for b in state.switchboards.values() if b.phase is not Phase.KILLED]
        taken = bool(state.workers) or self.passes_on
        require(taken or not waits, rule, f"nobody takes from {waits}")

    def _spares_are_used(self, brain: Supervisor) -> None:
        """Nobody is missing while a spare, which could accept at once, is kept back."""
        if self.stopping:
            return
        state = brain.state
        idle = [i for i in self.spares & self.pids.keys() if state.workers[i].phase is Phase.READY]
        trial = state.trial if state.current else None
        staying = [w for w in state.staying() if w.id not in self.spares and w.generation != trial]
        used = not idle or len(staying) >= self.target
        require(used, "spares are used", (len(staying), self.target, idle))

    def _capacity(
        self, before: dict[int, Phase], phases: dict[int, Phase], event: Event, spares: int
    ) -> None:
        """Make before break."""
        if self.stopping:
            return
        lost = [
            worker_id
            for worker_id, was in before.items()
            if was is Phase.READY
            and phases.get(worker_id) in (Phase.DRAINING, Phase.KILLED)
            and not (isinstance(event, on.WorkerLeaving) and event.worker_id == worker_id)
            and not (isinstance(event, on.Alarm) and event.beats.get(worker_id) != event.now)
        ]
        for group, wanted in ((False, self.target), (True, spares)):
            given = [i for i in lost if (i in self.spares) is group]
            ready = sum(p is Phase.READY and (i in self.spares) is group for i, p in phases.items())
            enough = not given or ready >= wanted
            require(enough, "make before break", f"{ready} ready of {wanted}, gave {given}")

    def _room(self, brain: Supervisor, phases: dict[int, Phase], actions: list[Action]) -> None:
        if not any(isinstance(a, do.Fork) for a in actions):
            return
        staying = sum(phase in (Phase.STARTING, Phase.READY) for phase in phases.values())
        policy = brain.policy
        most = self.target + policy.surge + 1
        most += policy.spares + policy.surge if policy.spares else 0
        require(staying <= most, "no more than the surge", f"{staying} of {most}")
        require(len(phases) <= brain.policy.slots, "slots are few", f"{len(phases)}")

    def _deadlines(self, brain: Supervisor) -> None:
        due = brain.next_deadline()
        for worker in brain.state.workers.values():
            if worker.phase is not Phase.READY:
                timed = worker.deadline < FOREVER and due <= worker.deadline
                require(timed, "every phase ends", worker)
        for template in brain.state.templates.values():
            if template.phase is not Phase.READY:
                timed = template.deadline < FOREVER and due <= template.deadline
                require(timed, "every phase ends", template)

    def _dropped_harmlessly(self, before: dict[int, Phase], phases: dict[int, Phase]) -> None:
        ready = [i for i, was in before.items() if was is Phase.READY]
        hurt = [i for i in ready if phases.get(i) is not Phase.READY]
        require(not hurt, "a dropped generation harms nobody", hurt)


def _require_order(
    kind: str, were: dict[int, Phase], are: dict[int, Phase], ended: set[int]
) -> None:
    """Each goes forward, and nobody but ``ended`` is gone."""
    for number, was in were.items():
        becomes = are.get(number, Phase.EXITED)
        forward = ORDER[was] <= ORDER[becomes]
        require(forward, "phases go forward", (kind, number, was, becomes))
    gone = were.keys() - are.keys()
    require(gone <= ended, "nobody is forgotten", (kind, gone))


def _may_be_direct(brain: Supervisor, generation: int) -> bool:
    """Capacity may be made without a template; a generation is tried as it will serve."""
    state = brain.state
    if brain.policy.preload is Preload.NEVER or generation in state.direct:
        return True
    return generation == state.current and state.template_of(generation) is None


def _is_deed(action: Action) -> bool:
    return not isinstance(action, do.Note)


def settled(brain: Supervisor, witness: Witness) -> bool:
    """Whether everything is as the user wants it."""
    if witness.stopping:
        return witness.left
    state = brain.state
    if state.predecessor or state.successor or state.upgrade_wanted:
        return False
    workers = brain.state.workers.values()
    serve = [w for w in workers if not w.spare]
    hope = witness.newest_hope()
    # A template of another generation may be on its way out, or one too many on its way in.
    templates = {t.generation for t in brain.state.templates.values() if t.phase is Phase.READY}
    direct = brain.policy.preload is Preload.NEVER or hope in brain.state.direct
    boards = sum(b.phase is Phase.READY for b in brain.state.switchboards.values())
    return (
        len(serve) == witness.target
        and len(workers) - len(serve) == brain.policy.spares
        and all((w.phase, w.generation, w.spent) == (Phase.READY, hope, "") for w in workers)
        and (direct or templates == {hope})
        and boards == brain.policy.switchboard
    )

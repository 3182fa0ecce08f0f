"""A rule that cannot be broken proves nothing: break the supervisor and be told so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from forkserve.supervisor import actions as do
from forkserve.supervisor import blockages, brain, reconcile
from forkserve.supervisor.actions import Action
from forkserve.supervisor.backoff import Backoff
from forkserve.supervisor.brain import Supervisor
from forkserve.supervisor.events import (
    Alarm,
    Event,
    ReloadRequested,
    StacksRead,
    SuccessorExited,
    SuccessorFailed,
    SuccessorForked,
    SuccessorReady,
    SwitchboardExited,
    SwitchboardLeaving,
    TemplateExited,
    WorkerReady,
    WorkerUnblocked,
)
from forkserve.supervisor.failures import BootFailure
from forkserve.supervisor.phases import Phase
from forkserve.supervisor.reconcile import Birth, Plan
from forkserve.supervisor.state import FOREVER, Policy, Stage, State, Template, Worker
from tests.brain import story
from tests.brain.explorer import (
    BOARD_POLICY,
    SLOW_POLICY,
    SPARE_POLICY,
    TEMPLATE_POLICY,
    Broken,
    World,
    beside_another,
    deploy_moves,
    explore,
    following,
    half_reloaded,
    moves,
    moves_of_the_blocked,
    moves_when_memory_is_short,
    newborn,
    on_trial_from_a_template,
    resize_moves,
    serving,
    serving_from_a_template,
    serving_with_a_switchboard,
    upgrade_moves,
    upgrading,
    with_a_spare,
    with_a_spare_from_a_template,
)

Break = Callable[[pytest.MonkeyPatch], None]


def wrap(
    monkeypatch: pytest.MonkeyPatch, name: str, then: Callable[..., Any], on: Any = Supervisor
) -> None:
    """``on.name`` is called as ever, then ``then`` does its mischief with the same arguments."""
    right = getattr(on, name)

    def wrong(*args: Any, **kwargs: Any) -> Any:
        right(*args, **kwargs)
        return then(*args, **kwargs)

    monkeypatch.setattr(on, name, wrong)


def once_observed(
    monkeypatch: pytest.MonkeyPatch, then: Callable[[Supervisor, Event], None]
) -> None:
    """``then`` does its mischief with every event, before the supervisor reconciles."""

    def handle(self: Supervisor, event: Event) -> list[Action]:
        self._out = []
        self._observe(event)
        then(self, event)
        self._reconcile(event.now)
        return self._out

    monkeypatch.setattr(Supervisor, "handle", handle)


def gives_up_old_workers_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    def surplus(state: State, group: list[Worker], target: int) -> list[Worker]:
        return [w for w in group if w.generation < state.newest and state.current]

    monkeypatch.setattr(reconcile, "_surplus", surplus)


def takes_down_the_old_generation_with_the_broken_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def verdict(self: Supervisor, worker: Worker, failure: Any, now: float) -> None:
        if any(isinstance(action, do.GenerationDropped) for action in self._out):
            for other in self.state.in_phase(Phase.READY):
                other.phase = Phase.DRAINING
                other.deadline = now + 1

    wrap(monkeypatch, "_boot_verdict", verdict)
    monkeypatch.setattr("tests.brain.invariants.Witness._capacity", lambda *args: None)


def goes_on_with_a_dropped_generation(monkeypatch: pytest.MonkeyPatch) -> None:
    def verdict(self: Supervisor, worker: Worker, failure: Any, now: float) -> None:
        if any(isinstance(action, do.GenerationDropped) for action in self._out):
            self.state.trial = worker.generation

    wrap(monkeypatch, "_boot_verdict", verdict)


def forks_in_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    def again(self: Supervisor, now: float) -> None:
        if self.state.stage is Stage.STOPPING:
            self._fork(Birth(1), now)

    wrap(monkeypatch, "_reconcile", again)


def leaves_workers_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(self: Supervisor, now: float) -> None:
        if self.state.stage is Stage.STOPPING and len(self.state.workers) == 1:
            self.state.stage = Stage.STOPPED
            self._out.append(do.Leave(0))

    wrap(monkeypatch, "_reconcile", leave)


def forgets_the_surge(monkeypatch: pytest.MonkeyPatch) -> None:
    right = reconcile.plan

    def plan(state: State, policy: Any, now: float) -> Plan:
        steps = right(state, policy, now)
        return replace(steps, fork=steps.fork * 3 if state.current else steps.fork)

    monkeypatch.setattr(brain, "plan", plan)


def signals_any_pid(monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(self: Supervisor, worker: Worker, now: float) -> None:
        if worker.pid is None:
            self._out.append(do.Kill(worker.id, -1))

    wrap(monkeypatch, "_kill", kill)


def kills_without_a_dump(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Supervisor, "_condemn", lambda self, worker, why, limit, now: self._kill(worker, now)
    )


def waits_for_ever_for_a_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Supervisor, "_drain_limit", lambda self, worker: FOREVER)


def wakes_the_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Supervisor.handle

    def handle(self: Supervisor, event: Event) -> list[Action]:
        for worker in self.state.in_phase(Phase.DRAINING):
            worker.phase = Phase.READY
        return right(self, event)

    monkeypatch.setattr(Supervisor, "handle", handle)


def reuses_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    def exited(self: Supervisor, now: float) -> None:
        self.state.last_id = max(self.state.workers, default=0)

    wrap(monkeypatch, "_reconcile", exited)


def reuses_slots_of_those_who_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    def free_slots(state: State) -> Iterator[int]:
        taken = {w.slot for w in state.staying()}
        return (slot for slot in range(99) if slot not in taken)

    monkeypatch.setattr(State, "free_slots", free_slots)


def gives_up_although_a_worker_was_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    def verdict(self: Supervisor, worker: Worker, failure: Any, now: float) -> None:
        self._out.append(do.FirstBootFailed(failure))
        self._begin_stop(now)

    monkeypatch.setattr(Supervisor, "_boot_verdict", verdict)


def never_replaces_the_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    def births(state: State, group: list[Worker], target: int, *_: Any, **__: Any) -> list[Birth]:
        return [] if state.last_id > 1 else [Birth(1)] * target

    monkeypatch.setattr(reconcile, "_births", births)


# With templates and spares.


def forks_from_a_template_that_still_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    right = reconcile._with_its_parent

    def with_its_parent(birth: Birth, state: State, policy: Any, now: float) -> Birth | None:
        template = state.template_of(birth.generation)
        if template is None:
            return right(birth, state, policy, now)
        return replace(birth, template=template.id)

    monkeypatch.setattr(reconcile, "_with_its_parent", with_its_parent)


def leaves_a_template_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(self: Supervisor, now: float) -> None:
        if self.state.stage is Stage.STOPPING and not self.state.workers:
            self.state.stage = Stage.STOPPED
            self._out.append(do.Leave(0))

    wrap(monkeypatch, "_reconcile", leave)


def signals_a_template_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Supervisor.handle

    def handle(self: Supervisor, event: Event) -> list[Action]:
        actions = right(self, event)
        if isinstance(event, TemplateExited):
            actions.append(do.KillTemplate(event.template_id, 2000 + event.template_id))
        return actions

    monkeypatch.setattr(Supervisor, "handle", handle)


def makes_a_template_in_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    def again(self: Supervisor, now: float) -> None:
        if self.state.stage is Stage.STOPPING:
            self._fork_template(1, now)

    wrap(monkeypatch, "_reconcile", again)


def waits_for_ever_for_a_template(monkeypatch: pytest.MonkeyPatch) -> None:
    def dismiss(self: Supervisor, template: Any, now: float) -> None:
        template.deadline = FOREVER

    wrap(monkeypatch, "_dismiss", dismiss)


def takes_a_worn_worker_away_before_its_replacement(monkeypatch: pytest.MonkeyPatch) -> None:
    right = reconcile._surplus

    def surplus(state: State, group: list[Worker], target: int) -> list[Worker]:
        worn = [w for w in group if w.spent and w.phase is Phase.READY]
        return list({w.id: w for w in [*right(state, group, target), *worn]}.values())

    monkeypatch.setattr(reconcile, "_surplus", surplus)


def counts_spares_as_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    right = reconcile._surplus

    def surplus(state: State, group: list[Worker], target: int) -> list[Worker]:
        ready = [w for w in state.staying() if w.phase is Phase.READY]
        if any(w.spare for w in group) or len(ready) <= target:
            return right(state, group, target)
        return group[:1]

    monkeypatch.setattr(reconcile, "_surplus", surplus)


def promotes_spares_that_are_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    def promotions(state: State, staying: list[Worker]) -> list[Worker]:
        return [w for w in staying if w.spare and w.pid][: state.target]

    monkeypatch.setattr(reconcile, "_promotions", promotions)


def forks_from_a_template_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "_with_its_parent", lambda birth, *_: replace(birth, template=1))


def forks_from_a_template_that_was_dismissed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fork(self: Supervisor, birth: Birth, now: float) -> None:
        oldest = min(self.state.templates, default=None)
        right(self, replace(birth, template=birth.template and oldest), now)

    right = Supervisor._fork
    monkeypatch.setattr(Supervisor, "_fork", fork)


def tries_a_generation_without_its_template(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "_with_its_parent", lambda birth, *_: birth)


def forgets_a_template(monkeypatch: pytest.MonkeyPatch) -> None:
    def dismiss(self: Supervisor, template: Template, now: float) -> None:
        del self.state.templates[template.id]

    wrap(monkeypatch, "_dismiss", dismiss)


def wakes_a_dismissed_template(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Supervisor.handle

    def handle(self: Supervisor, event: Event) -> list[Action]:
        for template in self.state.templates.values():
            if template.phase is Phase.DRAINING:
                template.phase, template.deadline = Phase.READY, FOREVER
        return right(self, event)

    monkeypatch.setattr(Supervisor, "handle", handle)


def kills_a_template_without_a_dump(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Supervisor, "_condemn", lambda self, process, why, limit, now: self._kill(process, now)
    )


def makes_templates_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "_is_direct", lambda *_: False)


def keeps_its_spares_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "_promotions", lambda *_: [])


def takes_an_old_spare_away_before_its_replacement(monkeypatch: pytest.MonkeyPatch) -> None:
    right = reconcile._surplus

    def surplus(state: State, group: list[Worker], target: int) -> list[Worker]:
        old = [w for w in group if w.spare and w.generation < state.current]
        return list({w.id: w for w in [*right(state, group, target), *old]}.values())

    monkeypatch.setattr(reconcile, "_surplus", surplus)


# With other settings.


def decides_by_what_is_only_proposed(monkeypatch: pytest.MonkeyPatch) -> None:
    def observed(self: Supervisor, event: Event) -> None:
        if isinstance(event, ReloadRequested):
            self._adopt()

    once_observed(monkeypatch, observed)


def keeps_what_a_dropped_generation_proposed(monkeypatch: pytest.MonkeyPatch) -> None:
    def observed(self: Supervisor, event: Event) -> None:
        if any(isinstance(action, do.GenerationDropped) for action in self._out):
            self.policy = replace(self.policy, workers=3)

    once_observed(monkeypatch, observed)


def forgets_what_was_proposed(monkeypatch: pytest.MonkeyPatch) -> None:
    def observed(self: Supervisor, event: Event) -> None:
        self.state.proposed = None

    once_observed(monkeypatch, observed)


# With a switchboard.


def makes_a_switchboard_in_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    def again(self: Supervisor, now: float) -> None:
        if self.state.stage is Stage.STOPPING:
            self._fork_switchboard(now)

    wrap(monkeypatch, "_reconcile", again)


def makes_one_switchboard_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "_lacks_a_switchboard", lambda *_: True)


def never_makes_another_switchboard(monkeypatch: pytest.MonkeyPatch) -> None:
    right = reconcile._lacks_a_switchboard

    def lacks(state: State, policy: Any, now: float) -> bool:
        return not state.last_switchboard and right(state, policy, now)

    monkeypatch.setattr(reconcile, "_lacks_a_switchboard", lacks)


def signals_a_switchboard_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    def exited(self: Supervisor, event: Event) -> None:
        if isinstance(event, SwitchboardExited):
            board_id = event.switchboard_id
            self._out.append(do.KillSwitchboard(board_id, 3000 + board_id))

    once_observed(monkeypatch, exited)


def leaves_a_switchboard_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(self: Supervisor, now: float) -> None:
        if self.state.stage is Stage.STOPPING and not self.state.workers:
            self.state.stage = Stage.STOPPED
            self._out.append(do.Leave(0))

    wrap(monkeypatch, "_reconcile", leave)


def forgets_a_switchboard_that_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    def leaving(self: Supervisor, event: Event) -> None:
        if isinstance(event, SwitchboardLeaving):
            self.state.switchboards.pop(event.switchboard_id)

    once_observed(monkeypatch, leaving)


def wakes_a_switchboard_that_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    def wake(self: Supervisor, event: Event) -> None:
        for board in self.state.switchboards.values():
            if board.phase is Phase.DRAINING and not isinstance(event, SwitchboardLeaving):
                board.phase, board.beat = Phase.READY, event.now

    once_observed(monkeypatch, wake)


def kills_a_switchboard_without_a_dump(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Supervisor, "_condemn", lambda self, process, why, limit, now: self._kill(process, now)
    )


def never_judges_a_switchboard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Supervisor, "_switchboard_overdue", lambda *_: None)


def takes_a_worker_along_with_its_switchboard(monkeypatch: pytest.MonkeyPatch) -> None:
    def exited(self: Supervisor, event: Event) -> None:
        if isinstance(event, SwitchboardExited):
            for worker in self.state.in_phase(Phase.READY)[:1]:
                self._drain(worker, event.now)

    once_observed(monkeypatch, exited)


def gives_up_because_of_the_switchboard(monkeypatch: pytest.MonkeyPatch) -> None:
    def exited(self: Supervisor, event: Event) -> None:
        if isinstance(event, SwitchboardExited) and not self.state.current:
            self._out.append(do.FirstBootFailed(BootFailure("no switchboard")))
            self._begin_stop(event.now)

    once_observed(monkeypatch, exited)


def drains_before_anything_is_handed_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Supervisor, "_workers_wait", lambda _: False)


def waits_for_the_switchboard_as_long_as_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Supervisor, "_hand_back_ends", lambda _: FOREVER)


def adds_the_wait_to_the_graceful_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Supervisor, "_drain_deadline", lambda self, worker, now: now + self._drain_limit(worker)
    )


def waits_for_a_switchboard_that_nobody_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Supervisor, "_hand_back_no_more", lambda *_: None)


def forgets_that_the_slow_one_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Supervisor._note_parking

    def note(self: Supervisor) -> None:
        if any(w.slow for w in self.state.workers.values()) or len(self.state.workers) > 1:
            right(self)

    monkeypatch.setattr(Supervisor, "_note_parking", note)


def makes_up_at_once_for_the_oom_killers_victim(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Backoff, "out_of_memory", lambda self, now: None)


def lets_only_the_template_wait_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def wait(self: Supervisor, now: float) -> None:
        self.state.template_backoff.out_of_memory(now)

    monkeypatch.setattr(Supervisor, "_wait_for_memory", wait)


MEMORY_BREAKS: list[Break] = [
    makes_up_at_once_for_the_oom_killers_victim,
    lets_only_the_template_wait_for_memory,
]


SWITCHBOARD_BREAKS: list[tuple[Break, str]] = [
    (makes_a_switchboard_in_a_stop, "no fork in a stop"),
    (makes_one_switchboard_more, "switchboards are few"),
    (never_makes_another_switchboard, "all ends well"),
    (signals_a_switchboard_that_is_gone, "only our own pids"),
    (leaves_a_switchboard_behind, "leave"),
    (forgets_a_switchboard_that_leaves, "nobody is forgotten"),
    (wakes_a_switchboard_that_leaves, "phases go forward"),
    (kills_a_switchboard_without_a_dump, "a dump before a kill"),
    (never_judges_a_switchboard, "every phase ends"),
    (takes_a_worker_along_with_its_switchboard, "the switchboard harms nobody"),
    (gives_up_because_of_the_switchboard, "the switchboard harms nobody"),
    (drains_before_anything_is_handed_back, "what is handed back is found"),
    (waits_for_the_switchboard_as_long_as_it_takes, "the stop ends in time"),
    (adds_the_wait_to_the_graceful_timeout, "the stop ends in time"),
    (waits_for_a_switchboard_that_nobody_needs, "the stop ends in time"),
    (forgets_that_the_slow_one_is_gone, "parking is told as it is"),
]


# When loops are blocked.


def kills_whoever_is_blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(self: Supervisor, worker: Worker, now: float) -> None:
        worker.phase, worker.deadline = Phase.KILLED, now + 1.0

    wrap(monkeypatch, "_ask_for_stacks", ask)


def looks_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Supervisor._look_due
    monkeypatch.setattr(Supervisor, "_look_due", lambda self, w: right(self, w) - 0.5)


def looks_again_while_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(self: Supervisor, event: Event) -> None:
        if any(isinstance(action, do.LoopBlocked) for action in self._out):
            for worker in self.state.workers.values():
                worker.blockage = None

    once_observed(monkeypatch, read)


def looks_at_each_blockage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blockages, "PAUSE", 0.0)


def forgets_to_read_the_stacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blockages, "READ_AFTER", FOREVER)


def waits_for_stacks_as_long_as_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blockages, "PATIENCE", FOREVER)


def tells_of_the_end_of_what_it_has_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def turns(self: Supervisor, event: Event) -> None:
        if isinstance(event, WorkerUnblocked) and not self._out:
            self._out.append(do.LoopTurns(event.worker_id, event.seconds))

    once_observed(monkeypatch, turns)


def tells_of_a_blockage_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    def tell(self: Supervisor, event: Event) -> None:
        if isinstance(event, StacksRead) and event.stack and not self._out:
            self._out.append(do.LoopBlocked(event.worker_id, 1.0, event.stack))

    once_observed(monkeypatch, tell)


BLOCKAGE_BREAKS: list[tuple[Break, str]] = [
    (kills_whoever_is_blocked, "the blocked are left alone"),
    (looks_too_early, "only who is blocked shows where"),
    (looks_again_while_it_lasts, "once a blockage"),
    (looks_at_each_blockage, "stacks are asked for seldom"),
    (forgets_to_read_the_stacks, "what was asked for is told"),
    (waits_for_stacks_as_long_as_it_takes, "what was asked for is told"),
    (tells_of_the_end_of_what_it_has_not_told, "a blockage is told once"),
    (tells_of_a_blockage_twice, "a blockage is told once"),
]


# In an upgrade.


def closes_a_queue_that_others_accept_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(State, "others_accept", property(lambda _: False))


def leaves_the_queue_open_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(State, "others_accept", property(lambda _: True))


def starts_a_second_new_master(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Supervisor, "_is_tried", lambda _: False)
    monkeypatch.setattr(Supervisor, "_upgrade_waits", lambda _: "")


def does_not_wait_for_the_old_master(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Supervisor, "_upgrade_waits", lambda _: "")


def never_gets_round_to_an_upgrade(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Supervisor, "_upgrade_waits", lambda _: "not now")


def starts_a_master_in_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    def again(self: Supervisor, now: float) -> None:
        if self.state.stage is Stage.STOPPING and self.state.successor is None:
            self._fork_successor(now)

    wrap(monkeypatch, "_reconcile", again)


def leaves_to_one_that_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    def forked(self: Supervisor, event: Event) -> None:
        if isinstance(event, SuccessorForked) and not self.state.stopping:
            self._successor_ready(SuccessorReady(event.now, event.successor_id, True))

    once_observed(monkeypatch, forked)


def ends_the_one_that_has_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def begin_stop(self: Supervisor, now: float) -> None:
        if self.state.succeeded_by is not None:
            self._out.append(do.DismissMaster(1, self.state.succeeded_by))

    wrap(monkeypatch, "_begin_stop", begin_stop)


def leaves_a_new_master_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(self: Supervisor, now: float) -> None:
        if self.state.stage is Stage.STOPPING and not self.state.workers:
            self.state.stage = Stage.STOPPED
            self._out.append(do.Leave(0))

    wrap(monkeypatch, "_reconcile", leave)


def waits_for_ever_for_a_new_master(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Policy, "succession_timeout", property(lambda _: FOREVER))


def gives_a_new_master_longer_than_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Supervisor, "_dismissal_limit", lambda _: 60.0)


def forgets_a_new_master_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    def failed(self: Supervisor, event: Event) -> None:
        if isinstance(event, SuccessorFailed):
            self.state.successor = None

    once_observed(monkeypatch, failed)


def signals_a_new_master_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    def exited(self: Supervisor, event: Event) -> None:
        if isinstance(event, SuccessorExited):
            self._out.append(do.KillMaster(1, story.successor_pid_of(1)))

    once_observed(monkeypatch, exited)


def loses_the_reload_of_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(self: Supervisor, event: Event) -> None:
        self.state.reload_waits = False

    once_observed(monkeypatch, lose)


def takes_a_worker_along_with_the_new_master(monkeypatch: pytest.MonkeyPatch) -> None:
    def failed(self: Supervisor, event: Event) -> None:
        if isinstance(event, SuccessorFailed):
            for worker in self.state.in_phase(Phase.READY)[:1]:
                self._drain(worker, event.now)

    once_observed(monkeypatch, failed)
    monkeypatch.setattr("tests.brain.invariants.Witness._capacity", lambda *args: None)


def passes_on_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def ready(self: Supervisor, event: Event) -> None:
        self.state.has_onward_way = self.state.succeeded_by is not None

    once_observed(monkeypatch, ready)


def reports_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    def ready(self: Supervisor, event: Event) -> None:
        if self.state.borrowed and isinstance(event, WorkerReady):
            self._out.append(do.ReportReady())

    once_observed(monkeypatch, ready)


UPGRADE_BREAKS: list[tuple[Break, str]] = [
    (closes_a_queue_that_others_accept_from, "only the last one closes the queue"),
    (leaves_the_queue_open_for_nobody, "only the last one closes the queue"),
    (starts_a_second_new_master, "at most two masters"),
    (does_not_wait_for_the_old_master, "at most two masters"),
    (never_gets_round_to_an_upgrade, "all ends well"),
    (starts_a_master_in_a_stop, "no fork in a stop"),
    (leaves_to_one_that_is_not_ready, "make before break"),
    (ends_the_one_that_has_taken_over, "who has taken over is left alone"),
    (leaves_a_new_master_behind, "leave"),
    (waits_for_ever_for_a_new_master, "every phase ends"),
    (gives_a_new_master_longer_than_a_stop, "the stop ends in time"),
    (forgets_a_new_master_that_failed, "nobody is forgotten"),
    (signals_a_new_master_that_is_gone, "only our own pids"),
    (loses_the_reload_of_meanwhile, "no reload is lost"),
    (takes_a_worker_along_with_the_new_master, "a failed upgrade harms nobody"),
    (passes_on_to_nobody, "there is a way on"),
    (reports_too_early, "it reports what is"),
]


TEMPLATE_BREAKS: list[tuple[Break, str]] = [
    (forks_from_a_template_that_still_imports, "only a ready template forks"),
    (forks_from_a_template_that_is_gone, "only a ready template forks"),
    (forks_from_a_template_that_was_dismissed, "only a ready template forks"),
    (tries_a_generation_without_its_template, "direct only where it may be"),
    (forgets_a_template, "nobody is forgotten"),
    (wakes_a_dismissed_template, "phases go forward"),
    (kills_a_template_without_a_dump, "a dump before a kill"),
    (makes_templates_unasked, "no template without preload"),
    (keeps_its_spares_back, "spares are used"),
    (takes_an_old_spare_away_before_its_replacement, "make before break"),
    (leaves_a_template_behind, "leave"),
    (signals_a_template_that_is_gone, "only our own pids"),
    (makes_a_template_in_a_stop, "no fork in a stop"),
    (waits_for_ever_for_a_template, "every phase ends"),
    (takes_a_worn_worker_away_before_its_replacement, "make before break"),
    (counts_spares_as_workers, "make before break"),
    (promotes_spares_that_are_not_ready, "only ready spares"),
]


BREAKS: list[tuple[Break, str]] = [
    (gives_up_old_workers_too_early, "make before break"),
    (takes_down_the_old_generation_with_the_broken_one, "a dropped generation harms nobody"),
    (goes_on_with_a_dropped_generation, "given up is given up"),
    (forks_in_a_stop, "no fork in a stop"),
    (leaves_workers_behind, "leave"),
    (forgets_the_surge, "no more than the surge"),
    (signals_any_pid, "only our own pids"),
    (kills_without_a_dump, "a dump before a kill"),
    (waits_for_ever_for_a_drain, "every phase ends"),
    (wakes_the_dead, "phases go forward"),
    (reuses_ids, "ids are new"),
    (reuses_slots_of_those_who_leave, "slots are free"),
    (gives_up_although_a_worker_was_ready, "first boot"),
    (never_replaces_the_dead, "all ends well"),
]


def search(*, closing: bool) -> None:
    explore(newborn(), serving(), half_reloaded(), depth=3, closing=closing)


@pytest.mark.parametrize(("break_it", "rule"), BREAKS, ids=[b.__name__ for b, _ in BREAKS])
def test_a_broken_supervisor_is_found_out(
    break_it: Break, rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_it(monkeypatch)
    with pytest.raises(Broken) as found:
        search(closing=rule == "all ends well")
    assert found.value.rule == rule


@pytest.mark.parametrize(
    ("break_it", "rule"), TEMPLATE_BREAKS, ids=[b.__name__ for b, _ in TEMPLATE_BREAKS]
)
def test_a_broken_supervisor_is_found_out_with_templates_and_spares(
    break_it: Break, rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    unbroken = [newborn(TEMPLATE_POLICY), serving_from_a_template(), with_a_spare()]
    unbroken.append(following(newborn(SPARE_POLICY), story.start, story.born(1), story.ready(1)))
    unbroken += [on_trial_from_a_template(), with_a_spare_from_a_template()]
    break_it(monkeypatch)
    with pytest.raises(Broken) as found:
        explore(*unbroken, depth=3, closing=False)
    assert found.value.rule == rule


@pytest.mark.parametrize(
    ("break_it", "rule"), SWITCHBOARD_BREAKS, ids=[b.__name__ for b, _ in SWITCHBOARD_BREAKS]
)
def test_a_broken_supervisor_is_found_out_with_a_switchboard(
    break_it: Break, rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    unbroken = [newborn(BOARD_POLICY), serving_with_a_switchboard()]
    break_it(monkeypatch)
    with pytest.raises(Broken) as found:
        explore(*unbroken, depth=3, closing=rule == "all ends well")
    assert found.value.rule == rule


@pytest.mark.parametrize(
    "break_it",
    [
        decides_by_what_is_only_proposed,
        keeps_what_a_dropped_generation_proposed,
        forgets_what_was_proposed,
    ],
)
def test_a_broken_supervisor_is_found_out_with_other_settings(
    break_it: Break, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_it(monkeypatch)
    with pytest.raises(Broken) as found:
        explore(serving(), depth=4, closing=False, moves=resize_moves)
    assert found.value.rule == "settings are of a generation that serves"


@pytest.mark.parametrize("break_it", MEMORY_BREAKS)
def test_a_broken_supervisor_is_found_out_when_memory_is_short(
    break_it: Break, monkeypatch: pytest.MonkeyPatch
) -> None:
    unbroken = [serving(), serving_from_a_template()]
    break_it(monkeypatch)
    with pytest.raises(Broken) as found:
        explore(*unbroken, depth=2, closing=False, moves=moves_when_memory_is_short)
    assert found.value.rule == "who lacks memory waits"


@pytest.mark.parametrize(
    ("break_it", "rule"), UPGRADE_BREAKS, ids=[b.__name__ for b, _ in UPGRADE_BREAKS]
)
def test_a_broken_supervisor_is_found_out_in_an_upgrade(
    break_it: Break, rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    unbroken = [newborn(), upgrading(BOARD_POLICY), beside_another()]
    unbroken.append(following(serving(), story.upgrade))
    unbroken.append(following(upgrading(), story.term, story.exits(1)))
    break_it(monkeypatch)
    with pytest.raises(Broken) as found:
        explore(*unbroken, depth=2, moves=upgrade_moves, closing=rule == "all ends well")
    assert found.value.rule == rule


@pytest.mark.parametrize(
    ("break_it", "rule"), BLOCKAGE_BREAKS, ids=[b.__name__ for b, _ in BLOCKAGE_BREAKS]
)
def test_a_broken_supervisor_is_found_out_when_loops_are_blocked(
    break_it: Break, rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasty = replace(SLOW_POLICY, workers=1, slow_threshold=0.1)
    patient = replace(SLOW_POLICY, workers=1, timeout=30.0)
    unbroken = [following(newborn(p), story.start, story.born(1)) for p in (hasty, patient)]
    unbroken = [following(world, story.ready(1)) for world in unbroken]
    break_it(monkeypatch)
    with pytest.raises(Broken) as found:
        explore(*unbroken, depth=5, closing=False, moves=blockage_moves)
    assert found.value.rule == rule


def blockage_moves(world: World) -> Iterator[Event]:
    """Only what a blockage is made of."""
    for event in moves_of_the_blocked(world):
        if isinstance(event, Alarm | StacksRead | WorkerUnblocked):
            yield event


def test_both_sets_of_moves_are_what_they_seem() -> None:
    world: World = half_reloaded()
    few, all_ = list(deploy_moves(world)), list(moves(world))
    assert 0 < len(few) < len(all_)
    assert all(event in all_ for event in few)

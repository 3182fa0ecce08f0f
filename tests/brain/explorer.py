"""Exhaustive search: every order of a few events, from a few beginnings.

A *world* is a supervisor, a witness and a clock. What is possible in a world are its
*moves*; forks are under way until a move says what came of them. Worlds that only
differ in names (ids, pids, slots, small change of time) are one, so the search ends.
After each move the witness checks the invariants, and from each world an obliging
scheduler (forks succeed, workers become ready and leave when asked) must reach what
the user wants.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from forkserve.supervisor import events as on
from forkserve.supervisor.brain import Supervisor
from forkserve.supervisor.events import Event, Exit
from forkserve.supervisor.failures import BootFailure
from forkserve.supervisor.phases import Phase
from forkserve.supervisor.state import FOREVER, Policy, Preload, Switchboard, Template, Worker
from tests.brain import story
from tests.brain.invariants import HAND_BACK, PAUSE, Violation, Witness, settled
from tests.brain.twins import twin_of

TICK = 0.001
"""Seconds between two events; time only leaps at an alarm."""

CLOSING_STEPS = 200

POLICY = Policy(
    workers=2,
    timeout=30.0,
    boot_timeout=20.0,
    graceful_timeout=10.0,
    most_workers=3,
)

Key = tuple[object, ...]


@dataclass(slots=True)
class World:
    brain: Supervisor
    witness: Witness
    now: float = 0.0
    trail: tuple[object, ...] = ()
    """The way here, as nested (rest, event)."""

    @classmethod
    def new(cls, policy: Policy = POLICY) -> World:
        return cls(Supervisor(policy), Witness(policy.workers))

    def after(self, event: Event) -> World:
        """The world after ``event``; this one stays as it is."""
        world = World(twin_of(self.brain), self.witness.copy(), event.now, (self.trail, event))
        try:
            world.witness.watch(world.brain, event)
        except Exception as error:
            raise Broken(error, world) from error
        return world

    def story(self) -> list[Event]:
        told, trail = [], self.trail
        while trail:
            trail, event = trail  # type: ignore[assignment]
            told.append(event)
        return told[::-1]  # type: ignore[return-value]


class Broken(AssertionError):
    """A rule was broken (or the supervisor raised), and by which events."""

    def __init__(self, error: Exception, world: World) -> None:
        lines = "\n".join(f"  {event}" for event in world.story())
        super().__init__(f"{error!r} after\n{lines}")
        self.rule = error.rule if isinstance(error, Violation) else type(error).__name__


def key(world: World) -> Key:
    """What tells a world from others. Times are relative, in steps of half a second."""
    state, now = world.brain.state, world.now
    return (
        tuple(_worker_key(world, w) for w in state.workers.values()),
        tuple(_template_key(world, t) for t in state.templates.values()),
        tuple(sorted(state.newest - g for g in state.direct)),
        state.template_backoff.rounds,
        _bucket(state.template_backoff.until - now),
        state.target,
        state.stage,
        state.current and state.newest - state.current,
        state.trial and state.newest - state.trial,
        state.deaths_in_trial,
        world.brain.policy.workers,
        world.witness.proposed and world.witness.proposed.workers,
        state.backoff.rounds,
        _bucket(state.backoff.until - now),
        state.all_ready_once,
        state.reload_began is None,
        min(state.interrupts, 2),
        world.witness.newest_hope() - state.newest,
        now < world.witness.memory_is_short_until,
        _switchboards_key(world) if world.brain.policy.switchboard else None,
        _upgrade_key(world),
    )


def _upgrade_key(world: World) -> Key:
    state, witness = world.brain.state, world.witness
    if state.successor is None and state.succeeded_by is None and state.predecessor is None:
        return (state.upgrade_wanted,)
    successor: Key = ()
    if (one := state.successor) is not None:
        due = _bucket(one.deadline - world.now)
        successor = (one.phase, one.pid is None, one.departure, one.killed_at is None, due)
    return (
        successor,
        witness.successor is None,
        state.succeeded_by is None,
        state.has_onward_way,
        witness.reload_waits,
        state.upgrade_wanted,
        state.predecessor is None,
        state.borrowed,
        witness.reported,
    )


def _worker_key(world: World, worker: Worker) -> Key:
    now, state = world.now, world.brain.state
    return (
        worker.phase,
        state.newest - worker.generation,
        worker.pid is None,
        worker.departure,
        worker.patient,
        worker.killed_at is None,
        _bucket(worker.deadline - now),
        _bucket(worker.beat - now) if worker.phase is Phase.READY else 0,
        worker.born < state.backoff.raised_at,
        worker.ready_at is not None and now - worker.ready_at < 5,
        worker.spare,
        bool(worker.spent),
        worker.template is None if worker.pid is None else None,
        worker.template in state.templates if worker.pid is None else None,
        _watch_key(world, worker) if worker.slow_threshold else None,
    )


def _watch_key(world: World, worker: Worker) -> Key:
    now, blockage = world.now, worker.blockage
    turned = max(worker.beat, worker.watched_from)
    shown = world.witness.dumped.get(worker.id, -FOREVER)
    if blockage is None:
        return (round((turned - now) * 10), round(max(shown - now, -PAUSE) * 10))
    return (
        blockage.told,
        blockage.lasted is None,
        round((blockage.asked_at - now) * 10),
        worker.id in world.witness.untold,
    )


def _template_key(world: World, template: Template) -> Key:
    now, state = world.now, world.brain.state
    return (
        template.phase,
        state.newest - template.generation,
        template.pid is None,
        template.departure,
        template.killed_at is None,
        _bucket(template.deadline - now),
        template.born < state.template_backoff.raised_at,
        template.ready_at is not None and now - template.ready_at < 5,
        template.id in world.witness.asked.values(),
    )


def _switchboards_key(world: World) -> Key:
    now, state = world.now, world.brain.state
    return (
        tuple(_board_key(world, b) for b in state.switchboards.values()),
        state.switchboard_backoff.rounds,
        _bucket(state.switchboard_backoff.until - now),
        state.parking,
        tuple(w.slow for w in state.workers.values()),
        # How long the workers have waited for it in a stop.
        round((now - (state.stop_began or now)) / HAND_BACK) if state.staying() else 0,
    )


def _board_key(world: World, board: Switchboard) -> Key:
    now, state = world.now, world.brain.state
    return (
        board.phase,
        board.pid is None,
        board.departure,
        board.killed_at is None,
        _bucket(board.deadline - now),
        _bucket(board.beat - now) if board.phase is Phase.READY else 0,
        board.born < state.switchboard_backoff.raised_at,
        board.ready_at is not None and now - board.ready_at < 5,
        board.onward,
    )


def _bucket(span: float) -> float:
    return span if span in (FOREVER, -FOREVER) else round(span * 2)


# -- moves ------------------------------------------------------------------------------


def moves(world: World) -> Iterator[Event]:
    """Everything that can happen now."""
    now = world.now + TICK
    if not world.brain.state.newest:
        yield on.Started(now)
        yield on.TerminateRequested(now)
        return
    yield on.ReloadRequested(now)
    yield on.ScaleRequested(now, +1)
    yield on.ScaleRequested(now, -1)
    yield on.TerminateRequested(now)
    yield on.InterruptRequested(now)
    yield on.QuitRequested(now)
    before: Key | None = None
    for worker in world.brain.state.workers.values():
        if (this := _worker_key(world, worker)) != before:  # twins in a row are one
            yield from _moves_of(worker, world, now)
        before = this
    for template in world.brain.state.templates.values():
        yield from _moves_of_template(template, world, now)
    for board in world.brain.state.switchboards.values():
        yield from _moves_of_switchboard(board, now)
    due = world.brain.next_deadline()
    if due < FOREVER:
        due = max(now, due)
        beating, board_beat = _beating(world, due), _board_beat(world, due)
        yield on.Alarm(due, beating, board_beat)
        if board_beat:
            yield on.Alarm(due, beating)
        if beating:
            yield on.Alarm(due, {}, board_beat)
        if beating or board_beat:
            yield on.Alarm(due + 1.0, {})


def _moves_of(worker: Worker, world: World, now: float) -> Iterator[Event]:
    born = worker.id not in world.witness.unborn
    template = world.witness.asked.get(worker.id)
    if not born:
        yield on.Forked(now, worker.id, 1000 + worker.id)
        if template is not None:
            yield on.WorkerExited(now, worker.id, Exit(1))  # and only then is its pid told
        if template is None or template in world.witness.templates:
            yield on.ForkFailed(now, worker.id, "EAGAIN")
        else:
            yield on.ForkLost(now, worker.id)
    if worker.phase is Phase.STARTING and template is None:
        yield on.WorkerReady(now, worker.id)  # heard before the birth is confirmed, perhaps
    if not born:
        return
    if worker.phase is Phase.STARTING:
        yield on.WorkerBootFailed(now, worker.id, BootFailure("no module named 'demo'"))
        yield on.WorkerExited(now, worker.id, Exit(1))
    if worker.phase is Phase.READY:
        yield on.WorkerLeaving(now, worker.id)
        if world.brain.policy.spares and not worker.spent:
            yield on.WorkerSpent(now, worker.id, "it has answered 1000 requests")
        if world.brain.policy.switchboard:
            yield on.WorkerSlow(now, worker.id, not worker.slow)
    graceful = worker.phase is Phase.DRAINING
    yield on.WorkerExited(now, worker.id, Exit(0 if graceful else -9))


def _moves_of_template(template: Template, world: World, now: float) -> Iterator[Event]:
    if template.pid is None:
        yield on.TemplateForked(now, template.id, 2000 + template.id)
        yield on.TemplateForkFailed(now, template.id, "EAGAIN")
        return
    if template.phase is Phase.STARTING:
        yield on.TemplateReady(now, template.id)
        yield on.TemplateBootFailed(now, template.id, BootFailure("no module named 'demo'"))
        if world.brain.policy.preload is Preload.AUTO:
            yield on.TemplateUnfit(now, template.id, "a thread")
        yield on.TemplateExited(now, template.id, Exit(1))
    yield on.TemplateExited(now, template.id, Exit(0 if template.phase is Phase.DRAINING else -9))


def _moves_of_switchboard(board: Switchboard, now: float) -> Iterator[Event]:
    if board.pid is None:
        yield on.SwitchboardForked(now, board.id, 3000 + board.id)
        yield on.SwitchboardForkFailed(now, board.id, "EAGAIN")
        return
    if board.phase is Phase.STARTING:
        yield on.SwitchboardReady(now, board.id)
    if board.staying:
        yield on.SwitchboardLeaving(now, board.id)
    graceful = board.phase is Phase.DRAINING
    yield on.SwitchboardExited(now, board.id, Exit(0 if graceful else -9))


def upgrade_moves(world: World) -> Iterator[Event]:
    """Upgrades, and all that may happen meanwhile but for changes of the number."""
    now = world.now + TICK
    if not world.brain.state.newest:
        yield on.Started(now, story.PREDECESSOR)
    else:
        yield on.UpgradeRequested(now)
    for event in moves(world):
        if not isinstance(event, on.ScaleRequested):
            yield event
    yield from _moves_of_masters(world, now)


def _moves_of_masters(world: World, now: float) -> Iterator[Event]:
    state, witness = world.brain.state, world.witness
    if (one := state.successor) is None:
        if witness.successor is not None:  # it has taken over
            yield on.SuccessorExited(now, witness.successor, Exit(-9))
    elif one.pid is None:
        yield on.SuccessorForked(now, one.id, story.successor_pid_of(one.id))
        yield on.SuccessorForkFailed(now, one.id, "EAGAIN")
    else:
        yield on.SuccessorReady(now, one.id, switchboard=True)
        yield on.SuccessorReady(now, one.id, switchboard=False)
        yield on.SuccessorFailed(now, one.id, BootFailure("no module named 'demo'"))
        yield on.SuccessorExited(now, one.id, Exit(1))
    if state.predecessor is not None:
        yield on.PredecessorGone(now)
        if witness.reported and state.borrowed:
            yield on.TakenOver(now)


def deploy_moves(world: World) -> Iterator[Event]:
    """Only what a deploy is made of: reloads, births, boots, deaths, time, and a TERM."""
    for event in moves(world):
        match event:
            case on.ScaleRequested() | on.InterruptRequested() | on.QuitRequested():
                pass
            case on.WorkerLeaving() | on.ForkFailed() | on.TemplateForkFailed():
                pass
            case on.Alarm(beats=beats) if not beats:
                pass
            case _:
                yield event


def command_moves(world: World) -> Iterator[Event]:
    """What is asked for over the control socket, in the middle of a deploy."""
    now = world.now + TICK
    if world.brain.state.newest:
        yield on.TargetRequested(now, 1)
        yield on.TargetRequested(now, 3)
        yield on.RecycleRequested(now)
        for worker in world.brain.state.workers.values():
            yield on.RecycleRequested(now, worker.id)
    yield from deploy_moves(world)


def resize_moves(world: World) -> Iterator[Event]:
    """A deploy whose settings ask for another number of workers, too."""
    yield from deploy_moves(world)
    now = world.now + TICK
    if world.brain.state.newest:
        for workers in (1, 3):
            yield on.ReloadRequested(now, replace(POLICY, workers=workers))
        yield on.SettingsRejected(now, BootFailure("workers: 0 is too few"))


def moves_when_memory_is_short(world: World) -> Iterator[Event]:
    """... and the OOM killer may take whoever is of use."""
    yield from deploy_moves(world)
    now, state = world.now + TICK, world.brain.state
    for worker in state.staying():
        if worker.id not in world.witness.unborn:
            yield on.WorkerExited(now, worker.id, story.OOM_KILLED)
    for template in state.templates.values():
        if template.staying and template.pid is not None:
            yield on.TemplateExited(now, template.id, story.OOM_KILLED)


def moves_of_the_blocked(world: World) -> Iterator[Event]:
    """A deploy whose workers block for a while, or for ever."""
    yield from deploy_moves(world)
    now, witness = world.now + TICK, world.witness
    due = max(now, world.brain.next_deadline())
    watched = [w for w in world.brain.state.workers.values() if w.slow_threshold and w.beat]
    for worker in watched:
        late = {w.id: witness.beats[w.id] if w is worker else due for w in watched}
        if due < FOREVER:
            yield on.Alarm(due, late)
        yield on.WorkerUnblocked(now, worker.id, 1.0)
        if worker.blockage is not None:
            yield on.StacksRead(now, worker.id, "in crunch")
            yield on.StacksRead(now, worker.id, "")
    if watched and due < FOREVER:
        yield on.Alarm(due, {w.id: witness.beats[w.id] for w in watched})
        yield on.Alarm(due + 1.0, {w.id: witness.beats[w.id] for w in watched})
        yield on.Resumed(now)


def _beating(world: World, now: float) -> dict[int, float]:
    workers = world.brain.state.workers.values()
    # A loop that drains is of interest only while somebody looks at it.
    return {
        w.id: now
        for w in workers
        if w.phase is Phase.READY or (w.phase is Phase.DRAINING and w.slow_threshold)
    }


def _board_beat(world: World, now: float) -> float:
    boards = world.brain.state.switchboards.values()
    return now if any(b.phase is Phase.READY for b in boards) else 0.0


# -- the search -------------------------------------------------------------------------


@dataclass(slots=True)
class Found:
    worlds: int = 0
    moves: int = 0
    transitions: set[tuple[Phase, Phase]] = field(default_factory=set)


def explore(
    *beginnings: World,
    depth: int,
    closing: bool = True,
    moves: Callable[[World], Iterable[Event]] = moves,
) -> Found:
    """Try every order of up to ``depth`` moves. Raises :class:`Broken`."""
    found, seen, closes = Found(), set[Key](), set[Key]()
    level = list(beginnings)
    seen.update(map(key, level))
    for _ in range(depth):
        below = []
        for world in level:
            for event in moves(world):
                later = world.after(event)
                found.moves += 1
                found.transitions |= later.witness.transitions
                if (this := key(later)) not in seen:
                    seen.add(this)
                    below.append(later)
                    if closing:
                        close(later, closes)
        level = below
    found.worlds = len(seen)
    return found


def close(world: World, known: set[Key]) -> None:
    """From here, with everybody obliging, it must end as the user wants.

    ``known`` holds worlds from which it does, and grows.
    """
    way = set[Key]()
    for _ in range(CLOSING_STEPS):
        if (this := key(world)) in known or settled(world.brain, world.witness):
            known |= way
            return
        way.add(this)
        world = world.after(_obliging(world))
    raise Broken(Violation("all ends well", f"not in {CLOSING_STEPS} steps"), world)


def _obliging(world: World) -> Event:
    """The next thing that happens when all goes well."""
    now = world.now + TICK
    workers = world.brain.state.workers.values()
    for template in world.brain.state.templates.values():
        if template.pid is None:
            return on.TemplateForked(now, template.id, 2000 + template.id)
        if template.phase is Phase.STARTING:
            return on.TemplateReady(now, template.id)
        if template.phase is not Phase.READY:
            return on.TemplateExited(now, template.id, Exit(0))
    for board in world.brain.state.switchboards.values():
        if board.pid is None:
            return on.SwitchboardForked(now, board.id, 3000 + board.id)
        if board.phase is Phase.STARTING:
            return on.SwitchboardReady(now, board.id)
        if board.phase is not Phase.READY:
            return on.SwitchboardExited(now, board.id, Exit(0))
    if (one := world.brain.state.successor) is not None:
        if one.pid is None:
            return on.SuccessorForked(now, one.id, story.successor_pid_of(one.id))
        if one.phase is Phase.STARTING:
            return on.SuccessorReady(now, one.id, switchboard=True)
        return on.SuccessorExited(now, one.id, Exit(0))
    if world.brain.state.predecessor is not None and not world.brain.state.borrowed:
        return on.PredecessorGone(now)
    if world.brain.state.borrowed and world.witness.reported:
        return on.TakenOver(now)
    for worker in workers:
        if worker.id in world.witness.unborn:
            return on.Forked(now, worker.id, 1000 + worker.id)
    for worker in workers:
        if worker.phase is Phase.STARTING:
            return on.WorkerReady(now, worker.id)
    for worker in workers:
        if worker.phase in (Phase.DRAINING, Phase.KILLED):
            return on.WorkerExited(now, worker.id, Exit(0))
    due = world.brain.next_deadline()
    if due == FOREVER:
        raise Broken(Violation("all ends well", "nothing is due and nobody is on the way"), world)
    due = max(now, due)
    return on.Alarm(due, _beating(world, due), _board_beat(world, due))


def newborn(policy: Policy = POLICY) -> World:
    """A master that has not begun."""
    return World.new(policy)


TEMPLATE_POLICY = replace(POLICY, preload=Preload.AUTO)
ALWAYS_POLICY = replace(POLICY, preload=Preload.ALWAYS)
SPARE_POLICY = replace(POLICY, spares=1)
BOARD_POLICY = replace(POLICY, switchboard=True)
FULL_POLICY = replace(TEMPLATE_POLICY, spares=1, switchboard=True)
SLOW_POLICY = replace(POLICY, slow_threshold=1.0, timeout=3.0)
HASTY_POLICY = replace(BOARD_POLICY, graceful_timeout=0.0)


def serving_from_a_template(policy: Policy = TEMPLATE_POLICY) -> World:
    """Two workers are ready, and so is the template that has forked them."""
    return following(
        newborn(policy),
        story.start,
        story.template_born(1),
        story.template_ready(1),
        *_each(story.born, 1, 2),
        *_each(story.ready, 1, 2),
    )


def on_trial_from_a_template() -> World:
    """... and a second generation's template is ready, its canary asked for."""
    return following(
        serving_from_a_template(), story.reload, story.template_born(2), story.template_ready(2)
    )


def with_a_spare() -> World:
    """Two workers and a spare are ready."""
    return following(serving(SPARE_POLICY), story.born(3), story.ready(3))


def with_a_spare_from_a_template() -> World:
    """... all of them forked by a template."""
    policy = replace(TEMPLATE_POLICY, spares=1)
    return following(serving_from_a_template(policy), story.born(3), story.ready(3))


def serving(policy: Policy = POLICY) -> World:
    """Two workers are ready."""
    return following(
        newborn(policy), story.start, *_each(story.born, 1, 2), *_each(story.ready, 1, 2)
    )


def serving_with_a_switchboard(policy: Policy = BOARD_POLICY) -> World:
    """Two workers are ready, and so is the switchboard."""
    return following(
        newborn(policy),
        story.start,
        story.board_born(1),
        *_each(story.born, 1, 2),
        *_each(story.ready, 1, 2),
        story.board_ready(1),
    )


def stopping_with_a_switchboard(policy: Policy = BOARD_POLICY) -> World:
    """... and a stop has begun."""
    return following(serving_with_a_switchboard(policy), story.term)


def upgrading(policy: Policy = POLICY) -> World:
    """Two workers are ready, and a new master has been started."""
    beginning = serving_with_a_switchboard if policy.switchboard else serving
    return following(beginning(policy), story.upgrade, story.successor_born(1))


def handed_over(policy: Policy = BOARD_POLICY) -> World:
    """... and has taken over."""
    return following(upgrading(policy), story.successor_ready(1))


def beside_another(policy: Policy = POLICY) -> World:
    """This is the new master: its two workers are ready, and it waits to take over."""
    return following(
        newborn(policy), story.start_beside, *_each(story.born, 1, 2), *_each(story.ready, 1, 2)
    )


def half_reloaded(policy: Policy = POLICY) -> World:
    """One worker of the new generation is ready, one old one drains, one serves."""
    return following(serving(policy), story.reload, story.born(3), story.ready(3))


def _each(
    happening: Callable[[int], Callable[[float], Event]], *worker_ids: int
) -> list[Callable[[float], Event]]:
    return [happening(worker_id) for worker_id in worker_ids]


def following(world: World, *events: Callable[[float], Event], pause: float = 1.0) -> World:
    """The world after these events, ``pause`` seconds apart."""
    for event in events:
        world = world.after(event(world.now + pause))
    return world

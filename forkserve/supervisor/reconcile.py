"""The policy: compare what is wanted with what is, and say what to do next.

Make before break stands here and nowhere else: :func:`_surplus` gives up a ready
worker only while more are ready than wanted.
"""

from __future__ import annotations

from dataclasses import dataclass

from forkserve.supervisor.phases import Phase
from forkserve.supervisor.state import Policy, Preload, State, Template, Worker

MOST_DISMISSED = 2
"""So many templates may be on their way out before another one is made to be replaced."""

MOST_SWITCHBOARDS = 3
"""So many there may be, those that leave or are being killed included."""


@dataclass(frozen=True, slots=True)
class Birth:
    """A worker to be made; ``template`` forks it, or else the master."""

    generation: int
    spare: bool = False
    template: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What should change now."""

    promote: tuple[Worker, ...] = ()
    """Spares that are to accept."""

    leave: tuple[Worker, ...] = ()
    """Workers that are no longer wanted."""

    dismiss: tuple[Template, ...] = ()
    """Templates that are no longer wanted."""

    templates: tuple[int, ...] = ()
    """The generation of each template to be made."""

    fork: tuple[Birth, ...] = ()

    switchboard: bool = False
    """Whether one is to be made."""


def plan(state: State, policy: Policy, now: float) -> Plan:
    """The next steps from what is towards what is wanted, if the master serves."""
    superseded = _superseded(state)
    staying = [w for w in state.staying() if w not in superseded]
    promote = _promotions(state, staying)
    ordinary = [w for w in staying if (not w.spare or w in promote) and not _on_trial(state, w)]
    spares = [w for w in staying if w.spare and w not in promote]
    wanted_spares = policy.spares if state.current else 0
    leave = [
        *superseded,
        *_surplus(state, ordinary, state.target),
        *_surplus(state, spares, wanted_spares),
    ]
    # Those that leave make room in the same breath.
    ordinary = [w for w in ordinary if w not in leave]
    spares = [w for w in spares if w not in leave]
    births: list[Birth] = []
    if now >= state.backoff.until:
        births = [
            *_canary(state, staying),
            *_births(state, ordinary, state.target, policy.surge, held=_any_worn(state, spares)),
            *_births(state, spares, wanted_spares, policy.surge, spare=True),
        ]
    return Plan(
        tuple(promote),
        tuple(leave),
        tuple(_dismissed(state, policy)),
        tuple(_missing_templates(state, policy, now)),
        tuple(_possible(births, state, policy, now)),
        _lacks_a_switchboard(state, policy, now),
    )


# -- workers ------------------------------------------------------------------------------


def _superseded(state: State) -> list[Worker]:
    """Workers still starting whose generation is neither served nor tried any more."""
    return [
        w
        for w in state.in_phase(Phase.STARTING)
        if w.generation not in (state.wanted_generation, state.trial)
    ]


def _on_trial(state: State, worker: Worker) -> bool:
    """Whether it is a canary, which counts as nothing yet. The first generation has none."""
    return bool(state.current) and worker.generation == state.trial


def _worn(state: State, worker: Worker) -> bool:
    """Whether another is to come in its place."""
    return worker.generation != state.wanted_generation or bool(worker.spent)


def _any_worn(state: State, group: list[Worker]) -> bool:
    return any(_worn(state, w) for w in group)


def _promotions(state: State, staying: list[Worker]) -> list[Worker]:
    """Ready spares that make up for missing workers, the newest generation first.

    One of an older generation will do too: it is capacity now, and is replaced in turn.
    """
    ordinary = [w for w in staying if not w.spare and not _on_trial(state, w)]
    missing = max(0, state.target - len(ordinary))
    spares = [w for w in staying if w.spare and w.phase is Phase.READY and w.pid is not None]
    return sorted(spares, key=lambda w: (-w.generation, w.id))[:missing]


def _surplus(state: State, group: list[Worker], target: int) -> list[Worker]:
    """Workers beyond the target, the worn ones and the oldest first.

    A worker that is still starting is no capacity, so it may go at any time. A
    ready one goes only while more than the target are ready.
    """
    starting = [w for w in group if w.phase is Phase.STARTING]
    ready = [w for w in group if w.phase is Phase.READY]
    ready.sort(key=lambda w: (w.generation, not w.spent, w.id))
    of_use = _missing_of_wanted(state, ready, target)
    return [*starting[of_use:], *ready[: max(0, len(ready) - target)]]


def _missing_of_wanted(state: State, ready: list[Worker], target: int) -> int:
    """How many starting workers are of use, given those that are ready.

    While another generation is on trial nothing more of the current one is put in
    place of its elders: only the number counts.
    """
    if state.trial is not None:
        return max(0, target - len(ready))
    return max(0, target - sum(not _worn(state, w) for w in ready))


def _canary(state: State, staying: list[Worker]) -> list[Birth]:
    """One worker of the generation on trial."""
    if state.trial is None or not state.current or _crowded(state):
        return []
    if any(w.generation == state.trial for w in staying):
        return []
    return [Birth(state.trial)]


def _births(
    state: State,
    group: list[Worker],
    target: int,
    surge: int,
    *,
    spare: bool = False,
    held: bool = False,
) -> list[Birth]:
    """Workers that make up the number, or that come in place of a worn one.

    ``held``: replacing has to wait.
    """
    if not state.current and _crowded(state):
        return []  # reloads pile up in the first boot; no capacity was ever there to be lost
    count = max(0, target - len(group))
    trying = bool(state.current) and state.trial is not None
    if not (held or trying or _crowded(state)):
        fresh = sum(not _worn(state, w) for w in group)
        count = max(count, min(target - fresh, target + surge - len(group)))
    return [Birth(state.wanted_generation, spare)] * count


def _crowded(state: State) -> bool:
    """Whether so many are still leaving that replacing more would pile them up.

    Making up for lost capacity is never held back by this; replacing is, and making
    the first workers anew.
    """
    return state.leaving() > state.target


# -- templates ----------------------------------------------------------------------------


def _needed(state: State) -> list[int]:
    """The generations that workers may have to be forked of."""
    needed = {state.wanted_generation, state.trial or state.wanted_generation}
    return sorted(needed - {0})


def _is_direct(state: State, policy: Policy, generation: int) -> bool:
    return policy.preload is Preload.NEVER or generation in state.direct


def _dismissed(state: State, policy: Policy) -> list[Template]:
    needed = [g for g in _needed(state) if not _is_direct(state, policy, g)]
    return [t for t in state.templates.values() if t.staying and t.generation not in needed]


def _missing_templates(state: State, policy: Policy, now: float) -> list[int]:
    if now < state.template_backoff.until:
        return []
    leaving = sum(not t.staying for t in state.templates.values())
    return [
        generation
        for generation in _needed(state)
        if not _is_direct(state, policy, generation)
        and state.template_of(generation) is None
        and (leaving < MOST_DISMISSED or generation == state.current)
    ]


def _possible(births: list[Birth], state: State, policy: Policy, now: float) -> list[Birth]:
    """Those that can be made now: the others wait until their template is ready."""
    made = [birth for b in births if (birth := _with_its_parent(b, state, policy, now))]
    return made[: max(0, policy.slots - len(state.workers))]


def _with_its_parent(birth: Birth, state: State, policy: Policy, now: float) -> Birth | None:
    if _is_direct(state, policy, birth.generation):
        return birth
    template = state.template_of(birth.generation)
    if template is not None and template.phase is Phase.READY:
        return Birth(birth.generation, birth.spare, template.id)
    if (
        template is None
        and birth.generation == state.current
        and now < state.template_backoff.until
    ):
        return birth  # capacity does not wait for a template that keeps dying
    return None


# -- the switchboard ----------------------------------------------------------------------


def _lacks_a_switchboard(state: State, policy: Policy, now: float) -> bool:
    """The successor of one that leaves does not wait until that is gone."""
    if not policy.switchboard or now < state.switchboard_backoff.until:
        return False
    boards = state.switchboards.values()
    return len(boards) < MOST_SWITCHBOARDS and not any(b.staying for b in boards)

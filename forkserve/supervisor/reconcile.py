"""The policy: compare what is wanted with what is, and say what to do next.

Make before break stands here and nowhere else: :func:`_surplus` gives up a ready
worker only while more are ready than wanted.
"""

from __future__ import annotations

from dataclasses import dataclass

from forkserve.supervisor.state import Phase, Policy, State, Worker


@dataclass(frozen=True, slots=True)
class Plan:
    """What should change now."""

    leave: tuple[Worker, ...] = ()
    """Workers that are no longer wanted."""

    fork: tuple[int, ...] = ()
    """The generation of each worker to be made."""


def plan(state: State, policy: Policy, now: float) -> Plan:
    """The next steps from what is towards what is wanted, if the master serves."""
    superseded = _superseded(state)
    leave = (*superseded, *_surplus(state, [w for w in state.staying() if w not in superseded]))
    staying = [w for w in state.staying() if w not in leave]
    if now < state.backoff.until:
        return Plan(leave)
    fork = [*_ordinary(state, staying, policy), *_canary(state, staying)]
    return Plan(leave, tuple(fork[: max(0, policy.slots - len(state.workers))]))


def _superseded(state: State) -> list[Worker]:
    """Workers still starting whose generation is neither served nor tried any more."""
    return [
        w
        for w in state.in_phase(Phase.STARTING)
        if w.generation not in (state.wanted_generation, state.trial)
    ]


def _surplus(state: State, staying: list[Worker]) -> list[Worker]:
    """Workers beyond the target, those of older generations first.

    A worker that is still starting is no capacity, so it may go at any time. A
    ready one goes only while more than the target are ready.
    """
    ordinary = [w for w in staying if w.generation != state.trial or not state.current]
    starting = [w for w in ordinary if w.phase is Phase.STARTING]
    ready = sorted(
        (w for w in ordinary if w.phase is Phase.READY), key=lambda w: (w.generation, w.id)
    )
    wanted_starting = _missing_of_wanted(state, ready)
    extra = starting[wanted_starting:] if wanted_starting < len(starting) else []
    return [*extra, *ready[: max(0, len(ready) - state.target)]]


def _missing_of_wanted(state: State, ready: list[Worker]) -> int:
    """How many starting workers are of use, given those that are ready.

    While another generation is on trial nothing more of the current one is put in
    place of its elders: only the number counts.
    """
    if state.trial is not None:
        return max(0, state.target - len(ready))
    done = sum(w.generation == state.wanted_generation for w in ready)
    return max(0, state.target - done)


def _canary(state: State, staying: list[Worker]) -> list[int]:
    """One worker of the generation on trial. (The first generation has no canary.)"""
    if state.trial is None or not state.current:
        return []
    if any(w.generation == state.trial for w in staying):
        return []
    return [] if _crowded(state) else [state.trial]


def _ordinary(state: State, staying: list[Worker], policy: Policy) -> list[int]:
    """Workers that make up the number, or that come in place of an older one."""
    ordinary = [w for w in staying if w.generation != state.trial or not state.current]
    missing = max(0, state.target - len(ordinary))
    if not state.current and _crowded(state):
        return []  # reloads pile up in the first boot; no capacity was ever there to be lost
    if state.trial is not None and state.current:
        return [state.current] * missing
    older = sum(w.generation != state.wanted_generation for w in ordinary)
    room = 0 if _crowded(state) else state.target + policy.surge - len(ordinary) - missing
    return [state.wanted_generation] * (missing + max(0, min(older, room)))


def _crowded(state: State) -> bool:
    """Whether so many are still leaving that replacing more would pile them up.

    Making up for lost capacity is never held back by this; replacing is, and making
    the first workers anew.
    """
    return state.leaving() > state.target

"""Copies of the supervisor's record of facts, cheap enough to be made a million times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar

from forkserve.supervisor.backoff import Backoff
from forkserve.supervisor.brain import Supervisor
from forkserve.supervisor.state import State, Successor, Switchboard, Template, Worker

T = TypeVar("T")


def copier(kind: type[T]) -> Callable[[T], T]:
    """What copy.copy() does with a dataclass that has slots, in a fifth of the time."""
    steps = "".join(f"    twin.{field.name} = one.{field.name}\n" for field in fields(kind))  # type: ignore[arg-type]
    scope: dict[str, Any] = {"kind": kind, "new": kind.__new__}
    exec(f"def twin_of(one):\n    twin = new(kind)\n{steps}    return twin\n", scope)
    twin_of: Callable[[T], T] = scope["twin_of"]
    return twin_of


COPIERS: dict[type, Callable[[Any], Any]] = {
    kind: copier(kind) for kind in (State, Backoff, Worker, Template, Switchboard, Successor)
}
_state, _backoff, _worker, _template, _board, _successor = COPIERS.values()


def twin_of(brain: Supervisor) -> Supervisor:
    """All of it, as deep as anything in it changes: what is frozen is shared."""
    twin = Supervisor.__new__(Supervisor)
    twin.__dict__.update(brain.__dict__)
    twin.state = state = _state(brain.state)
    state.backoff = _backoff(state.backoff)
    state.template_backoff = _backoff(state.template_backoff)
    state.switchboard_backoff = _backoff(state.switchboard_backoff)
    state.workers = {number: _worker(one) for number, one in state.workers.items()}
    state.templates = {number: _template(one) for number, one in state.templates.items()}
    state.switchboards = {number: _board(one) for number, one in state.switchboards.items()}
    if state.successor is not None:
        state.successor = _successor(state.successor)
    return twin

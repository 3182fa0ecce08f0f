"""The gate: no order of events, to the depth tried, breaks an invariant."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest

from forkserve.supervisor import events as on
from tests.brain.explorer import (
    TEMPLATE_POLICY,
    World,
    deploy_moves,
    explore,
    half_reloaded,
    key,
    moves,
    newborn,
    on_trial_from_a_template,
    serving,
    serving_from_a_template,
    with_a_spare,
)


def test_every_order_from_the_beginning() -> None:
    found = explore(newborn(), depth=6)
    assert found.worlds > 10_000  # otherwise the search has gone blind


@pytest.mark.parametrize("beginning", [serving, half_reloaded])
def test_every_order_while_serving(beginning: Callable[[], World]) -> None:
    assert explore(beginning(), depth=4).worlds > 5_000


def test_every_order_in_a_deploy() -> None:
    assert explore(serving(), depth=6, moves=deploy_moves).worlds > 5_000


@pytest.mark.parametrize(
    ("beginning", "depth"),
    [(lambda: newborn(TEMPLATE_POLICY), 9), (on_trial_from_a_template, 5)],
    ids=["newborn", "on trial"],
)
def test_every_order_in_a_deploy_with_templates(beginning: Callable[[], World], depth: int) -> None:
    assert explore(beginning(), depth=depth, moves=deploy_moves).worlds > 3_000


@pytest.mark.parametrize("beginning", [serving_from_a_template, with_a_spare])
def test_every_order_with_a_template_or_a_spare(beginning: Callable[[], World]) -> None:
    assert explore(beginning(), depth=4).worlds > 4_000


def test_worlds_share_nothing() -> None:
    """What happens in one branch of the search cannot be seen in another."""
    world = half_reloaded()
    was = key(world)
    state, books = copy.deepcopy(world.brain.state), copy.deepcopy(vars(world.witness))
    for event in moves(world):
        later = world.after(event)
        if not isinstance(event, on.WorkerExited | on.ScaleRequested | on.Alarm):
            continue
        for again in moves(later):
            later.after(again)
    assert key(world) == was
    assert world.brain.state == state
    assert vars(world.witness) == books

"""The gate: no order of events, to the depth tried, breaks an invariant."""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable, Iterator

import pytest

from forkserve.supervisor import events as on
from tests.brain.explorer import (
    ALWAYS_POLICY,
    BOARD_POLICY,
    FULL_POLICY,
    HASTY_POLICY,
    SLOW_POLICY,
    TEMPLATE_POLICY,
    World,
    beside_another,
    command_moves,
    deploy_moves,
    explore,
    half_reloaded,
    handed_over,
    key,
    moves_of_the_blocked,
    moves_when_memory_is_short,
    newborn,
    on_trial_from_a_template,
    resize_moves,
    serving,
    serving_from_a_template,
    serving_with_a_switchboard,
    stopping_with_a_switchboard,
    upgrade_moves,
    upgrading,
    with_a_spare,
    with_a_spare_from_a_template,
)
from tests.brain.twins import twin_of


@pytest.fixture(autouse=True)
def _without_looking_for_cycles() -> Iterator[None]:
    """There are none in a search, and a hundred thousand worlds to look through for them."""
    gc.disable()
    yield
    gc.enable()


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
    [(newborn, 5), (serving, 4), (half_reloaded, 3), (with_a_spare_from_a_template, 3)],
)
def test_every_order_with_commands(beginning: Callable[[], World], depth: int) -> None:
    assert explore(beginning(), depth=depth, moves=command_moves).worlds > 300


@pytest.mark.parametrize(("beginning", "depth"), [(newborn, 5), (serving, 4), (half_reloaded, 3)])
def test_every_order_in_a_deploy_with_other_settings(
    beginning: Callable[[], World], depth: int
) -> None:
    assert explore(beginning(), depth=depth, moves=resize_moves).worlds > 400


@pytest.mark.parametrize(
    ("beginning", "depth"),
    [
        (lambda: newborn(TEMPLATE_POLICY), 9),
        (on_trial_from_a_template, 5),
        (lambda: newborn(ALWAYS_POLICY), 9),
        (lambda: serving_from_a_template(ALWAYS_POLICY), 5),
        (with_a_spare, 5),
        (with_a_spare_from_a_template, 4),
    ],
    ids=["newborn", "on trial", "newborn, always", "always", "spare", "spare from a template"],
)
def test_every_order_in_a_deploy_with_templates_or_spares(
    beginning: Callable[[], World], depth: int
) -> None:
    assert explore(beginning(), depth=depth, moves=deploy_moves).worlds > 2_000


def test_every_order_with_a_template() -> None:
    assert explore(serving_from_a_template(), depth=4).worlds > 8_000


@pytest.mark.parametrize("beginning", [with_a_spare, with_a_spare_from_a_template])
def test_every_order_with_a_spare(beginning: Callable[[], World]) -> None:
    """Every order; a deeper search, of deploys alone, is above."""
    assert explore(beginning(), depth=3).worlds > 2_500


@pytest.mark.parametrize(
    ("beginning", "depth", "worlds"),
    [
        (lambda: newborn(BOARD_POLICY), 4, 800),
        (lambda: newborn(FULL_POLICY), 5, 2_000),
        (serving_with_a_switchboard, 3, 2_000),
        (stopping_with_a_switchboard, 6, 600),
        (lambda: stopping_with_a_switchboard(HASTY_POLICY), 6, 600),
    ],
    ids=["newborn", "with all there is", "serving", "stopping", "stopping in no time"],
)
def test_every_order_with_a_switchboard(
    beginning: Callable[[], World], depth: int, worlds: int
) -> None:
    assert explore(beginning(), depth=depth).worlds > worlds


def test_every_order_in_a_deploy_with_a_switchboard() -> None:
    found = explore(serving_with_a_switchboard(), depth=4, moves=deploy_moves)
    assert found.worlds > 2_000


@pytest.mark.parametrize(
    ("beginning", "depth"),
    [
        (lambda: newborn(TEMPLATE_POLICY), 8),
        (half_reloaded, 4),
        (serving_from_a_template, 4),
        (with_a_spare_from_a_template, 3),
    ],
    ids=["newborn", "half reloaded", "from a template", "with a spare"],
)
def test_every_order_when_memory_is_short(beginning: Callable[[], World], depth: int) -> None:
    found = explore(beginning(), depth=depth, moves=moves_when_memory_is_short)
    assert found.worlds > 800


@pytest.mark.parametrize(
    ("beginning", "depth", "worlds"),
    [
        (newborn, 4, 600),
        (upgrading, 3, 800),
        (lambda: upgrading(BOARD_POLICY), 3, 2_000),
        (handed_over, 6, 180),
        (lambda: handed_over(HASTY_POLICY), 6, 180),
        (beside_another, 3, 900),
    ],
    ids=["newborn", "upgrading", "with a switchboard", "leaving", "leaving in no time", "new"],
)
def test_every_order_in_an_upgrade(beginning: Callable[[], World], depth: int, worlds: int) -> None:
    assert explore(beginning(), depth=depth, moves=upgrade_moves).worlds > worlds


@pytest.mark.parametrize(
    ("beginning", "depth", "worlds"),
    [
        (lambda: newborn(SLOW_POLICY), 5, 700),
        (lambda: serving(SLOW_POLICY), 4, 2_000),
        (lambda: half_reloaded(SLOW_POLICY), 3, 800),
    ],
    ids=["newborn", "serving", "half reloaded"],
)
def test_every_order_when_loops_are_blocked(
    beginning: Callable[[], World], depth: int, worlds: int
) -> None:
    assert explore(beginning(), depth=depth, moves=moves_of_the_blocked).worlds > worlds


_FAR_REACHING = (
    on.WorkerExited
    | on.TemplateExited
    | on.SwitchboardExited
    | on.SuccessorExited
    | on.ScaleRequested
    | on.Alarm
)


@pytest.mark.parametrize(
    "beginning",
    [half_reloaded, with_a_spare_from_a_template, serving_with_a_switchboard, upgrading],
)
def test_worlds_share_nothing(beginning: Callable[[], World]) -> None:
    """What happens in one branch of the search cannot be seen in another."""
    world = beginning()
    was = key(world)
    state, books = copy.deepcopy(world.brain.state), copy.deepcopy(vars(world.witness))
    assert vars(twin_of(world.brain)) == vars(world.brain)
    for event in upgrade_moves(world):
        later = world.after(event)
        if not isinstance(event, _FAR_REACHING):
            continue
        for again in upgrade_moves(later):
            later.after(again)
    assert key(world) == was
    assert world.brain.state == state
    assert vars(world.witness) == books

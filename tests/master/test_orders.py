"""When what a client has asked for is done, as it is told."""

from __future__ import annotations

from time import monotonic
from typing import Any

import pytest

from forkserve.master.connection import FOREVER
from forkserve.master.orders import LAST_ACCEPTS, LOOK, Caller, Reload
from forkserve.supervisor import actions as note
from forkserve.supervisor.state import Policy, State


class Told:
    """A connection that keeps what is sent."""

    closed = False
    under_way = 1

    def __init__(self) -> None:
        self.answers: list[dict[str, Any]] = []

    def send(self, message: dict[str, Any]) -> None:
        if "ok" in message:
            self.answers.append(message)


@pytest.fixture
def told() -> Told:
    return Told()


def reload_to_generation_2(told: Told, older_ones: list[bool]) -> Reload:
    """One that everybody is of by now. The last of ``older_ones``: whether those accept."""
    caller: Any = Caller(told, 1)  # type: ignore[arg-type]
    order = Reload(caller, lambda generation: older_ones[-1] and generation == 2, generation=2)
    state = State(Policy())
    state.current = 2
    order.hear(note.ReloadDone(2, 1, 0.5), "reload done", state)
    return order


def test_a_reload_is_done_when_nobody_older_accepts_any_more(told: Told) -> None:
    older_ones = [True]
    order = reload_to_generation_2(told, older_ones)
    now = order.due()
    assert now <= monotonic()
    order.look(now)
    assert not told.answers
    assert order.due() == now + LOOK
    older_ones.append(False)
    order.look(now + LOOK)
    assert told.answers == [{"id": 1, "ok": True, "generation": 2, "text": "reload done"}]
    assert order.over


def test_one_that_is_blocked_holds_no_reload_up(told: Told) -> None:
    order = reload_to_generation_2(told, [True])
    began = order.due()
    order.look(began + LAST_ACCEPTS - LOOK)
    assert not told.answers
    order.look(began + LAST_ACCEPTS)
    assert told.answers[0]["ok"]


def test_a_reload_that_is_done_is_not_undone_by_a_stop(told: Told) -> None:
    order = reload_to_generation_2(told, [True])
    order.hear(note.Stopping("SIGTERM", 1, 30.0), "stopping", State(Policy()))
    assert not told.answers
    assert order.due() < FOREVER

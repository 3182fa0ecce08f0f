"""What two looks at the status tell."""

from __future__ import annotations

from typing import Any

import pytest

from forkserve.control.rates import Rate, answered, between


def look(uptime: float, *workers: tuple[int, int, float], pid: int = 100) -> dict[str, Any]:
    of_each = [{"id": id, "requests": done, "busy": busy} for id, done, busy in workers]
    total = 1000 + sum(done for _, done, _ in workers)  # others have gone
    totals = {"requests": total}
    return {"pid": pid, "uptime": uptime, "now": 0.0, "workers": of_each, "totals": totals}


def test_a_rate_is_what_was_done_between_two_looks() -> None:
    assert between(look(10, (1, 100, 5.0)), look(12, (1, 300, 6.5))) == {1: Rate(100.0, 0.75)}


def test_workers_come_and_go() -> None:
    before = look(10, (1, 100, 5.0), (2, 100, 5.0))
    assert between(before, look(12, (2, 110, 5.0), (3, 8, 0.5))) == {
        2: Rate(5.0, 0.0),
        3: Rate(4.0, 0.25),
    }


@pytest.mark.parametrize(
    "before",
    [
        pytest.param(None, id="the first look"),
        pytest.param(look(12, (1, 1, 1.0)), id="no time has passed"),
        pytest.param(look(900, (1, 1, 1.0)), id="the master was started anew"),
        pytest.param(look(2, (1, 1, 1.0), pid=7), id="another master"),
    ],
)
def test_what_cannot_be_compared(before: dict[str, Any] | None) -> None:
    assert between(before, look(12, (1, 300, 6.5))) == {}
    assert answered(before, look(12, (1, 300, 6.5))) is None


def test_a_rate_is_never_below_nothing_nor_busy_above_all() -> None:
    assert between(look(10, (1, 9, 1.0)), look(11, (1, 3, 9.0))) == {1: Rate(0.0, 1.0)}
    assert answered(look(10, (1, 9, 1.0)), look(11, (1, 3, 9.0))) == 0.0


def test_of_all_those_count_too_that_have_gone() -> None:
    before, now = look(10, (1, 100, 5.0), (2, 50, 1.0)), look(12, (2, 60, 1.0))
    now["totals"]["requests"] = before["totals"]["requests"] + 30
    assert answered(before, now) == 15.0

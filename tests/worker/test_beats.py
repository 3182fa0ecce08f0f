"""How late the loop's beats come is written down, and remembered for a while."""

from __future__ import annotations

from time import monotonic

import pytest

from forkserve.scoreboard import Scoreboard
from forkserve.worker.beats import REMEMBERED, Beats


def test_the_lag_is_the_last_and_the_highest_is_forgotten_in_time() -> None:
    row = Scoreboard(1).row(0)
    beats = Beats(row, every=1.0)
    now = monotonic()

    def turn(after: float) -> tuple[float, float]:
        nonlocal now
        now += after
        beats.turned(now)
        seen = row.snapshot(now)
        assert seen.beat == now
        return pytest.approx(seen.lag, abs=1e-6), pytest.approx(seen.highest_lag, abs=1e-6)

    assert turn(0.0) == (0.0, 0.0)
    assert turn(1.25) == (0.25, 0.25)
    assert turn(1.5) == (0.5, 0.5)
    assert turn(0.5) == (0.0, 0.5)  # it was woken
    assert turn(1.0) == (0.0, 0.5)
    for _ in range(int(REMEMBERED)):
        assert turn(1.0) == (0.0, 0.5)
    for _ in range(int(REMEMBERED)):
        turn(1.0)
    assert turn(1.0) == (0.0, 0.0)


def test_one_that_drains_is_not_late() -> None:
    row = Scoreboard(1).row(0)
    beats = Beats(row, every=1.0)
    beats.turned(monotonic())
    assert row.snapshot(monotonic() + 60.0).lag > 58.0
    beats.end()
    assert row.snapshot(monotonic() + 60.0).lag == 0.0

"""What counts as slow: handlers that hold the loop, again and again."""

from __future__ import annotations

import asyncio
import time
from time import monotonic

from forkserve.worker.pulse import Pulse
from forkserve.worker.slowness import BRIM, FAST, LEAK, Slowness


def test_one_long_request_is_not_enough_and_two_are() -> None:
    slowness = Slowness(0.0)
    slowness.held(60.0, 1, 60.0)
    assert not slowness.slow
    slowness.held(2.0, 1, 63.0)
    assert slowness.slow


def test_a_short_hold_for_each_of_many_fast_requests_is_not_slow() -> None:
    slowness = Slowness(0.0)
    for turn in range(1, 2000):  # four requests of 4 ms a turn
        slowness.held(0.016, 4, turn * 0.016)
        assert not slowness.slow


def test_a_few_slow_ones_among_many_fast_ones_are() -> None:
    slowness = Slowness(0.0)
    now = 0.0
    for _ in range(10):
        slowness.held(0.2, 1, now := now + 0.2)
        for _ in range(11):
            slowness.held(0.0, 1, now := now + 0.001)
    assert slowness.slow


def test_it_is_over_when_fast_ones_have_emptied_it() -> None:
    slowness = Slowness(0.0)
    for turn in range(20):
        slowness.held(0.2, 1, turn * 0.2)
    assert slowness.slow
    slowness.held(0.0, int(BRIM / FAST) - 10, 4.0)
    assert slowness.slow
    slowness.held(0.0, 10, 4.0)
    assert not slowness.slow


def test_it_is_over_some_time_after_the_last_request() -> None:
    slowness = Slowness(0.0)
    for turn in range(20):
        slowness.held(0.2, 1, turn * 0.2)
    slowness.held(0.0, 0, 4.0 + BRIM / LEAK / 2)
    assert slowness.slow
    slowness.held(0.0, 0, 4.0 + BRIM / LEAK)
    assert not slowness.slow


def test_two_long_ones_far_apart_are_rare_and_not_slow() -> None:
    slowness = Slowness(0.0)
    for turn in range(1, 50):
        slowness.held(1.0, 1, turn * 30.0)
        assert not slowness.slow


def test_the_pulse_measures_what_blocks_and_not_what_waits() -> None:
    held: list[float] = []

    async def main() -> None:
        pulse = Pulse(asyncio.get_running_loop(), lambda seconds, now: held.append(seconds))
        pulse.suspect(monotonic())
        while len(held) < 20:  # they come while we wait
            await asyncio.sleep(0.01)
        waited = sum(held)
        held.clear()
        time.sleep(1.0)
        while not held:
            await asyncio.sleep(0.01)
        assert held[0] >= 0.9
        assert held[0] > waited

    asyncio.run(main())

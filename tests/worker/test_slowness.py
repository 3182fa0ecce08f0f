"""What counts as slow: handlers that hold the loop, again and again."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import time
from collections.abc import Iterator
from time import monotonic

import pytest

from forkserve.worker.pulse import Pulse
from forkserve.worker.slowness import BRIM, MEMORY, OVER, WORTH, Slowness


def offered(seconds: float, every: float, requests: int = 1, during: float = 60.0) -> bool:
    """Whether handlers are slow that hold the loop for so long, once in ``every`` seconds."""
    slowness = Slowness(0.0)
    slow = False
    for turn in range(1, int(during / every)):
        slowness.held(seconds, requests, turn * every)
        slow |= slowness.slow
    return slow


def test_one_long_request_is_not_enough_and_two_are() -> None:
    slowness = Slowness(0.0)
    slowness.held(60.0, 1, 60.0)
    assert not slowness.slow
    slowness.held(2.0, 1, 63.0)
    assert slowness.slow


@pytest.mark.parametrize(
    ("seconds", "every"),
    [(0.1, 0.2), (0.1, 1.0), (0.02, 0.03), (2.0, 5.0)],
    ids=["a model", "one that is seldom asked", "busy with 20 ms", "one that takes very long"],
)
def test_handlers_that_make_others_wait_are_slow(seconds: float, every: float) -> None:
    assert offered(seconds, every)


@pytest.mark.parametrize(
    ("seconds", "every", "requests"),
    [(0.005, 0.005, 1), (0.016, 0.016, 16), (0.01, 0.1, 1), (2.0, 60.0, 1)],
    ids=["busy with 5 ms", "16 of 1 ms a turn", "10 ms now and then", "a rare report"],
)
def test_handlers_that_do_not_are_fast(seconds: float, every: float, requests: int) -> None:
    assert not offered(seconds, every, requests, during=300.0)


def test_a_few_slow_ones_are_seen_among_many_fast_ones() -> None:
    slowness = Slowness(0.0)
    now = 0.0
    for _ in range(3):
        for _ in range(1000):
            slowness.held(0.0, 1, now := now + 0.001)
        slowness.held(2.0, 1, now := now + 2.0)
    assert slowness.slow


def test_it_is_over_when_the_mean_has_fallen_far_below() -> None:
    slowness = Slowness(0.0)
    for turn in range(100):
        slowness.held(0.2, 1, turn * 0.2)
    to_fall = MEMORY * math.log(BRIM / OVER)
    slowness.held(0.0, 0, 19.8 + to_fall * 0.9)
    assert slowness.slow
    slowness.held(0.0, 0, 19.8 + to_fall * 1.1)
    assert not slowness.slow


def test_it_does_not_flap_where_it_is_just_worth_it() -> None:
    slowness = Slowness(0.0)
    changes = 0
    for turn in range(1, 10_000):
        was = slowness.slow
        slowness.held((2 * WORTH * 0.1) ** 0.5, 1, turn * 0.1)
        changes += slowness.slow is not was
    assert changes <= 1


async def _beats(held: list[float], count: int) -> None:
    while len(held) < count:
        await asyncio.sleep(0.01)


def test_the_pulse_measures_what_blocks_and_not_what_waits() -> None:
    held: list[float] = []

    async def main() -> None:
        pulse = Pulse(asyncio.get_running_loop(), lambda seconds, now: held.append(seconds))
        pulse.suspect(monotonic())
        await _beats(held, 20)
        waited = sum(held)
        held.clear()
        time.sleep(1.0)
        await _beats(held, 1)
        assert held[0] >= 0.9
        assert held[0] > waited

    asyncio.run(main())


@pytest.fixture
def crowd() -> Iterator[None]:
    """Others that want the one processor on which this process runs, too."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    pids = []
    for _ in range(4):
        if not (pid := os.fork()):
            while True:
                pass
        pids.append(pid)
    yield
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    os.sched_setaffinity(0, before)


@pytest.mark.skipif(not os.path.exists("/proc/self/schedstat"), reason="the kernel does not say")
@pytest.mark.usefixtures("crowd")
def test_time_without_a_processor_does_not_count() -> None:
    held: list[float] = []

    async def main() -> None:
        pulse = Pulse(asyncio.get_running_loop(), lambda seconds, now: held.append(seconds))
        pulse.suspect(monotonic())
        until = monotonic() + 1.0
        while monotonic() < until:
            began = monotonic()
            while monotonic() - began < 0.002:  # busy, so that others get their turn
                pass
            await asyncio.sleep(0.001)

    began, busy = monotonic(), time.process_time()
    asyncio.run(main())
    without = monotonic() - began - (time.process_time() - busy)
    assert len(held) > 10
    assert sum(held) < without / 2

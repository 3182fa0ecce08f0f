"""How a worker shows that its loop turns, and says for how long it did not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

import pytest
import uvloop

from forkserve.channel import Channel, Unblocked
from forkserve.scoreboard import Row, Scoreboard
from forkserve.supervisor.beats import beat_every
from forkserve.worker.heartbeat import Heartbeat


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    def run_it(coroutine: Any) -> Any:
        with asyncio.Runner(loop_factory=request.param) as runner:
            return runner.run(coroutine)

    return run_it


@pytest.fixture
def channel() -> Iterator[tuple[Channel, Channel]]:
    ours, theirs = Channel.pair()
    yield ours, theirs
    ours.close()
    theirs.close()


def row() -> Row:
    return Scoreboard(1).row(0)


async def beaten_after(row: Row, moment: float) -> None:
    while row.last_beat() <= moment:
        await asyncio.sleep(0.005)


def test_a_blocked_loop_says_for_how_long_once_it_turns(
    run: Callable[[Any], Any], channel: tuple[Channel, Channel]
) -> None:
    ours, theirs = channel
    board = row()

    async def block() -> None:
        heartbeat = Heartbeat(asyncio.get_running_loop(), board, theirs, 0.2)
        await beaten_after(board, board.last_beat())
        time.sleep(0.7)  # the fault itself
        assert monotonic() - board.last_beat() >= 0.7
        await beaten_after(board, board.last_beat())
        heartbeat.end()

    run(block())
    longest = max((m.seconds for m in ours.receive() if isinstance(m, Unblocked)), default=0.0)
    assert 0.6 < longest < 60


def test_a_loop_that_only_waits_beats_on_and_says_nothing(
    run: Callable[[Any], Any], channel: tuple[Channel, Channel]
) -> None:
    ours, theirs = channel
    board = row()

    async def wait() -> None:
        heartbeat = Heartbeat(asyncio.get_running_loop(), board, theirs, 10.0)
        await asyncio.sleep(0.1)  # what is looked at: an await
        for _ in range(2):
            await asyncio.wait_for(beaten_after(board, board.last_beat()), 60)
        heartbeat.end()

    run(wait())
    assert not ours.receive()


def test_at_the_end_nobody_is_to_wait_for_a_beat(
    run: Callable[[Any], Any], channel: tuple[Channel, Channel]
) -> None:
    board = row()

    async def end() -> None:
        heartbeat = Heartbeat(asyncio.get_running_loop(), board, channel[1], 0.2)
        heartbeat.end()
        await asyncio.sleep(0.1)
        assert board.last_beat() == 0.0

    run(end())


def test_a_master_that_does_not_listen_holds_nobody_up(
    run: Callable[[Any], Any], channel: tuple[Channel, Channel]
) -> None:
    """The channel is full; the worker must not block for that."""
    ours, theirs = channel
    while theirs.offer(Unblocked(-1.0)):
        pass
    board = row()
    told: list[Any] = []

    async def block() -> None:
        heartbeat = Heartbeat(asyncio.get_running_loop(), board, theirs, 0.1)
        time.sleep(0.3)  # the fault itself
        await beaten_after(board, board.last_beat())
        assert monotonic() - began < 4.0  # the patience of a message that must arrive is five
        # It is told all the same, or the master would take the loop for blocked for ever.
        async with asyncio.timeout(60):
            while not any(isinstance(m, Unblocked) and m.seconds > 0.0 for m in told):
                told.extend(ours.receive())
                await asyncio.sleep(0.01)
        heartbeat.end()

    began = monotonic()
    run(block())
    assert not theirs.closed


@pytest.mark.parametrize(
    ("threshold", "seconds"), [(1.0, 0.1), (0.05, 0.02), (0.5, 0.05), (60.0, 1.0)]
)
def test_ten_beats_fit_into_the_threshold_within_bounds(threshold: float, seconds: float) -> None:
    assert beat_every(threshold) == pytest.approx(seconds)

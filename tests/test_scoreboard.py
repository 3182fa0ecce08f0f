"""What a worker and the master write is what the master and the siblings read."""

from __future__ import annotations

import multiprocessing
from time import monotonic

import pytest

from forkserve.readings import BOUNDS, Holder, Totals
from forkserve.scoreboard import (
    ACCEPTS,
    CLOSED,
    DURATIONS,
    MORE,
    OVERLAP,
    ROW,
    SECONDS,
    SINCE,
    SPELL,
    WEBSOCKETS,
    Row,
    Scoreboard,
)
from forkserve.supervisor.phases import Phase

HOLDER = Holder(7, 2, Phase.READY, 4711, 10.0, 11.5)


def serve(row: Row, *durations: int, in_flight: int = 0) -> None:
    """As if so many requests had been answered, by their duration."""
    for number, count in enumerate(durations):
        row.counts[DURATIONS + number] = count
    row.counts[SINCE] = 4.5 if in_flight else 0.0
    row.counts[MORE] = max(0, in_flight - 1)


def test_a_request_is_shown_while_it_is_served() -> None:
    board = Scoreboard(3)
    row = board.row(1)
    row.beat(5.0)
    row.label(b"GET", b"/path")
    serve(row, 6, 1, in_flight=2)
    seen = board.row(1).snapshot()
    assert (seen.beat, seen.requests, seen.in_flight) == (5.0, 7, 2)
    assert (seen.method, seen.path, seen.serving) == ("GET", "/path", "GET /path")
    assert seen.serving_since == 4.5
    serve(row, 8, 1)
    seen = board.row(1).snapshot()
    assert (seen.requests, seen.in_flight, seen.serving, seen.path) == (9, 0, "", "")
    assert seen.serving_since == 0.0


def test_what_is_too_long_or_no_text_harms_nobody_else() -> None:
    board = Scoreboard(2)
    board.row(1).beat(1.0)
    board.row(1).assign(HOLDER)
    board.row(0).counts[SINCE] = 1.0
    board.row(0).label(b"GET" * ROW, b"/\x1b\n\xff" * ROW)
    serving = board.row(0).snapshot().serving
    assert serving.isprintable()
    assert len(serving) < ROW
    seen = board.row(1).snapshot()
    assert (seen.beat, seen.holder) == (1.0, HOLDER)


def test_no_field_lies_upon_another() -> None:
    row = Scoreboard(1).row(0)
    row.assign(HOLDER)
    row.weigh(1 << 20)
    row.share_out(1 << 19)
    for place in range(len(row.counts)):
        row.counts[place] = 100.0 + place
    row.counts[OVERLAP] = float(SECONDS)
    row.beat(1.0, 99.0, 0.25, 0.5)
    row.label(b"GET", b"/")
    row.hold(3)
    row.slow(True)
    seen = row.snapshot(now=50.0)
    assert seen.holder == HOLDER
    assert (seen.rss, seen.pss) == (1 << 20, 1 << 19)
    assert (seen.beat, seen.lag, seen.highest_lag) == (1.0, 0.25, 0.5)
    assert (seen.serving, seen.serving_since) == ("GET /", 100.0 + SINCE)
    assert (seen.accepting, seen.connections, seen.slow) == (True, 3, True)
    assert seen.websockets == 100 + WEBSOCKETS
    durations = tuple(100 + DURATIONS + n for n in range(len(BOUNDS) + 1))
    answered = sum(durations) + 100 + CLOSED
    assert seen.in_flight == 1 + 100 + MORE
    assert seen.done == Totals(answered, 0, 100 + ACCEPTS, 100.0, durations, 100.0 + SECONDS)


@pytest.mark.parametrize("phase", list(Phase))
def test_each_phase_is_told(phase: Phase) -> None:
    row = Scoreboard(1).row(0)
    assert row.snapshot().holder is None
    unborn = Holder(1, 1, phase, None, 3.0, None)
    row.assign(unborn)
    assert row.snapshot().holder == unborn


def test_a_loop_that_is_held_is_seen_to_be_late_while_it_is() -> None:
    row = Scoreboard(1).row(0)
    row.beat(10.0, 11.0, 0.125, 0.5)
    assert (row.snapshot(now=10.5).lag, row.snapshot(now=10.5).highest_lag) == (0.125, 0.5)
    assert (row.snapshot(now=13.0).lag, row.snapshot(now=13.0).highest_lag) == (2.0, 2.0)
    row.beat(13.5, 0.0, 2.5, 2.5)  # it drains
    assert row.snapshot(now=99.0).lag == 2.5


def test_a_worker_is_busy_also_while_it_is() -> None:
    row = Scoreboard(1).row(0)
    assert row.snapshot().done.busy == 0.0
    row.counts[SINCE] = 100.0
    assert row.snapshot(now=103.0).done.busy == 3.0
    row.counts[SINCE], row.counts[SECONDS] = 0.0, 4.0
    assert row.snapshot(now=200.0).done.busy == 4.0
    row.counts[SPELL], row.counts[SINCE] = 300.0, 301.0
    assert row.snapshot(now=302.0).done.busy == 6.0


def test_a_worker_that_is_between_two_stores_is_not_less_busy_than_before() -> None:
    row = Scoreboard(1).row(0)
    row.counts[SINCE] = 100.0
    assert row.snapshot(now=103.0).done.busy == 3.0
    row.counts[SINCE] = 0.0  # it has ended, and how long it took is not written yet
    assert row.snapshot(now=103.0).done.busy == 3.0
    row.clear()
    assert row.snapshot(now=103.0).done.busy == 0.0


def test_what_a_worker_has_done_outlives_it() -> None:
    board = Scoreboard(2)
    row = board.row(1)
    row.assign(HOLDER)
    serve(row, 5, 0, 1, in_flight=2)
    row.counts[CLOSED] = 1.0
    row.counts[SECONDS] = 0.5
    row.counts[SPELL] = monotonic() - 1.5
    row.accepted(2)
    row.accepted(1)
    before = row.snapshot().done
    row.clear()
    gone = board.of_the_gone()
    assert (gone.requests, gone.lost, gone.accepts, gone.seconds) == (7, 2, 3, 0.5)
    assert gone.durations == (5, 0, 1, *[0] * (len(BOUNDS) - 2))
    assert before.busy <= gone.busy < before.busy + 60.0
    assert row.snapshot().done == Totals()
    assert row.snapshot().holder is None
    row.clear()  # before the next is made
    assert board.of_the_gone() == gone
    serve(board.row(0), 1)
    board.row(0).clear()
    assert board.of_the_gone() == gone + Totals(1, durations=(1, *[0] * len(BOUNDS)))


def test_what_the_master_remembers_leaves_the_rest_of_its_row_alone() -> None:
    board = Scoreboard(1)
    board.share_the_queue(True)
    serve(board.row(0), *[3] * (len(BOUNDS) + 1))
    board.row(0).clear()
    assert board.row(0).queue_is_shared()
    board.share_the_queue(False)
    assert not board.row(0).queue_is_shared()
    assert board.of_the_gone().requests == 3 * (len(BOUNDS) + 1)


def test_another_process_writes_it() -> None:
    """Through a fork, as it is used."""
    board = Scoreboard(2)

    def live() -> None:
        row = board.row(1)
        row.hold(4)
        row.accepted(5)
        row.beat(1.0, 2.0, 3.0, 4.0)
        row.label(b"PUT", b"/there")
        serve(row, 1, in_flight=1)

    child = multiprocessing.get_context("fork").Process(target=live)
    child.start()
    child.join(60)
    seen = board.row(1).snapshot(now=0.0)
    assert (seen.connections, seen.done.accepts, seen.lag, seen.serving) == (
        4,
        5,
        3.0,
        "PUT /there",
    )
    assert board.row(0).fewest_held() == 4


def test_the_fewest_connections_are_those_of_somebody_who_accepts() -> None:
    board = Scoreboard(4)
    assert board.row(0).fewest_held() == 0
    board.row(0).hold(9)
    board.row(1).hold(4)
    board.row(2).hold(1)
    assert board.row(0).fewest_held() == 1
    board.row(2).hold_no_more()
    assert board.row(0).fewest_held() == 4
    board.row(1).clear()  # it has died
    assert board.row(0).fewest_held() == 9


def test_a_worker_is_alone_while_no_other_accepts() -> None:
    board = Scoreboard(4)
    assert board.row(0).is_alone()
    board.row(0).hold(3)
    assert board.row(0).is_alone()
    board.row(2).hold(0)
    assert not board.row(0).is_alone()
    board.row(2).hold_no_more()
    assert board.row(0).is_alone()


def test_all_are_told_if_one_is_slow() -> None:
    board = Scoreboard(4)
    board.row(1).slow(True)
    board.row(3).slow(True)
    assert board.row(0).any_slow()
    board.row(1).slow(False)
    board.row(3).clear()  # it has died
    assert not board.row(0).any_slow()


def test_the_switchboard_has_a_row_of_its_own() -> None:
    board = Scoreboard(2)
    row = board.switchboard()
    assert (row.last_beat(), row.is_open(), row.held()) == (0.0, False, (0, 0))
    row.beat(5.0)
    row.hold(7, 1)
    row.open()
    again = board.switchboard()
    assert (again.last_beat(), again.is_open(), again.held()) == (5.0, True, (7, 1))
    for slot in range(2):
        board.row(slot).clear()
    assert again.is_open()
    assert board.row(0).fewest_held() == 0
    row.finish()
    assert again.is_finished()
    assert not again.is_open()

"""What a worker writes is what the master and the siblings read."""

from __future__ import annotations

from forkserve.scoreboard import ANSWERED, BEGUN, ROW, SINCE, Scoreboard


def test_a_request_is_shown_while_it_is_served() -> None:
    board = Scoreboard(3)
    row = board.row(1)
    row.beat(5.0)
    row.label(b"GET", b"/path")
    row.counts[BEGUN], row.counts[ANSWERED], row.counts[SINCE] = 9.0, 7.0, 4.5
    seen = board.row(1).snapshot()
    assert (seen.beat, seen.requests, seen.in_flight) == (5.0, 7, 2)
    assert (seen.serving, seen.serving_since) == ("GET /path", 4.5)
    row.counts[ANSWERED] = 9.0
    seen = board.row(1).snapshot()
    assert (seen.requests, seen.in_flight, seen.serving) == (9, 0, "")


def test_what_is_too_long_or_no_text_harms_nobody_else() -> None:
    board = Scoreboard(2)
    board.row(1).beat(1.0)
    board.row(0).counts[BEGUN] = 1.0
    board.row(0).label(b"GET" * ROW, b"/\x1b\n\xff" * ROW)
    serving = board.row(0).snapshot().serving
    assert serving.isprintable()
    assert len(serving) < ROW
    assert board.row(1).snapshot().beat == 1.0


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

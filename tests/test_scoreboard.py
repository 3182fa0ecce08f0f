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

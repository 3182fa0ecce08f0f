"""The gate's rule, with a clock of the test's own."""

from __future__ import annotations

from forkserve.worker.gate import (
    BRISK,
    HELD_UP,
    LENIENT,
    ROW,
    SILENT_ROW,
    SOBER,
    WINDOW,
    Gate,
)


def _brisk(gate: Gate, now: float) -> None:
    """A row of connections, each with its request at once."""
    for number in range(ROW):
        gate.taken(number, now + number * BRISK / ROW / 2)
        gate.arrived(number)


def test_after_one_connection_it_waits_for_its_first_request() -> None:
    gate = Gate(0.0)
    gate.taken("a", 1.0)
    assert gate.awaited == "a"
    assert gate.arrived("a")
    assert gate.awaited is None


def test_the_request_of_another_connection_does_not_open_it() -> None:
    gate = Gate(0.0)
    gate.taken("a", 1.0)
    assert not gate.arrived("b")
    assert gate.awaited == "a"


def test_a_silent_connection_holds_it_for_a_window_only() -> None:
    gate = Gate(0.0)
    gate.taken("silent", 1.0)
    assert 0 < gate.time_left(1.0 + WINDOW / 2) < WINDOW
    assert gate.time_left(1.0 + WINDOW) == 0.0
    gate.expire(1.0 + WINDOW)
    assert gate.awaited is None


def test_one_that_has_spoken_unread_holds_it_for_another_window() -> None:
    gate = Gate(0.0)
    gate.taken("unread", 1.0)
    gate.wait_on(1.0 + WINDOW)
    assert gate.awaited == "unread"
    assert 0 < gate.time_left(1.0 + WINDOW) < 2 * WINDOW


def test_many_silent_ones_in_a_row_open_it_for_a_while() -> None:
    gate, now = Gate(0.0), 100.0
    for number in range(SILENT_ROW):
        assert not gate.wide
        gate.taken(number, now)
        gate.expire(now + WINDOW)
    assert gate.wide
    gate.taken("next", now)
    assert gate.awaited is None
    gate.turned(0.0, now + WINDOW + LENIENT / 2)
    assert gate.wide
    gate.turned(0.0, now + WINDOW + LENIENT)
    assert not gate.wide


def test_a_request_between_ends_a_row_of_silent_ones() -> None:
    gate = Gate(0.0)
    for number in range(3 * SILENT_ROW):
        gate.taken(number, 100.0)
        if number % 2:
            gate.arrived(number)
        else:
            gate.expire(100.0)
    assert not gate.wide


def test_where_connections_come_by_the_hundred_it_is_wide() -> None:
    gate = Gate(0.0)
    _brisk(gate, 0.0)
    assert gate.wide
    gate.taken("next", 0.6)
    assert gate.awaited is None


def test_where_they_come_slowly_it_stays_narrow() -> None:
    gate = Gate(0.0)
    for number in range(3 * ROW):
        gate.taken(number, number * 1.1 * BRISK / ROW)
        assert gate.awaited is not None
        gate.arrived(number)


def test_it_is_narrow_again_when_they_come_no_more() -> None:
    gate = Gate(0.0)
    _brisk(gate, 0.0)
    gate.turned(0.0, 2 * BRISK)
    assert not gate.wide


def test_a_loop_that_was_held_up_keeps_it_narrow_for_a_while() -> None:
    gate = Gate(0.0)
    _brisk(gate, 0.0)
    gate.turned(HELD_UP, 0.3)
    assert not gate.wide
    _brisk(gate, 0.4)
    assert not gate.wide
    _brisk(gate, 0.4 + SOBER)
    _brisk(gate, 0.7 + SOBER)  # the first row began long before
    assert gate.wide

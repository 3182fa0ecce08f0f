"""The table of a worker's phases says neither more nor less than what happens."""

from __future__ import annotations

from forkserve.supervisor.phases import TRANSITIONS
from tests.brain.phases import observed_transitions


def test_the_table_is_what_happens() -> None:
    assert observed_transitions() == TRANSITIONS

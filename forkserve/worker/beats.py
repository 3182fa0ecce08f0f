"""The beats of the event loop, and how late they come: its lag."""

from __future__ import annotations

from time import monotonic

from forkserve.scoreboard import Row

REMEMBERED = 30.0
"""Seconds after which the highest lag is forgotten; twice that at most, since two such spans
are kept."""


class Beats:
    """Writes into the row when the loop has turned, when it is to do so again, and its lag.

    It looks once a beat, so the loop may have been held in between and not show it; what
    holds it often, or for long, does show.
    """

    def __init__(self, row: Row, every: float) -> None:
        """``every``: seconds from one beat to the next, if the loop is free."""
        self._row = row
        self._every = every
        self._due = float("inf")
        self._lag = self._highest = self._highest_before = 0.0
        self._span_ends = monotonic() + REMEMBERED

    def turned(self, now: float) -> None:
        """The loop turns at ``now`` (``time.monotonic()``)."""
        self._lag = max(0.0, now - self._due)
        if now >= self._span_ends:
            self._highest_before, self._highest = self._highest, 0.0
            self._span_ends = now + REMEMBERED
        self._highest = max(self._highest, self._lag)
        self._due = now + self._every
        self._tell(now, self._due)

    def end(self) -> None:
        """It beats no more: the worker drains."""
        self._tell(monotonic(), 0.0)

    def _tell(self, now: float, due: float) -> None:
        self._row.beat(now, due, self._lag, max(self._highest, self._highest_before))

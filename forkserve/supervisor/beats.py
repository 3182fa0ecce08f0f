"""How often a worker beats whose loop is watched. It asks that itself, so nothing of the brain
is imported here."""

from __future__ import annotations

BEATS = 10
"""So many heartbeats fit into the slow threshold ..."""

SHORTEST_BEAT = 0.02
"""... but they are no fewer seconds apart ..."""

LONGEST_BEAT = 1.0
"""... and no more."""


def beat_every(threshold: float) -> float:
    """Seconds between the heartbeats of a worker whose loop is watched."""
    return min(max(threshold / BEATS, SHORTEST_BEAT), LONGEST_BEAT)

"""The phases a worker really passes through, as the search finds them."""

from __future__ import annotations

from forkserve.supervisor.phases import Phase
from tests.brain.explorer import explore, half_reloaded, newborn, serving

DEPTH = 3


def observed_transitions() -> dict[Phase, frozenset[Phase]]:
    """From each phase, those that were seen to come next."""
    found = explore(newborn(), serving(), half_reloaded(), depth=DEPTH, closing=False)
    return {
        phase: frozenset(later for was, later in found.transitions if was is phase)
        for phase in Phase
    }

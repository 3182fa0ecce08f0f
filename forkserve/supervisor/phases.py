"""The phases of a process. Workers know them too, so nothing of the brain is imported here."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class Phase(Enum):
    """Where a worker is in its life. It only ever moves down this list."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    KILLED = "killed"
    EXITED = "exited"


TRANSITIONS: Mapping[Phase, frozenset[Phase]] = {
    Phase.STARTING: frozenset({Phase.READY, Phase.DRAINING, Phase.KILLED, Phase.EXITED}),
    Phase.READY: frozenset({Phase.DRAINING, Phase.KILLED, Phase.EXITED}),
    Phase.DRAINING: frozenset({Phase.KILLED, Phase.EXITED}),
    Phase.KILLED: frozenset({Phase.EXITED}),
    Phase.EXITED: frozenset(),
}
"""Where a worker can go from each phase. A test holds it against every transition that
an exhaustive search finds, and the README's diagram is drawn from it."""

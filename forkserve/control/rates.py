"""What two looks at the status tell: how much was done between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Status = Mapping[str, Any]
"""What the master says of itself; see :mod:`forkserve.master.status`."""


@dataclass(frozen=True, slots=True)
class Rate:
    """What a worker did between two looks."""

    requests: float
    """Answered, a second."""

    busy: float
    """The share of the time in which it had something to do, 0 to 1."""


def between(before: Status | None, now: Status) -> Mapping[int, Rate]:
    """By worker id, for each worker that there is now. Empty if the two cannot be compared.

    One that was not there before has done all that it has done since then. What one that has
    gone did meanwhile, nobody knows.
    """
    if before is None or (seconds := _seconds(before, now)) <= 0:
        return {}
    earlier = {worker["id"]: worker for worker in before["workers"]}
    return {w["id"]: _rate(earlier.get(w["id"], {}), w, seconds) for w in now["workers"]}


def answered(before: Status | None, now: Status) -> float | None:
    """By all workers, those included that have gone meanwhile, a second. None if the two cannot
    be compared."""
    if before is None or (seconds := _seconds(before, now)) <= 0:
        return None
    requests: int = now["totals"]["requests"] - before["totals"]["requests"]
    return max(0.0, requests / seconds)


def _seconds(before: Status, now: Status) -> float:
    """Between the two. 0 if they are of two masters: each counts its workers from 1."""
    if before["pid"] != now["pid"]:
        return 0.0
    # The master's own clock, which nobody sets: "now" is the wall's.
    return float(now["uptime"] - before["uptime"])


def _rate(before: Mapping[str, Any], now: Mapping[str, Any], seconds: float) -> Rate:
    requests = now.get("requests", 0) - before.get("requests", 0)
    busy = now.get("busy", 0.0) - before.get("busy", 0.0)
    return Rate(max(0.0, requests / seconds), min(1.0, max(0.0, busy / seconds)))

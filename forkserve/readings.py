"""What can be read from a row of the scoreboard, and what rows add up to."""

from __future__ import annotations

from dataclasses import dataclass

from forkserve.supervisor.phases import Phase

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds: the durations of requests are counted between these, bounds included, and what
takes longer beyond the last. They are the usual ones of Prometheus' clients, so that its
users' queries fit."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a slot, as the master knows it. Times are ``time.monotonic()`` seconds."""

    worker_id: int
    generation: int
    phase: Phase
    pid: int | None
    """None until the fork has been confirmed."""
    born: float
    ready_since: float | None


@dataclass(frozen=True, slots=True)
class Totals:
    """What workers have done. Each number only ever grows, also when a worker dies."""

    requests: int = 0
    """HTTP requests answered, and WebSockets ended."""
    lost: int = 0
    """Requests and WebSockets that ended with their worker."""
    accepts: int = 0
    """Connections accepted; one that comes back from the switchboard is not counted again."""
    busy: float = 0.0
    """Seconds in which a worker had at least one HTTP request in flight."""
    durations: tuple[int, ...] = (0,) * (len(BOUNDS) + 1)
    """How many HTTP requests took so long that they count at each of :data:`BOUNDS`, and
    beyond the last; not cumulative."""
    seconds: float = 0.0
    """How long all of those took together."""

    def __add__(self, other: Totals) -> Totals:
        return Totals(
            self.requests + other.requests,
            self.lost + other.lost,
            self.accepts + other.accepts,
            self.busy + other.busy,
            tuple(a + b for a, b in zip(self.durations, other.durations, strict=True)),
            self.seconds + other.seconds,
        )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a row said. Times are ``time.monotonic()`` seconds, 0.0 for never."""

    holder: Holder | None
    """None before the master has said who it is."""

    beat: float
    in_flight: int
    """HTTP requests that are being served, and open WebSockets."""
    websockets: int
    """... of which so many are WebSockets."""
    method: str
    """That of the newest request not yet answered (``WebSocket``: one), or empty."""
    path: str
    """Its path, cut to fit, or empty."""
    serving_since: float

    lag: float
    """Seconds by which the event loop was late at its last beat, or is by now."""
    highest_lag: float
    """The most of the last half a minute to a minute."""
    accepting: bool
    connections: int
    """So many are open here; not told (0) by one that does not accept."""
    slow: bool
    """Its handlers hold its loop up."""

    done: Totals

    rss: int
    """Bytes, as the master has weighed them last; 0: not yet."""
    pss: int
    """... where a page that n processes share counts for an n-th."""

    @property
    def requests(self) -> int:
        return self.done.requests

    @property
    def serving(self) -> str:
        """Method and path, or empty."""
        return f"{self.method} {self.path}" if self.method else ""

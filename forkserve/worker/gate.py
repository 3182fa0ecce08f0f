"""The gate: when a worker may take another connection.

With a plain listening socket one wake-up accepts whatever waits, so one worker takes
four connections and three workers sleep. The rule that prevents it: **after one
accept take no more until that connection's first request has arrived, or its client
has been silent for a few milliseconds.** A handler that blocks its event loop then blocks it while
the gate is shut or the loop does not turn, and the next connection goes to a worker
that is free.

One at a time costs a turn or two of the loop for each connection. Where connections
come by the hundred a second and no turn of the loop is long, handlers are fast, there
is nothing to protect, and the gate is **wide**: several connections a wake-up.

Pure: time comes in from outside, always ``time.monotonic()``. See
:mod:`forkserve.worker.acceptor` for who asks and who tells.
"""

from __future__ import annotations

WINDOW = 0.005
"""Seconds that a connection's first request is waited for. Most clients send it as they
connect; a silent one must not hold up the others."""

WIDTH = 8
"""Connections a wake-up while the gate is wide."""

ROW = 128
"""So many connections in a row ..."""

BRISK = 0.5
"""... within so many seconds show that handlers are fast."""

HELD_UP = 0.020
"""Seconds. A turn of the loop that took so long was held up by a handler."""

SOBER = 10.0
"""Seconds without a wide gate after the loop was held up."""

SILENT_ROW = 6
"""So many connections in a row that sent nothing within the window ..."""

LENIENT = 1.0
"""... open the gate wide for so many seconds: else 200 silent clients a second would
keep everybody else waiting."""


class Gate:
    """The rule for one worker, over all its listeners."""

    def __init__(self, now: float, may_widen: bool = True) -> None:
        self._may_widen = may_widen
        """Not where a worker shall take no more than it can serve at once."""

        self.awaited: object | None = None
        """The connection whose first request keeps the gate shut."""

        self.wide = False
        """Several connections may be taken before the first request of each."""

        self._deadline = 0.0
        self._taken = 0
        self._row_began = now
        self._wide_until = 0.0
        self._sober_until = 0.0
        self._silent = 0

    @property
    def width(self) -> int:
        """Connections that may be taken at one wake-up."""
        return WIDTH if self.wide and self._may_widen else 1

    def taken(self, connection: object, now: float) -> None:
        """A connection was accepted."""
        self._taken += 1
        if self._taken >= ROW:
            brisk = now - self._row_began <= BRISK and now >= self._sober_until
            self.wide = (brisk and self._may_widen) or now < self._wide_until
            self._taken, self._row_began = 0, now
        if not self.wide:
            self.awaited = connection
            self._deadline = now + WINDOW

    def arrived(self, connection: object) -> bool:
        """``connection``'s first request is here, or it has gone. Whether that opens
        the gate."""
        self._silent = 0
        if self.awaited is not connection:
            return False
        self.awaited = None
        return True

    def time_left(self, now: float) -> float:
        """Seconds until :meth:`expire`; 0.0 if nothing is waited for."""
        return max(0.0, self._deadline - now) if self.awaited is not None else 0.0

    def wait_on(self, now: float) -> None:
        """The window has passed, but the client has spoken in time: it is this process
        that has had no turn to read it."""
        self._deadline = now + WINDOW

    def expire(self, now: float) -> None:
        """The window has passed without a request: wait no longer."""
        self.awaited = None
        self._silent += 1
        if self._silent >= SILENT_ROW:
            self._silent = 0
            self.wide, self._wide_until = True, now + LENIENT

    def turned(self, late: float, now: float) -> None:
        """The loop has turned, so many seconds later than it was asked to. To be
        called every few milliseconds while the gate is wide."""
        if late >= HELD_UP:
            self.wide = False
            self._sober_until = now + SOBER
        elif now - self._row_began > BRISK and now >= self._wide_until:
            self.wide = False

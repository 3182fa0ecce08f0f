"""Whether handlers are slow: whether they hold the event loop up.

While a handler blocks, every request on a connection of its worker waits, even if a
sibling is free. One that awaits its database for a second holds nobody up.

A leaky bucket. Each stretch for which the loop did not turn is poured in, each request
takes out what a fast one may take, and a little runs out all the time. So it fills only
if the average request holds the loop for longer than that; a single one, however long,
does not fill it. It counts as slow from when it is full until it is empty.

Pure: time comes in from outside, always ``time.monotonic()``.
"""

from __future__ import annotations

FAST = 0.005
"""Seconds that a request may hold the loop. To park a connection costs about a tenth of it."""

FULL = 0.1
"""Seconds in the bucket from which on handlers are slow."""

MOST = 0.09
"""Seconds that one stretch counts for at most, so that one alone is not enough."""

BRIM = 0.5
"""Seconds beyond which it runs over."""

LEAK = 0.01
"""Seconds that run out in a second."""


class Slowness:
    """Of the handlers of one worker."""

    def __init__(self, now: float) -> None:
        self.slow = False
        self._level = 0.0
        self._looked = now

    def held(self, seconds: float, requests: int, now: float) -> None:
        """The loop was held up for so long, and so many requests began meanwhile."""
        level = max(0.0, self._level - LEAK * (now - self._looked))
        level += min(seconds, MOST) - FAST * requests
        self._level = min(max(0.0, level), BRIM)
        self._looked = now
        if self._level >= FULL:
            self.slow = True
        elif not self._level:
            self.slow = False


SUSPICIOUS = FAST
"""Seconds between a request's begin and its end, from which on it is worth a closer look
whether it held the loop or only waited for something."""

ATTENTION = 10.0
"""Seconds for which that look goes on."""

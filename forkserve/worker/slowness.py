"""Whether handlers are slow: whether they make requests of others wait.

While a handler blocks, every request on a connection of its worker waits, even if a
sibling is free. One that awaits its database for a second holds nobody up. So what counts
is for how long the event loop is held. A request that comes at a random moment finds it
held, and has to wait, for

    the sum of  held² / 2,  over all holds  /  the time in which they were

seconds on average: a hold is met the more often the longer it is, and half of it is still
to come then (the mean residual life of renewal theory; in the Pollaczek-Khinchine formula
of a queue, the term λE[S²]/2). That is the wait which parking saves, and it is weighed
against what parking costs.

The mean is taken over the last seconds, older ones count less and less. No single hold,
however long, is enough.

Pure: time comes in from outside, always ``time.monotonic()``.
"""

from __future__ import annotations

import math

FAST = 0.005
"""Seconds that a request may hold the loop, without anybody looking closer."""

WORTH = 0.003
"""Seconds of mean wait from which on handlers are slow. To park a connection, and to take it
up again, costs about a tenth of it (``tests/bench/fast_handlers``)."""

OVER = WORTH / 5
"""Seconds of mean wait below which they are fast again."""

MOST = WORTH * 0.9
"""Seconds of mean wait that one hold counts for at most."""

BRIM = WORTH * 2
"""Seconds of mean wait from which on more makes no difference."""

MEMORY = 5.0
"""Seconds after which a hold counts for a third of what it did (1/e)."""


class Slowness:
    """Of the handlers of one worker."""

    def __init__(self, now: float) -> None:
        self.slow = False
        self._wait = 0.0
        self._looked = now

    def held(self, seconds: float, requests: int, now: float) -> None:
        """The loop was held for so long, by so many requests one after the other."""
        older = self._wait * math.exp((self._looked - now) / MEMORY)
        newest = seconds**2 / 2 / max(1, requests) / MEMORY
        self._wait = min(older + min(newest, MOST), BRIM)
        self._looked = now
        if self._wait >= WORTH:
            self.slow = True
        elif self._wait < OVER:
            self.slow = False


SUSPICIOUS = FAST
"""Seconds between a request's begin and its end, from which on it is worth a closer look
whether it held the loop or only waited for something."""

ATTENTION = 10.0
"""Seconds for which that look goes on."""

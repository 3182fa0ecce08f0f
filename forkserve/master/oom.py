"""Was it the OOM killer?

A process that was ended by SIGKILL cannot say by whom. The kernel counts, in the cgroup of
the victim, whom its OOM killer has ended, and it counts before it kills. So:

- if the counter has not risen, it was somebody else: that is certain (though it may have been
  a daemon that watches the memory, such as systemd-oomd, which the kernel does not count);
- if it has, it very likely was the OOM killer. The counter names nobody, so a process that
  the app itself had started in the same cgroup may have been the one, and the SIGKILL at hand
  may have come from elsewhere within the same seconds.

Each rise explains one death, and none after :data:`FRESH` seconds.
"""

from __future__ import annotations

import os
import signal
from math import inf

from forkserve.master.cgroups import Cgroups, kills
from forkserve.master.kernel import Death
from forkserve.supervisor.events import Exit

FRESH = 10.0
"""Seconds. A process that is killed gives its memory back first, and is seen to be gone then."""


class OomEvidence:
    """The counter of our cgroup, and what of it has not been laid at anybody's door."""

    def __init__(self, cgroups: Cgroups) -> None:
        self._cgroups = cgroups
        self._counter = cgroups.open_kill_counter()
        self._seen = 0 if self._counter is None else kills(self._counter) or 0
        self._unclaimed: list[float] = []
        """When each rise was seen by which no death has been explained yet."""

    def look(self, now: float) -> None:
        """See whether the counter has risen. The more often, the better the evidence."""
        if self._counter is None:
            return
        count = kills(self._counter)
        if count is not None:
            fresh = [seen for seen in self._unclaimed if now - seen <= FRESH]
            self._unclaimed = fresh + [now] * (count - self._seen)
            self._seen = count

    def explain(self, death: Death, now: float) -> Exit:
        """How a child ended that was not killed by us."""
        if death.code != -signal.SIGKILL or self._counter is None:
            return Exit(death.code)
        self.look(now)
        if not self._unclaimed:
            return Exit(death.code, oom=False)
        self._unclaimed.pop(0)
        limit = self._cgroups.deadly_memory()
        return Exit(death.code, True, death.peak, 0 if limit == inf else int(limit))

    def close(self) -> None:
        if self._counter is not None:
            os.close(self._counter)

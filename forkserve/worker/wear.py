"""When a worker has served long enough, so that another should take its place."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from time import monotonic

from forkserve import memory
from forkserve.config.settings import Settings
from forkserve.memory import mebibytes

LOOK_AGAIN = 10.0
"""Seconds between two looks at the share of memory: the kernel walks every page for it."""

EARLIER = 0.1
"""A lifetime ends up to this share of it earlier, so that workers do not age together."""


@dataclass(slots=True)
class Wear:
    """The limits of one worker. It only looks; the master decides when it may go."""

    settings: Settings
    begun: float = field(default_factory=monotonic)
    """When it began to accept."""

    requests: int = 0
    lifetime: float = 0.0
    memory: int = 0
    _looked: float = float("-inf")

    @classmethod
    def begin(cls, settings: Settings) -> Wear:
        wear = cls(settings)
        if settings.max_requests:
            wear.requests = settings.max_requests + random.randint(0, settings.max_requests_jitter)
        wear.lifetime = settings.max_lifetime * (1 - EARLIER * random.random())
        wear.memory = settings.max_rss
        return wear

    def too_big_from_the_start(self) -> str:
        """Why ``--max-rss`` is not applied, if it is not: the worker would be recycled for
        ever, since the next one would be as big."""
        if not self.memory or (used := memory_used(self.memory)) <= self.memory:
            return ""
        self.memory = 0
        return (
            f"--max-rss {mebibytes(self.settings.max_rss)} is below what the app uses when it "
            f"starts ({mebibytes(used)}); it is not applied"
        )

    def tired_of_requests(self, answered: int) -> str:
        """Why it should go, after so many requests; or an empty string."""
        if not self.requests or answered < self.requests:
            return ""
        limit = self.settings.max_requests
        return f"it has answered {answered} requests (--max-requests {limit})"

    def tired(self, now: float) -> str:
        """Why it should go, by its age or its memory; or an empty string."""
        if self.lifetime and now - self.begun >= self.lifetime:
            age, limit = now - self.begun, self.settings.max_lifetime
            return f"it has served for {age:.0f} s (--max-lifetime {limit:g})"
        if self.memory and now - self._looked >= LOOK_AGAIN:
            return self._tired_of_memory(now)
        return ""

    def _tired_of_memory(self, now: float) -> str:
        if memory.resident() <= self.memory:
            return ""
        self._looked = now
        used = memory_used(self.memory)
        if used <= self.memory:
            return ""
        return f"it uses {mebibytes(used)} (--max-rss {mebibytes(self.settings.max_rss)})"


def memory_used(enough: int = 0) -> int:
    """Bytes: what is resident, where a page shared by n processes counts for an n-th
    (PSS). Where ``enough`` is not exceeded by the plain resident size, which is cheap to
    know, that is the answer; 0 where the system does not tell."""
    resident = memory.resident()
    return resident if resident <= enough else memory.of_kind("Pss") or resident

"""How long to wait before making another worker, when they keep dying young."""

from __future__ import annotations

from dataclasses import dataclass

FREE_ROUNDS = 3
"""Young deaths in a row that are still replaced at once."""

FIRST_DELAY = 0.5
"""Seconds of the first delay; it doubles with every further round."""

LONGEST_DELAY = 30.0
"""Seconds. The delay, jitter included, never grows beyond this."""

JITTER = 0.25
"""Up to this share of a delay is taken away, so that many instances that crash
together do not come back together (M. Brooker, "Exponential Backoff And Jitter")."""

STABLE_AFTER = 5.0
"""Seconds. A worker that has been ready for so long did not die young, and one
that lives so long ends the row."""


@dataclass(slots=True)
class Backoff:
    """A row of young deaths, counted in rounds.

    Workers that were alive together and die together are one round: four workers
    that all trip over the same missing table are one mishap and not four.
    """

    seed: int = 0
    rounds: int = 0
    raised_at: float = float("-inf")
    until: float = float("-inf")

    @property
    def looping(self) -> bool:
        """Whether deaths are replaced with a delay now."""
        return self.rounds > FREE_ROUNDS

    def young_death(self, now: float, born: float) -> float | None:
        """Count the death of a worker born at ``born``.

        Returns the new delay in seconds if this death began a new round, else
        None.
        """
        if born < self.raised_at:
            return None
        self.rounds += 1
        self.raised_at = now
        delay = self._delay()
        self.until = now + delay
        return delay

    def out_of_memory(self, now: float) -> float | None:
        """Count a death by the OOM killer, young or not: another worker, made at once, would
        be killed too, or have a sibling killed. So there is a delay from the first one on.

        Those that die while one is waited for are one round, however old they were, and the
        wait begins anew. Returns as :meth:`young_death` does.
        """
        again = self.looping and now < self.until
        if not again:
            self.rounds = max(self.rounds, FREE_ROUNDS) + 1
            self.raised_at = now
        delay = self._delay()
        self.until = max(self.until, now + delay)
        return None if again else delay

    def stable(self) -> None:
        """A worker proved that workers can live; or the user wants another try."""
        self.rounds = 0
        self.until = float("-inf")

    def _delay(self) -> float:
        if not self.looping:
            return 0.0
        doublings = min(self.rounds - FREE_ROUNDS - 1, 16)
        full = min(LONGEST_DELAY, FIRST_DELAY * 2.0**doublings)
        return full * (1.0 - JITTER * self._fraction())

    def _fraction(self) -> float:
        """A number in [0, 1) that looks random and is the same in every replay."""
        mixed = (self.seed * 0x9E3779B97F4A7C15 + self.rounds * 0xBF58476D1CE4E5B9) % 2**64
        mixed ^= mixed >> 31
        return (mixed * 0x94D049BB133111EB % 2**64) / 2.0**64

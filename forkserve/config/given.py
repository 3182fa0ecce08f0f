"""One value that the user has given, with the place where it stands."""

from __future__ import annotations

from dataclasses import dataclass, field

from forkserve.config.hooks import Hook


@dataclass(frozen=True, slots=True)
class Given:
    """A value by the name of its setting, as text or as what a file holds."""

    name: str
    value: object
    place: str
    """For the user: ``--workers``, ``FORKSERVE_WORKERS``, ``forkserve.toml:3``."""


@dataclass(slots=True)
class Found:
    """What a source holds."""

    given: list[Given] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """Sentences that begin with their place."""

    notes: list[str] = field(default_factory=list)
    """What has no effect, and why: worth a warning."""

    hooks: list[Hook] = field(default_factory=list)

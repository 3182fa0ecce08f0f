"""How each process is called in the log, and what is known of it from outside."""

from __future__ import annotations

from dataclasses import dataclass, replace

from forkserve.master.family import (
    Child,
    Family,
    HookChild,
    MasterChild,
    MonitorChild,
    SwitchboardChild,
    WorkerChild,
)
from forkserve.master.kernel import Death
from forkserve.readings import Snapshot
from forkserve.scoreboard import SwitchboardRow


@dataclass(frozen=True, slots=True)
class Person:
    """One process, as the log speaks of it."""

    name: str
    pid: int | None = None
    seen: Snapshot | None = None
    """A worker's row."""

    asked_while: Snapshot | None = None
    """... as it was when the worker was asked for its stacks, if it was."""

    peak: int = 0
    """Of one that has died: the most memory that it ever had resident, in bytes."""

    held: tuple[int, int] = (0, 0)
    """What a switchboard holds: idle connections, and such with a request."""


class Persons:
    """Who is who, by the numbers that the supervisor has given them."""

    def __init__(self, family: Family, board: SwitchboardRow | None = None) -> None:
        self._family = family
        self._board = board
        self.dying: Person | None = None
        """Whose death is being told: it is not in the family any more."""

    def dies(self, child: Child, death: Death) -> None:
        """Its death will be told, so what is known of it is kept for that."""
        self.dying = replace(self.describe(child), peak=death.peak)

    def worker(self, number: int) -> Person:
        return self._person(self._family.workers.get(number), f"worker {number}")

    def template(self, number: int) -> Person:
        return self._person(self._family.templates.get(number), "the template")

    def switchboard(self, number: int) -> Person:
        return self._person(self._family.switchboards.get(number), "the switchboard")

    def _person(self, child: Child | None, otherwise: str) -> Person:
        if child is not None:
            return self.describe(child)
        return self.dying or Person(otherwise)

    def describe(self, child: Child) -> Person:
        if isinstance(child, SwitchboardChild):
            return Person(f"the switchboard (pid {child.pid})", child.pid, held=self._held())
        if isinstance(child, HookChild):
            return Person(f"the hook {child.hook} (pid {child.pid})", child.pid)
        if isinstance(child, MonitorChild):
            return Person(f"the monitor (pid {child.pid})", child.pid)
        if isinstance(child, MasterChild):
            return Person(f"the new master (pid {child.pid})", child.pid)
        name = f"worker {child.id}" if isinstance(child, WorkerChild) else "the template"
        pid = f"pid {child.pid}, " if child.pid else ""
        known_as = f"{name} ({pid}generation {child.generation})"
        if isinstance(child, WorkerChild):
            return Person(known_as, child.pid, child.row.snapshot(), child.asked_while)
        return Person(known_as, child.pid)

    def _held(self) -> tuple[int, int]:
        alone = len(self._family.switchboards) == 1  # else the row is its successor's
        return self._board.held() if self._board is not None and alone else (0, 0)

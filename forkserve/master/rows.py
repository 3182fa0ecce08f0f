"""The master's part of each worker's row: who it is, how it stands, and how big it is."""

from __future__ import annotations

from time import monotonic

from forkserve import memory
from forkserve.readings import Holder, Snapshot, Totals
from forkserve.scoreboard import Row, Scoreboard
from forkserve.supervisor.state import State, Worker

WEIGH_AGAIN = 2.0
"""Seconds between two looks at what each worker has in memory ..."""

SHARE_OUT_AGAIN = 10.0
"""... and at its share of it (PSS), for which the kernel walks every page."""

LONGEST_LOOK = 0.01
"""Seconds that sharing out may take at a time: the others have to wait for the next one."""


class Rows:
    """Writes what the supervisor knows into the rows, and reads them all."""

    def __init__(self, scoreboard: Scoreboard) -> None:
        self._scoreboard = scoreboard
        self._rows: dict[int, Row] = {}
        """By worker id, like the next."""
        self._told: dict[int, tuple[object, ...]] = {}
        """What of it may change, as the row says it already."""
        self._pids: dict[int, int] = {}
        self._weighed = float("-inf")
        self._shared_out: dict[int, float] = {}
        """When, by worker id."""

    def follow(self, state: State) -> None:
        """Bring the rows up to date with ``state``, after each event."""
        for worker in state.workers.values():
            now = (worker.phase, worker.pid, worker.ready_at)
            if self._told.get(worker.id) != now:
                self._told[worker.id] = now
                self._tell(worker)
        if len(self._told) > len(state.workers):
            # Their rows have been cleared when they were buried.
            for gone in self._told.keys() - state.workers.keys():
                del self._told[gone], self._rows[gone]
                self._pids.pop(gone, None)
                self._shared_out.pop(gone, None)

    def _tell(self, worker: Worker) -> None:
        if worker.id not in self._rows:
            self._rows[worker.id] = self._scoreboard.row(worker.slot)
        if worker.pid is not None:
            self._pids[worker.id] = worker.pid
        self._rows[worker.id].assign(_as_holder(worker))

    def weigh(self, now: float) -> None:
        """See what each worker has in memory, unless that was done a moment ago.

        For whoever is about to look at it; nobody else pays for it.
        """
        if now - self._weighed >= WEIGH_AGAIN:
            self._weighed = now
            for number, pid in self._pids.items():
                self._rows[number].weigh(memory.resident(pid))

    def share_out(self, now: float) -> None:
        """... and what its share of that is, for those first who have waited longest. It takes
        milliseconds for each gibibyte, and the right to look into the workers (ptrace(2))."""
        never = float("-inf")
        for number in sorted(self._pids, key=lambda n: self._shared_out.get(n, never)):
            fresh = now - self._shared_out.get(number, never) < SHARE_OUT_AGAIN
            if fresh or monotonic() - now > LONGEST_LOOK:
                return
            self._shared_out[number] = now
            self._rows[number].share_out(memory.of_kinds(self._pids[number], "Pss")[0])

    def snapshots(self, now: float) -> dict[int, Snapshot]:
        """What each row says, by worker id."""
        return {number: row.snapshot(now) for number, row in self._rows.items()}

    def totals(self, snapshots: dict[int, Snapshot]) -> Totals:
        """What all workers have done since the start, those that are gone included."""
        return sum((seen.done for seen in snapshots.values()), self._scoreboard.of_the_gone())


def _as_holder(worker: Worker) -> Holder:
    return Holder(
        worker.id, worker.generation, worker.phase, worker.pid, worker.born, worker.ready_at
    )

"""The record, the policy it is judged by, and what can be done to any process.

Each method changes the record and adds what is to be done to ``_out``.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from forkserve.supervisor import actions as do
from forkserve.supervisor.actions import Action, Departure
from forkserve.supervisor.backoff import Backoff
from forkserve.supervisor.phases import Phase
from forkserve.supervisor.state import (
    Policy,
    Process,
    State,
    Successor,
    Switchboard,
    Template,
    Worker,
)

LATE = 0.5
"""Seconds. A verdict that comes later than this after it was due was held up because
the master itself did not run, and then the workers may not have run either."""


@dataclass(frozen=True, slots=True)
class _Means:
    """How a process of one kind is brought to its end."""

    overdue: Callable[[int, Departure, float], Action]
    dump: Callable[[int, int], Action] | None
    """None: it cannot write its stacks."""

    kill: Callable[[int, int], Action]


_MEANS: Mapping[type[Process], _Means] = {
    Worker: _Means(do.WorkerOverdue, do.DumpStacks, do.Kill),
    Template: _Means(do.TemplateOverdue, do.DumpTemplate, do.KillTemplate),
    Switchboard: _Means(do.SwitchboardOverdue, do.DumpSwitchboard, do.KillSwitchboard),
    Successor: _Means(do.MasterOverdue, None, do.KillMaster),
}


class Deeds:
    """The brain's hands: how a process is condemned and killed, and by when."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.state = State(
            target=policy.workers,
            backoff=Backoff(seed=policy.seed),
            template_backoff=Backoff(seed=policy.seed + 1),
            switchboard_backoff=Backoff(seed=policy.seed + 2),
        )
        self._out: list[Action] = []

    def _due(self, process: Process) -> float:
        """When something must be done about a process that does nothing itself."""
        if process.phase is Phase.READY:
            if isinstance(process, Switchboard):
                return process.beat + self.policy.switchboard_timeout
            if isinstance(process, Worker) and self.policy.timeout:
                return process.beat + self.policy.timeout
        return process.deadline

    def _in_time(self, deadline: float) -> float:
        """``deadline``, or the moment at which a stop that is under way cuts everybody off."""
        if self.state.stop_began is None:
            return deadline
        limit = self.policy.graceful_timeout + self.policy.cutoff_grace
        return min(deadline, self.state.stop_began + limit)

    def _overstays(self, process: Process, why: Departure, limit: float) -> None:
        process.departure = why
        self._out.append(_MEANS[type(process)].overdue(process.id, why, limit))

    def _condemn(self, process: Process, why: Departure, limit: float, now: float) -> None:
        """Kill it, but have it write its stacks first."""
        process.phase = Phase.KILLED
        process.deadline = self._in_time(now + self.policy.dump_grace)
        self._overstays(process, why, limit)
        dump = _MEANS[type(process)].dump
        if process.pid is not None and dump is not None:
            self._out.append(dump(process.id, process.pid))

    def _kill(self, process: Process, now: float) -> None:
        process.phase = Phase.KILLED
        process.deadline = now + self.policy.kill_retry
        if process.pid is not None:
            process.killed_at = now
            self._out.append(_MEANS[type(process)].kill(process.id, process.pid))

    def _excuse(self, now: float) -> None:
        """Nobody is blamed for beats that are missing because the master did not run."""
        for worker in self.state.in_phase(Phase.READY):
            worker.beat = max(worker.beat, now)
        self._watch_from(now)
        self._switchboard_beat(now)

    def _watch_from(self, now: float) -> None:
        """Nobody's loop is blocked for what was before."""
        for worker in self.state.workers.values():
            worker.watched_from = max(worker.watched_from, now)

    def _switchboard_beat(self, beat: float) -> None:
        for board in self.state.switchboards.values():
            if board.phase is Phase.READY:
                board.beat = max(board.beat, beat)


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"

"""An upgrade: the master replaces itself by one that is started anew.

Theory of operation
-------------------

The old master starts the new one with its own listeners. The new one makes workers, which
accept from the same queue beside the old ones, and reports once all of them are ready. Only
then the old one leaves, like in a stop, but for the listen queue, which goes on. If the new
one fails, whichever way, the old one has lost nothing::

    old   serves ─────────────────────────────── leaves ──► gone
              │ ForkMaster          ReportReady ▲   │ HandOver
    new       └──► makes its workers ───────────┘   ▼ TakenOver: serves

There are at most two masters, and at most one of them is not ready. So an upgrade waits
until the master before this one has gone. A reload that is asked for while the new master
starts waits for the verdict, and goes to whoever serves then: the new one may have read the
code just before it was changed. A stop ends both.

As a process of the old master's the successor passes through the phases of all others, up to
the handover; from then on it is nobody's to end.
"""

from __future__ import annotations

from forkserve.supervisor import actions as do
from forkserve.supervisor import events as on
from forkserve.supervisor.actions import Departure
from forkserve.supervisor.deeds import signal_name
from forkserve.supervisor.events import Exit
from forkserve.supervisor.failures import BootFailure
from forkserve.supervisor.phases import Phase
from forkserve.supervisor.state import Successor
from forkserve.supervisor.switchboards import Switchboards

_MEANING = {
    1: "it cannot listen where it should",
    2: "its settings are wrong",
    3: "its app cannot start",
}
"""What the exit codes of forkserve say."""


class Upgrades(Switchboards):
    """The part of the supervisor that has to do with the master before and after this one."""

    # -- observe ----------------------------------------------------------------------

    def _upgrade_requested(self, event: on.UpgradeRequested) -> None:
        state = self.state
        if state.stopping:
            self._out.append(do.Ignored("upgrade", self._why_too_late()))
        elif self._is_tried():
            self._out.append(do.Ignored("upgrade", self._not_ready_yet()))
        elif not state.current:
            self._out.append(do.Ignored("upgrade", "no worker was ever ready"))
        else:
            state.upgrade_wanted = True
            if because := self._upgrade_waits():
                self._out.append(do.Waits("upgrade", because))

    def _successor_forked(self, event: on.SuccessorForked) -> None:
        successor = self._successor(event.successor_id)
        assert successor is not None
        successor.pid = event.pid
        if successor.phase is Phase.STARTING:
            self._out.append(do.UpgradeBegins(event.pid))
        else:  # it was given up while its birth was under way
            self._send_away(successor, event.now)

    def _successor_fork_failed(self, event: on.SuccessorForkFailed) -> None:
        successor = self._successor(event.successor_id)
        self.state.successor = None  # any phase -> exited
        if successor is not None and successor.phase is Phase.STARTING:
            refused = BootFailure(f"The system refused a new process: {event.error}.")
            self._out.append(do.UpgradeFailed(None, refused))

    def _successor_ready(self, event: on.SuccessorReady) -> None:
        state, successor = self.state, self._successor(event.successor_id)
        if successor is None or successor.phase is not Phase.STARTING or successor.pid is None:
            return
        state.successor = None  # from now on it is its own master
        state.succeeded_by = successor.pid
        state.has_onward_way = event.switchboard and self.policy.switchboard
        self._out.append(do.HandOver(successor.id, successor.pid))
        if state.reload_waits:
            self._out.append(do.PassReloadOn(successor.pid))
        state.reload_waits = False
        limit = self.policy.graceful_timeout + self.policy.cutoff_grace
        after = event.now - successor.born
        self._out.append(do.UpgradeDone(successor.pid, after, len(state.workers), limit))

    def _successor_extended(self, event: on.SuccessorExtended) -> None:
        successor = self._successor(event.successor_id)
        if successor is not None and successor.phase is Phase.STARTING and event.seconds > 0:
            successor.deadline = max(successor.deadline, event.now + event.seconds)

    def _successor_failed(self, event: on.SuccessorFailed) -> None:
        successor = self._successor(event.successor_id)
        if successor is None or successor.phase is not Phase.STARTING:
            return
        successor.phase = Phase.DRAINING  # starting -> draining
        successor.departure = Departure.FAILED_TO_BOOT
        successor.deadline = event.now + self.policy.handover_timeout
        self._out.append(do.UpgradeFailed(successor.pid, event.failure))

    def _successor_exited(self, event: on.SuccessorExited) -> None:
        state, successor = self.state, self._successor(event.successor_id)
        if successor is None:
            if state.succeeded_by is not None:
                self._out.append(do.MasterGone(state.succeeded_by, event.exit, served=True))
            return
        state.successor = None  # any phase -> exited
        if successor.phase is Phase.STARTING:
            failure = BootFailure(f"It {_how(event.exit)} before it was ready.")
            self._out.append(do.UpgradeFailed(successor.pid, failure))
        elif successor.pid is not None:
            self._out.append(do.MasterGone(successor.pid, event.exit, served=False))

    def _successor(self, successor_id: int) -> Successor | None:
        successor = self.state.successor
        return successor if successor is not None and successor.id == successor_id else None

    def _taken_over(self, event: on.TakenOver) -> None:
        state = self.state
        if state.borrowed and state.predecessor is not None:
            state.borrowed = False
            self._out.append(do.TookOver(state.predecessor, len(state.serving())))

    def _predecessor_gone(self, event: on.PredecessorGone) -> None:
        state = self.state
        if state.predecessor is not None:
            self._out.append(do.PredecessorLeft(state.predecessor, died=state.borrowed))
        state.predecessor, state.borrowed = None, False

    # -- verdicts ---------------------------------------------------------------------

    def _successor_overdue(self, successor: Successor, now: float) -> None:
        if successor.phase is Phase.STARTING:  # starting -> draining
            limit = self.policy.succession_timeout
            late = BootFailure(f"It was not ready within {limit:g} s, twice the boot timeout.")
            self._out.append(do.UpgradeFailed(successor.pid, late))
            self._let_go_of(successor, now)
            return
        if successor.phase is Phase.DRAINING:  # draining -> killed
            failed = successor.departure is Departure.FAILED_TO_BOOT
            limit = self.policy.handover_timeout if failed else self._dismissal_limit()
            self._overstays(successor, Departure.CUT_OFF, limit)
        self._kill(successor, now)

    def _is_tried(self) -> bool:
        successor = self.state.successor
        return successor is not None and successor.phase is Phase.STARTING

    def _upgrade_waits(self) -> str:
        """Why an upgrade cannot begin yet, or nothing."""
        state = self.state
        if state.predecessor is not None:
            return f"the old master (pid {state.predecessor}) has not left yet"
        if state.successor is not None:
            return "the new master that has failed has not left yet"
        return ""

    def _not_ready_yet(self) -> str:
        successor = self.state.successor
        pid = f" (pid {successor.pid})" if successor and successor.pid else ""
        return f"a new master{pid} is starting"

    def _why_too_late(self) -> str:
        pid = self.state.succeeded_by
        if pid is not None:
            return f"the new master (pid {pid}) has taken over, and this one is leaving"
        return "the master is stopping"

    # -- deeds ------------------------------------------------------------------------

    def _fork_successor(self, now: float) -> None:
        state = self.state
        state.upgrade_wanted = False
        state.last_successor += 1
        deadline = now + self.policy.succession_timeout
        state.successor = Successor(state.last_successor, 0, Phase.STARTING, now, deadline)
        self._out.append(do.ForkMaster(state.last_successor))

    def _dismiss_successor(self, now: float) -> None:
        """A stop: a new master that has not taken over goes too."""
        successor = self.state.successor
        if successor is None:
            return
        if successor.phase is Phase.STARTING:
            self._let_go_of(successor, now)
        elif successor.phase is Phase.DRAINING:
            successor.deadline = min(successor.deadline, now + self._dismissal_limit())

    def _let_go_of(self, successor: Successor, now: float) -> None:
        successor.phase = Phase.DRAINING  # starting -> draining
        successor.departure = Departure.NOT_NEEDED
        successor.deadline = now + self._dismissal_limit()
        if successor.pid is not None:
            self._out.append(do.DismissMaster(successor.id, successor.pid))

    def _dismissal_limit(self) -> float:
        return self.policy.graceful_timeout + self.policy.dismissal_grace

    def _dismiss_successor_at_once(self, now: float) -> None:
        """It ends its workers at once, and itself; a SIGKILL would leave them to drain."""
        successor = self.state.successor
        if successor is None or successor.phase is Phase.KILLED:
            return
        successor.phase = Phase.DRAINING  # starting -> draining
        successor.departure = Departure.NOT_NEEDED
        successor.deadline = min(successor.deadline, now + self.policy.dismissal_grace)
        if successor.pid is not None:
            self._out.append(do.DismissMaster(successor.id, successor.pid, at_once=True))

    def _send_away(self, successor: Successor, now: float) -> None:
        """It has just been born, and nobody wants it any more."""
        if successor.phase is Phase.KILLED:
            self._kill(successor, now)
        elif successor.pid is not None:
            self._out.append(do.DismissMaster(successor.id, successor.pid))


def _how(exit: Exit) -> str:
    if exit.signal:
        return f"was ended by {signal_name(exit.signal)}"
    meaning = _MEANING.get(exit.code, "")
    return f"exited with {exit.code}{f' ({meaning})' if meaning else ''}"

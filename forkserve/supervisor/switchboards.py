"""What becomes of the switchboard: it is started, replaced, and the first to go in a stop.

It serves nobody itself, and nothing that happens to it touches a worker, a generation or
the stop: without one, connections stay with their workers.
"""

from __future__ import annotations

from forkserve.supervisor import actions as do
from forkserve.supervisor import events as on
from forkserve.supervisor.actions import Departure
from forkserve.supervisor.backoff import STABLE_AFTER
from forkserve.supervisor.deeds import Deeds
from forkserve.supervisor.phases import Phase
from forkserve.supervisor.state import FOREVER, Switchboard


class Switchboards(Deeds):
    """The part of the supervisor that has to do with the switchboard."""

    # -- observe ----------------------------------------------------------------------

    def _switchboard_forked(self, event: on.SwitchboardForked) -> None:
        board = self.state.switchboards[event.switchboard_id]
        board.pid = event.pid
        if board.departure is Departure.DRAINED and board.phase is Phase.DRAINING:
            self._send_off(board)
        elif board.phase is Phase.KILLED:
            self._kill(board, event.now)

    def _switchboard_fork_failed(self, event: on.SwitchboardForkFailed) -> None:
        board = self.state.switchboards.pop(event.switchboard_id)  # any phase -> exited
        backoff = self.state.switchboard_backoff
        backoff.young_death(event.now, board.born)
        # Unlike a death, a refused fork is never worth an immediate second try.
        backoff.until = max(backoff.until, event.now + 0.5)
        self._out.append(do.ForkRefused(event.error, backoff.until - event.now))

    def _switchboard_ready(self, event: on.SwitchboardReady) -> None:
        board = self.state.switchboards.get(event.switchboard_id)
        if board is None or board.phase is not Phase.STARTING:
            return
        board.phase = Phase.READY  # starting -> ready
        board.ready_at = board.beat = event.now
        board.deadline = FOREVER
        self._out.append(do.SwitchboardServes(board.id, event.now - board.born))

    def _switchboard_leaving(self, event: on.SwitchboardLeaving) -> None:
        board = self.state.switchboards.get(event.switchboard_id)
        if board is None or not board.staying:
            return
        board.phase = Phase.DRAINING  # starting, ready -> draining
        board.departure = Departure.LEFT
        board.deadline = event.now + self.policy.handover_timeout
        self._end_the_row(board, event.now)
        self._out.append(do.SwitchboardLeaves(board.id))

    def _switchboard_exited(self, event: on.SwitchboardExited) -> None:
        board = self.state.switchboards.pop(event.switchboard_id, None)  # any phase -> exited
        if board is None:
            return
        board.phase = Phase.EXITED
        if board.departure is None:  # else it has been judged, or leaves with a good reason
            self._judge_switchboard(board, event.now)
        departure = board.departure or Departure.CRASHED
        gone = do.SwitchboardGone(
            board.id,
            departure,
            event.exit,
            event.now - board.born,
            departure in (Departure.DRAINED, Departure.LEFT),
            event.stack,
            self._what_next_without(event.now),
        )
        self._out.append(gone)

    def _slow(self, event: on.WorkerSlow) -> None:
        if worker := self.state.workers.get(event.worker_id):
            worker.slow = event.slow

    # -- verdicts ---------------------------------------------------------------------

    def _switchboard_overdue(self, board: Switchboard, now: float) -> None:
        policy = self.policy
        if board.phase is Phase.STARTING:  # starting -> killed
            self._condemn(board, Departure.BOOT_TIMED_OUT, policy.switchboard_boot_timeout, now)
            self._judge_switchboard(board, now)  # now: the next one does not wait for its exit
        elif board.phase is Phase.READY:  # ready -> killed
            self._condemn(board, Departure.HUNG, policy.switchboard_timeout, now)
            self._judge_switchboard(board, now)
        elif board.phase is Phase.DRAINING:  # draining -> killed
            stop = policy.graceful_timeout + policy.cutoff_grace
            limit = stop if board.departure is Departure.DRAINED else policy.handover_timeout
            self._overstays(board, Departure.CUT_OFF, limit)
            self._kill(board, now)
        else:
            self._kill(board, now)

    def _judge_switchboard(self, board: Switchboard, now: float) -> None:
        """It died, or will, and should not have: how soon may there be another?"""
        if not self._end_the_row(board, now):
            self.state.switchboard_backoff.young_death(now, board.born)

    def _end_the_row(self, board: Switchboard, now: float) -> bool:
        """Whether it has lived; one that was born in a row of young deaths has then ended it."""
        backoff = self.state.switchboard_backoff
        lived = board.ready_at is not None and now - board.ready_at >= STABLE_AFTER
        if lived and board.born >= backoff.raised_at:
            backoff.stable()
        return lived

    # -- deeds ------------------------------------------------------------------------

    def _fork_switchboard(self, now: float) -> None:
        state = self.state
        state.last_switchboard += 1
        state.switchboards[state.last_switchboard] = Switchboard(
            state.last_switchboard,
            0,
            Phase.STARTING,
            born=now,
            deadline=now + self.policy.switchboard_boot_timeout,
        )
        self._out.append(do.ForkSwitchboard(state.last_switchboard))

    def _dismiss_switchboards(self, now: float) -> None:
        """A stop: whoever is of use hands back what it holds, as long as somebody takes it."""
        for board in self.state.switchboards.values():
            # One that leaves by itself will have no successor now.
            if board.staying or (
                board.phase is Phase.DRAINING and board.departure is Departure.LEFT
            ):
                board.phase = Phase.DRAINING  # starting, ready -> draining
                board.departure = Departure.DRAINED
                board.deadline = FOREVER
                board.onward = self.state.has_onward_way
                self._send_off(board)
            if board.phase is Phase.DRAINING:
                board.deadline = self._in_time(board.deadline)

    def _send_off(self, board: Switchboard) -> None:
        if board.pid is None:
            return
        if board.onward:
            self._out.append(do.ForwardSwitchboard(board.id, board.pid))
        else:
            self._out.append(do.DismissSwitchboard(board.id, board.pid))

    def _pass_on_no_more(self, now: float) -> None:
        """Nobody is left who brings it anything: it passes on what it has got, and leaves."""
        for board in self.state.switchboards.values():
            if board.phase is Phase.DRAINING and board.onward and board.pid is not None:
                board.onward = False
                board.deadline = min(board.deadline, now + self.policy.handover_timeout)
                self._send_off(board)

    def _hand_back_no_more(self, now: float) -> None:
        """Nobody is left to take what a switchboard holds."""
        for board in self.state.switchboards.values():
            if board.phase is Phase.DRAINING and not self.state.has_onward_way:
                self._kill(board, now)  # draining -> killed

    def _note_parking(self) -> None:
        slow = [w.id for w in self.state.workers.values() if w.slow]
        if bool(slow) is self.state.parking or not self.policy.switchboard:
            return
        self.state.parking = bool(slow)
        self._out.append(do.ParkingBegins(slow[0]) if slow else do.ParkingEnds())

    def _what_next_without(self, now: float) -> str:
        state = self.state
        if state.stopping:
            return ""
        if any(board.staying for board in state.switchboards.values()):
            return "another has taken its place"
        delay = state.switchboard_backoff.until - now
        return f"another is made in {delay:.1f} s" if delay > 0 else "another is made"

"""A worker whose event loop is blocked for a while: it shows where, and is left alone.

What PHP-FPM calls its slow log. A worker beats so often that a missing beat is soon seen, and
it is the master that looks for it: a blocked worker cannot, above all in native code that does
not let go of the GIL. Then, once for each blockage::

    the beat is late ──► DumpStacks ──► ReadStacks ──► LoopBlocked      WorkerUnblocked
                              a moment, or a few, later       └──► ... ──► LoopTurns

How long the blockage was altogether the worker says itself, when it can again. If that takes
longer than the liveness timeout, the worker is hung, which is :mod:`.verdicts`' affair.
"""

from __future__ import annotations

from dataclasses import replace

from forkserve.supervisor import actions as do
from forkserve.supervisor import events as on
from forkserve.supervisor.beats import beat_every
from forkserve.supervisor.deeds import LATE, Deeds
from forkserve.supervisor.phases import Phase
from forkserve.supervisor.state import FOREVER, Blockage, Worker

READ_AFTER = 0.1
"""Seconds between the request for the stacks and the look whether they are there, and between
two such looks. To write them takes a worker that has a processor some milliseconds."""

PATIENCE = 1.0
"""Seconds until the blockage is told without them: the worker is stopped, say."""

PAUSE = 1.0
"""Seconds, at least, between two requests to the same worker for its stacks."""


class Blockages(Deeds):
    """The part of the supervisor that has to do with loops that are blocked."""

    def _look_due(self, worker: Worker) -> float:
        """When something must be done about the worker's loop, should it not turn."""
        served = worker.phase is Phase.READY or worker.phase is Phase.DRAINING
        if not (worker.slow_threshold and worker.pid and worker.ready_at is not None and served):
            return FOREVER
        if worker.blockage is not None:
            return worker.blockage.look_at
        # One whose next beat is not due yet may have begun to block just now.
        turned = max(worker.beat, worker.watched_from)
        return turned + beat_every(worker.slow_threshold) + worker.slow_threshold

    def _look_at_loops(self, event: on.Alarm) -> None:
        due = [w for w in self.state.workers.values() if self._look_due(w) <= event.now]
        if any(self._look_is_late(w, event.now) for w in due):
            self._watch_from(event.now)
        for worker in due:
            if self._look_due(worker) > event.now:
                continue
            if worker.id not in event.beats:
                worker.slow_threshold = 0.0  # it has no loop any more
            elif worker.blockage is None:
                self._ask_for_stacks(worker, event.now)
            else:
                worker.blockage = replace(worker.blockage, look_at=event.now + READ_AFTER)
                self._out.append(do.ReadStacks(worker.id))

    def _look_is_late(self, worker: Worker, now: float) -> bool:
        """Whether the master itself did not run, and then perhaps the workers did not either."""
        return worker.blockage is None and now - self._look_due(worker) > min(
            LATE, worker.slow_threshold
        )

    def _ask_for_stacks(self, worker: Worker, now: float) -> None:
        assert worker.pid is not None
        waits = beat_every(worker.slow_threshold)
        worker.blockage = Blockage(now - worker.beat - waits, now, look_at=now + READ_AFTER)
        worker.watched_from = now + PAUSE - waits - worker.slow_threshold
        self._out.append(do.DumpStacks(worker.id, worker.pid))

    def _stacks_read(self, event: on.StacksRead) -> None:
        worker = self.state.workers.get(event.worker_id)
        if worker is None or (blockage := worker.blockage) is None or blockage.told:
            return
        patient = blockage.lasted is None and event.now < blockage.asked_at + PATIENCE
        if worker.phase is Phase.KILLED or (patient and not event.stack):
            return
        self._out.append(do.LoopBlocked(worker.id, blockage.seconds, event.stack))
        worker.blockage = replace(blockage, look_at=FOREVER)
        if blockage.lasted is not None:
            self._turns_again(worker, blockage.lasted)

    def _unblocked(self, event: on.WorkerUnblocked) -> None:
        worker = self.state.workers.get(event.worker_id)
        if worker is None or worker.blockage is None or worker.phase is Phase.KILLED:
            return
        worker.beat = max(worker.beat, event.now)
        self._out.append(do.ReadStacks(worker.id))  # what came too late is no one's last words
        if worker.blockage.told:
            self._turns_again(worker, event.seconds)
        else:
            soon = event.now + READ_AFTER
            worker.blockage = replace(worker.blockage, look_at=soon, lasted=event.seconds)

    def _turns_again(self, worker: Worker, seconds: float) -> None:
        worker.blockage = None
        self._out.append(do.LoopTurns(worker.id, seconds))

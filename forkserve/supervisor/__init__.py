"""The brain: what the master decides, and nothing of how it is done.

Theory of operation
-------------------

The master turns whatever happens (a signal, a child's exit, a message from a
worker, a deadline) into an *event* and hands it to :class:`Supervisor`. The
supervisor returns *actions*; the master performs them, and what came of each is
the next event. Nothing in this package makes a system call, reads a clock, logs
or sleeps: time arrives inside the events. That is why every order of events can
be tried in tests, and a run can be replayed.

Each event is handled in two steps:

1. **Observe**: the event changes the record of facts (a worker is ready, a
   worker is gone, the user wants three workers, the user wants new code).
2. **Reconcile**: one function compares what is wanted with what is, and says
   what to do next. It does not care which event came last. So any signal, at any
   moment and in any order, ends in the same place.

A worker passes through the phases of :class:`~forkserve.supervisor.state.Phase`
in one direction only::

    starting ──► ready ──► draining ──► killed ──► exited

(any phase may be skipped; every phase but ``ready`` has a deadline, and a ready
worker has one for its heartbeat).

Where to read: :mod:`.events` (what can happen), :mod:`.actions` (what can be
done), :mod:`.state` (the record of facts), :mod:`.reconcile` (the policy, on one
screen), :mod:`.brain` (an event in, actions out), :mod:`.backoff` (crash loops).
"""

from forkserve.supervisor.brain import Supervisor
from forkserve.supervisor.state import Phase, Policy

__all__ = ["Phase", "Policy", "Supervisor"]

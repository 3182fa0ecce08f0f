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

A worker passes through the phases of :class:`~forkserve.supervisor.phases.Phase`
in one direction only::

    starting ──► ready ──► draining ──► killed ──► exited

(any phase may be skipped; every phase but ``ready`` has a deadline, and a ready
worker or switchboard has one for its heartbeat).

Workers come in two ways. The master forks one itself, or it asks the *template* of the
worker's generation, a process that has imported the app. A template passes through the
same phases. Between a :class:`~.actions.Fork` and the event that answers it the worker
is a ticket: it has an id, a slot and a deadline, and no pid yet.

There is one *switchboard*, if any: where idle connections wait. It passes through the same
phases and belongs to no generation. When it dies, hangs or leaves, another one is made, and
nobody else is touched.

An *upgrade* replaces the master itself by one that is started anew; when that can take over,
this one stops. :mod:`.upgrades` tells how.

A stop goes from the outside to the inside: the master closes its listeners, dismisses the
switchboard and the templates, then, once the switchboard has handed back what it holds or
has had its moment for it, asks the workers to drain. The time that everybody has is counted
from the beginning of the stop. The master leaves last.

Where to read: :mod:`.events` (what can happen), :mod:`.actions` (what can be
done), :mod:`.state` (the record of facts), :mod:`.reconcile` (the policy, on one
screen), :mod:`.brain` (an event in, actions out), :mod:`.verdicts` (what becomes of a process
that fails, is late, or is to go), :mod:`.switchboards` (all that has to do with the
switchboard), :mod:`.blockages` (a loop that is blocked for a while), :mod:`.upgrades` (the
master before and after this one), :mod:`.deeds` (how any process is brought to its end),
:mod:`.backoff` (crash loops). :mod:`.phases`, :mod:`.failures` and :mod:`.beats` are what the
app's processes speak of too; they import nothing of the rest, so a template, which is imported
anew for every deploy, does not load the brain.
"""

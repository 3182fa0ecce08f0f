"""The switchboard: the process where idle keep-alive connections wait for their next request.

Theory of operation
-------------------

A connection stays with the worker that accepted it, and so does every request that comes
on it, while that worker is blocked and others are idle. So, while handlers are slow, a
worker that has answered *parks* the connection: it passes the descriptor on
(unix(7), SCM_RIGHTS) and forgets it, and the client notices nothing::

    worker ── answered, idle ──► inbox ──► switchboard: waits until the client sends
                                                │
    whichever worker is free ◄──── outbox ◄─────┘

Both ways are queues in the kernel (:mod:`.queues`). The outbox is to the workers like a
listening socket: each takes one connection at a time from it, under the gate's rule. So all
requests go through one central queue, and a connection that waits belongs to no worker:
when one is replaced, or dies, its former clients lose nothing.

The switchboard reads nothing of what a client sends. It waits until there is something
(epoll(7)), and closes what the client has closed, and what has been idle for too long.

Every process holds both ends of both queues, so neither ever ends and what is queued
survives everybody. That the master has died is said by the channel.

Where to read: :mod:`.queues` (what travels), :mod:`.board` (the one loop),
:mod:`.main` (from the fork to the exit); :mod:`forkserve.worker.parking` is the workers' side.
"""

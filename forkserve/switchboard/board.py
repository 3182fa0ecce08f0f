"""The one loop of the switchboard: idle connections come in, those with a request go out."""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections import deque
from collections.abc import Callable
from time import monotonic

from forkserve.switchboard.queues import MOST_IN_A_MESSAGE, Exchange, Parked, Queue, unread

BEAT = 1.0
"""Seconds between two heartbeats, and between two looks for what has been idle for too long."""

RETRY = 0.01
"""Seconds until a full queue is tried again. Some hundred messages wait in it then, so it
does not run empty meanwhile."""

LINGER = 0.02
"""Seconds for which the inbox is still looked at after it has been closed: a worker may
just have seen it open."""

RESERVE = 2 * MOST_IN_A_MESSAGE + 32
"""Descriptors that are kept free, so that what is in the inbox can be taken out."""

_ANYTHING = select.EPOLLIN | select.EPOLLRDHUP


class Board:
    """The connections that the switchboard holds."""

    def __init__(
        self, exchange: Exchange, descriptors: int, on_trouble: Callable[[str], None]
    ) -> None:
        """``descriptors``: how many this process may have open. ``on_trouble`` is told what
        is worth a line in the log."""
        self._exchange = exchange
        self._most = max(descriptors - RESERVE, descriptors // 4)
        self._on_trouble = on_trouble
        self._idle: dict[int, float] = {}
        """By descriptor: when it will have been idle for too long."""
        self._waiting: deque[Parked] = deque()
        """Those that are to go out when there is room in the outbox."""
        self._epoll = select.epoll()
        self._watched: set[int] = set()
        self._looked = 0.0
        self._alone_until: float | None = None
        """A successor has been asked for, and is waited for until then."""
        self._full = False
        """It holds as many as it can, and workers keep theirs."""
        self._onward: Queue | None = None
        """Where everything goes from now on: to the switchboard of another master."""

    def watch(self, fd: int) -> None:
        """Have :meth:`turn` say when there is something to read from ``fd``."""
        self._epoll.register(fd, select.EPOLLIN)
        self._watched.add(fd)

    def unwatch(self, fd: int) -> None:
        self._epoll.unregister(fd)
        self._watched.discard(fd)

    def open(self) -> None:
        """Take connections from now on."""
        self._epoll.register(self._exchange.inbox.exit.fileno(), select.EPOLLIN)
        self._exchange.row.beat(monotonic())
        self._exchange.row.open()

    def turn(self, longest: float = BEAT) -> set[int]:
        """Wait for something to happen, up to ``longest`` seconds, and see to it. Returns
        those of the watched descriptors from which something can be read."""
        inbox = self._exchange.inbox.exit.fileno()
        soon = self._waiting or self._alone_until is not None
        ready = dict(self._epoll.poll(RETRY if soon else longest))
        for fd in ready.keys() & self._idle.keys():
            self._stirs(fd, ready[fd])
        if inbox in ready:
            self._take()
        if self._onward is not None:
            self._take_back()
        self._put()
        now = monotonic()
        if now - self._looked >= BEAT:
            self._looked = now
            self._close_the_late(now)
        self._tell(now)
        return ready.keys() & self._watched

    def _take(self) -> None:
        """Take one message out of the inbox; epoll says so if there are more."""
        try:
            connections, lost = self._exchange.inbox.take()
        except BlockingIOError:
            return
        if lost:
            self._on_trouble(f"had no descriptors left, and has lost {lost} connections")
        for connection in connections:
            self._hold(connection)

    def _hold(self, connection: Parked) -> None:
        if len(self._idle) < self._most:
            with contextlib.suppress(OSError):  # ENOSPC, ENOMEM: epoll_ctl(2)
                self._epoll.register(connection.fd, _ANYTHING)
                self._idle[connection.fd] = connection.deadline
                return
        self._waiting.append(connection)  # a worker has to hold it

    def _stirs(self, fd: int, events: int) -> None:
        """Its client has sent something, or has closed it."""
        connection = self._release(fd)
        gone = events & (select.EPOLLERR | select.EPOLLHUP)
        half_closed = events & select.EPOLLRDHUP
        if gone or (half_closed and not unread(fd)):
            os.close(fd)
        else:
            self._waiting.append(connection)

    def _release(self, fd: int) -> Parked:
        # Not by closing it: the registration would live on as long as any copy (epoll(7)).
        self._epoll.unregister(fd)
        return Parked(fd, self._idle.pop(fd))

    def _put(self) -> None:
        """Put what waits into the outbox, as far as there is room."""
        way = self._onward or self._exchange.outbox
        try:
            while self._waiting and way.put([self._waiting[0]]):
                os.close(self._waiting.popleft().fd)
        except ConnectionError:  # nobody is there, onward, any more
            while self._waiting:
                os.close(self._waiting.popleft().fd)

    def _take_back(self) -> None:
        """Take what is in the outbox: the workers that it was for are leaving."""
        with contextlib.suppress(BlockingIOError):
            while True:
                connections, _ = self._exchange.outbox.take()
                self._waiting.extend(connections)

    def _close_the_late(self, now: float) -> None:
        for fd in [fd for fd, deadline in self._idle.items() if deadline <= now]:
            if not unread(fd):  # else its client was just in time
                os.close(self._release(fd).fd)

    def _tell(self, now: float) -> None:
        """Say in the scoreboard how it goes."""
        row, held = self._exchange.row, len(self._idle) + len(self._waiting)
        row.beat(now)
        row.hold(len(self._idle), len(self._waiting))
        if self._alone_until is not None:
            return
        if held >= self._most and not self._full:
            self._full = True
            row.close()
            self._on_trouble(
                f"holds {held} connections, and has no descriptors for more: workers keep theirs; "
                "see `ulimit -Hn`, or LimitNOFILE= of systemd"
            )
        elif self._full and held < self._most * 0.9:
            self._full = False
            row.open()

    # -- the end ----------------------------------------------------------------------

    def pass_on(self, onward: Queue) -> None:
        """Put all that it holds, and what still comes, into ``onward``, with the request that
        has come if one has: that switchboard finds it as this one did."""
        self._onward = onward
        self._alone_until = None
        self._most = 0
        self._full = True
        self._exchange.row.open()  # leaving workers have nobody else to give theirs to
        self._epoll.register(self._exchange.outbox.exit.fileno(), select.EPOLLIN)
        self._waiting.extend(map(self._release, list(self._idle)))

    def ask_for_successor(self, until: float) -> None:
        """Say that another one is needed, and serve on until there is one."""
        self._alone_until = until
        self._exchange.row.close()

    def is_succeeded(self, now: float) -> bool:
        """Whether the successor that was asked for takes connections, or has not come."""
        alone = self._alone_until
        return alone is not None and (self._exchange.row.is_open() or now > alone)

    def leave_to_successor(self, until: float) -> None:
        """Put all that it holds back into the inbox, where the next one finds it."""
        self._put()
        held = [*map(self._release, list(self._idle)), *self._waiting]
        for first in range(0, len(held), MOST_IN_A_MESSAGE):
            batch = held[first : first + MOST_IN_A_MESSAGE]
            while not self._exchange.inbox.put(batch):
                if monotonic() > until:
                    return
                time.sleep(RETRY)
            for connection in batch:
                os.close(connection.fd)

    def hand_out(self, until: float) -> None:
        """Give the workers all that it holds, and what still comes: nobody comes after it."""
        self._exchange.row.close()
        self._most, self._full = 0, True  # what comes goes on at once
        for fd in list(self._watched):
            self.unwatch(fd)
        lingers_until = monotonic() + LINGER
        self._waiting.extend(map(self._release, list(self._idle)))
        while (now := monotonic()) < until and (self._waiting or now < lingers_until):
            self.turn(RETRY)
        self._exchange.row.finish()

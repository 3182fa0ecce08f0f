"""One control connection, as the master's loop sees it.

Whatever a client does, or does not do, it costs the loop a bounded moment and a bounded amount
of memory: it never waits for anybody, and who does not read is dropped.
"""

from __future__ import annotations

import select
import selectors
import socket
from collections.abc import Callable
from time import monotonic

from forkserve.control.peer import Peer
from forkserve.control.protocol import (
    LONGEST_REQUEST,
    Id,
    Lines,
    Message,
    ProtocolError,
    Request,
    encode,
    read_request,
)

MOST_AT_ONCE = 4
"""So many requests of one client are seen to before something else has its turn."""

MOST_UNDER_WAY = 16
"""So many requests of one client may wait for their end, which that to follow never comes to."""

MOST_UNSENT = 1 << 20
"""Bytes that wait for a client to read. With more it is dropped."""

STALL = 30.0
"""Seconds after which a client that takes nothing of what waits for it is dropped."""

IDLE = 120.0
"""Seconds after which a client that wants nothing, and has nothing under way, is dropped."""

FOREVER = float("inf")


class Connection:
    """Reads requests, writes answers."""

    def __init__(
        self,
        sock: socket.socket,
        peer: Peer | None,
        selector: selectors.BaseSelector,
        asked: Callable[[Connection, Request], None],
    ) -> None:
        """``peer``: None if it is one of our own children."""
        self.peer = peer
        self.under_way = 0
        """Requests that have not come to their end."""

        self.follows: list[Id] = []
        """Under these ids it is told all that happens."""

        self._socket = sock
        self._selector = selector
        self._asked = asked
        self._lines = Lines(LONGEST_REQUEST)
        self._has_lines = False
        self._unsent = bytearray()
        self._hears_nothing = False
        """It is at its end: nothing is read any more, only written."""

        self._events = 0
        self._since = monotonic()
        """When it did something last."""

        self._watch()

    @property
    def closed(self) -> bool:
        return self._socket.fileno() < 0

    # -- time -------------------------------------------------------------------------

    def due(self) -> float:
        """When :meth:`turn` has something to do (monotonic seconds, or infinity)."""
        if self.closed:
            return FOREVER
        if self._has_lines:
            return 0.0
        if self._unsent:
            return self._since + STALL
        waits = self.peer is None or self.under_way or self.follows
        return FOREVER if waits else self._since + IDLE

    def turn(self, now: float) -> None:
        if self._has_lines:
            self._answer()
        elif now >= self.due():
            self.close()

    # -- in ---------------------------------------------------------------------------

    def wake(self) -> None:
        """The socket has something to read, or room."""
        if self.closed:
            return
        self._flush()
        if not (self.closed or self._hears_nothing or self._has_lines):
            self._receive()

    def _receive(self) -> None:
        try:
            data = self._socket.recv(LONGEST_REQUEST)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close()
            return
        if data:
            self._since = monotonic()
            self._lines.feed(data)
            self._has_lines = True  # their turn comes, with that of others
        else:
            self._hears_nothing = True
            self._finish()

    def _answer(self) -> None:
        """See to some of what has been asked."""
        for _ in range(MOST_AT_ONCE):
            try:
                line = self._lines.next()
            except ProtocolError as exc:
                self._has_lines = False
                self.send_away(str(exc))
                return
            if line is None:
                self._has_lines = False
                break
            self._take(line)
            if self.closed:
                return
        self._finish()

    def _take(self, line: bytes) -> None:
        try:
            request = read_request(line)
            if self.under_way + len(self.follows) >= MOST_UNDER_WAY:
                raise ProtocolError(
                    f"{MOST_UNDER_WAY} requests of this connection are under way; wait for one.",
                    request.id,
                )
        except ProtocolError as exc:
            self.send({"id": exc.id, "ok": False, "error": str(exc)})
        else:
            self._asked(self, request)

    # -- out --------------------------------------------------------------------------

    def send(self, message: Message) -> None:
        """Have the client get ``message``, in its own time."""
        if self.closed:
            return
        if len(self._unsent) > MOST_UNSENT:
            self.close()
            return
        if not self._unsent:
            self._since = monotonic()
        self._unsent += encode(message)
        self._flush()

    def send_away(self, why: str) -> None:
        """Close it, once it has been told why, in one sentence."""
        self._hears_nothing, self._has_lines = True, False
        self.follows.clear()
        self.send({"id": None, "ok": False, "error": why})
        self.under_way = 0
        self._finish()

    def _flush(self) -> None:
        try:
            while self._unsent:
                sent = self._socket.send(self._unsent)
                del self._unsent[:sent]
                self._since = monotonic()
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self.close()
            return
        self._finish()

    def _finish(self) -> None:
        """Close it if nobody wants anything of it any more; else watch what is of use."""
        if self.closed:
            return
        over = not (self._unsent or self._has_lines or self.under_way or self.follows)
        if self._hears_nothing and (over or self._is_cut()):
            self.close()
        else:
            self._watch()

    def _is_cut(self) -> bool:
        """Whether the other end is closed, and not only for what it has to say."""
        poll = select.poll()
        poll.register(self._socket, 0)
        return any(events & select.POLLHUP for _, events in poll.poll(0))

    def _watch(self) -> None:
        events = 0 if self._hears_nothing or self._has_lines else selectors.EVENT_READ
        if self._unsent:
            events |= selectors.EVENT_WRITE
        if events == self._events:
            return
        if self._events == 0:
            self._selector.register(self._socket, events, self.wake)
        elif events == 0:
            self._selector.unregister(self._socket)
        else:
            self._selector.modify(self._socket, events, self.wake)
        self._events = events

    def close(self) -> None:
        if self.closed:
            return
        if self._events:
            self._selector.unregister(self._socket)
        self._events = 0
        self._socket.close()
        self.follows.clear()

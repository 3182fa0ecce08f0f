"""The workers' side of the switchboard: parking idle connections, and taking some up.

See :mod:`forkserve.switchboard` for what it is for. A connection may be parked only
between two requests: the answer is complete and sent, all that the client has sent is
read and understood, and nothing of the next request has been. What it has sent and we
have not read stays in the socket, and travels with it.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from forkserve.switchboard.queues import MOST_IN_A_MESSAGE, Exchange, Parked, Queue, unread

STALE = 3.0
"""Seconds. A switchboard that has not beaten for so long is stopped, or hangs: connections
stay here until it beats again, or another does."""


class Parking:
    """Parks connections for one worker."""

    def __init__(
        self,
        exchange: Exchange,
        loop: asyncio.AbstractEventLoop,
        protocol_class: Any,
        deadline: Callable[[Any, float], float],
    ) -> None:
        """``deadline(connection, now)`` says when a connection will have been idle for too
        long. ``protocol_class`` is the worker's own, for one kind of connections."""
        self._exchange = exchange
        self._loop = loop
        self._protocol_class = protocol_class
        self._deadline = deadline
        with_h11 = issubclass(protocol_class, H11Protocol)
        self._between_requests = _idle_with_h11 if with_h11 else _idle_with_httptools
        # A dictionary, since a pipeline may have several answers in one turn of the loop.
        self._answered: dict[Any, None] = {}
        self._closed = False
        self.active = False
        """Whether each connection is parked as soon as it has been answered."""

        self.on_refused: Callable[[], None] = lambda: None
        """Called when one could not be parked that should have been."""

    def possible(self, now: float) -> bool:
        """Whether there is a switchboard that takes connections."""
        row = self._exchange.row
        return not self._closed and row.is_open() and now - row.last_beat() < STALE

    def hands_out(self, now: float) -> bool:
        """Whether there is a switchboard that may still give away what it holds."""
        row = self._exchange.row
        return not row.is_finished() and now - row.last_beat() < STALE

    def activate(self, active: bool) -> None:
        active = active and not self._closed
        if active == self.active:
            return
        self.active = active
        # In the class only while it is needed: each answer passes there.
        if active:
            self._protocol_class.on_response_complete = self._hook()
        else:
            del self._protocol_class.on_response_complete

    def include(self, connections: Iterable[Any]) -> None:
        """Have those parked, too, whose request had begun before this was active."""
        for connection in connections:
            if isinstance(connection, self._protocol_class) and connection.cycle is not None:
                connection.cycle.on_response = connection.on_response_complete

    def _hook(self) -> Callable[[Any], None]:
        complete = self._protocol_class.on_response_complete

        def on_response_complete(protocol: Any) -> None:
            complete(protocol)
            if protocol.transport.is_closing():
                return
            # A client that is quick to send its next request shall not get past the queue.
            protocol.transport.pause_reading()
            if not self._answered:
                # Not before the loop has turned: uvloop sends only then what was written.
                self._loop.call_soon(self._park_the_answered)
            self._answered[protocol] = None

        return on_response_complete

    def close(self) -> None:
        """Park nothing more: nobody will take it up."""
        self.activate(False)
        self._closed = True

    def _park_the_answered(self) -> None:
        answered, self._answered = self._answered, {}
        self.park(answered)
        for connection in answered:
            if not (connection.transport.is_closing() or connection.flow.read_paused):
                connection.transport.resume_reading()

    def sweep(self, connections: Iterable[Any]) -> None:
        """Park those that are idle and from which nothing has come that is not read yet.

        One that was just taken from the outbox would lose its place to those behind it.
        """
        self._pass_on([c for c in connections if self._is_idle(c) and not unread(_fileno(c))])

    def park(self, connections: Iterable[Any]) -> None:
        """Park those that are idle, if that is possible."""
        self._pass_on([c for c in connections if self._is_idle(c)])

    def _pass_on(self, idle: list[Any]) -> None:
        now = monotonic()
        for first in range(0, len(idle), MOST_IN_A_MESSAGE):
            batch = idle[first : first + MOST_IN_A_MESSAGE]
            if not (self.possible(now) and self._send(batch, now)):
                self.on_refused()
                return
            for connection in batch:
                # Closes our descriptor, and not the connection: no shutdown(2), no FIN.
                connection.transport.abort()

    def _is_idle(self, connection: Any) -> bool:
        return (
            isinstance(connection, self._protocol_class)  # and no WebSocket
            and _is_quiet(connection.transport)
            and self._between_requests(connection)
        )

    def _send(self, connections: list[Any], now: float) -> bool:
        return self._exchange.inbox.put(
            [Parked(_fileno(c), self._deadline(c, now)) for c in connections]
        )


def _fileno(connection: Any) -> int:
    return int(connection.transport.get_extra_info("socket").fileno())


def _idle_with_httptools(connection: Any) -> bool:
    cycle = connection.cycle
    if cycle is None:
        return connection.scope is None  # nothing has come yet
    return (
        cycle.response_complete
        and not cycle.more_body
        and cycle.scope is connection.scope  # else the next message has begun
        and not connection.pipeline
    )


def _idle_with_h11(connection: Any) -> bool:
    http = connection.conn
    return (
        http.our_state is h11.IDLE
        and http.their_state is h11.IDLE
        and http.trailing_data == (b"", False)
        and (connection.cycle is None or connection.cycle.response_complete)
    )


def _is_quiet(transport: Any) -> bool:
    return (
        transport is not None  # else it is still being connected
        and not transport.is_closing()
        and transport.get_write_buffer_size() == 0
    )


class Outbox:
    """The switchboard's outbox, as the acceptor sees it: one more listener."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def fileno(self) -> int:
        return self._queue.exit.fileno()

    def accept(self) -> tuple[socket.socket, None]:
        """Take up a connection. Raises BlockingIOError if none waits, OSError (EMFILE)."""
        # A connection for which there is no descriptor would be lost, unlike with accept(2).
        os.close(os.dup(self.fileno()))
        connections, _ = self._queue.take(1)
        for parked in connections:
            try:
                return socket.socket(fileno=parked.fd), None
            except OSError:
                os.close(parked.fd)
                raise
        raise BlockingIOError

"""The heads of requests: that they come in time, and do not grow without end.

uvicorn waits for a request's head for ever, and httptools lets it grow for ever. Both
parsers' protocols are extended here by the same class, in which the bytes are counted
before the parser sees them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

try:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
except ImportError:  # it is an extra of uvicorn's
    _KNOWN: tuple[type, ...] = (H11Protocol,)
else:
    _KNOWN = (H11Protocol, HttpToolsProtocol)

LINE_END = b"\r\n\r\n"
REFUSAL = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-type: text/plain; charset=utf-8\r\ncontent-length: 35\r\n"
    b"connection: close\r\n\r\nThe head of the request is too long"
)
"""RFC 6585, section 5."""


def _nobody(_protocol: Any) -> None:
    pass


class Heads:
    """The connections of a worker on which a request's head is not complete yet."""

    def __init__(self, timeout: float, longest: int) -> None:
        self._timeout = timeout
        self.longest = longest or 1 << 62
        """Bytes."""
        # In the order of their deadlines, since all wait for the same time.
        self._since: dict[Any, float] = {}
        self.on_first: Callable[[Any], None] = _nobody
        self.on_lost: Callable[[Any], None] = _nobody

    def expect(self, protocol: Any, now: float) -> None:
        """A head has begun, or a connection from which one is to come."""
        self._since.setdefault(protocol, now)

    def complete(self, protocol: Any) -> None:
        if self._since.pop(protocol, None) is not None:
            self.on_first(protocol)

    def lost(self, protocol: Any) -> None:
        """The connection has gone."""
        self._since.pop(protocol, None)
        self.on_lost(protocol)

    def deadline(self, protocol: Any) -> float | None:
        """When a head that is waited for must be complete; None if none is."""
        since = self._since.get(protocol)
        return None if since is None else since + (self._timeout or math.inf)

    def close_late(self, now: float) -> None:
        """Close those that have waited too long. To be called about once a second."""
        if not self._timeout:
            return
        for protocol, since in list(self._since.items()):
            if now - since < self._timeout:
                break
            if protocol.transport is not None:  # else in its TLS handshake, which is limited
                del self._since[protocol]
                protocol.transport.abort()


def _in_head_of_httptools(protocol: Any) -> bool:
    # Each message that begins gets a scope, and with its complete head a cycle.
    cycle = protocol.cycle
    return cycle is None or cycle.scope is not protocol.scope


def _in_head_of_h11(protocol: Any) -> bool:
    # Both come with the complete head there; but h11 knows what it has not understood yet.
    connection = protocol.conn
    return protocol.cycle is None or (
        connection.their_state is h11.IDLE and connection.trailing_data[0] != b""
    )


def can_be_read(base: Any) -> bool:
    """Whether it can be told from a connection of this class where it stands: in a head, in a
    body, or between two requests."""
    return issubclass(base, _KNOWN)


def opened(base: Any, heads: Heads) -> Any:
    """A protocol class that cannot be read, with the first data of a connection told to
    ``heads`` in place of a head: a request cannot be seen to arrive, but a client that is silent
    can."""

    class Opened(base):  # type: ignore[misc]
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if transport.get_protocol() is not self:  # what comes goes to another from now on
                heads.complete(self)

        def data_received(self, data: bytes) -> None:
            heads.complete(self)
            super().data_received(data)

        def connection_lost(self, exc: Exception | None) -> None:
            heads.lost(self)
            super().connection_lost(exc)

    Opened.__name__ = Opened.__qualname__ = base.__name__
    return Opened


def guarded(base: Any, heads: Heads, now: Callable[[], float]) -> Any:
    """uvicorn's protocol class ``base``, with each head told to ``heads``."""
    longest = heads.longest
    receive, lose = base.data_received, base.connection_lost
    with_h11 = issubclass(base, H11Protocol)
    in_head = _in_head_of_h11 if with_h11 else _in_head_of_httptools

    class Guarded(base):  # type: ignore[misc]
        # Slots, since three attributes more in uvicorn's dictionary would be too many for
        # CPython to find any of them in the fast way.
        __slots__ = ("_bytes", "_tail", "_waiting")

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._waiting = True  # for a head's end; so it is from the start
            self._bytes = 0
            self._tail = b""

        def data_received(self, data: bytes) -> None:
            # A glance is enough for most: a head that comes whole, or a piece of a body.
            if self._waiting or with_h11 or len(data) > longest:
                self._receive_with_care(data)
                return
            receive(self, data)
            if self.cycle.scope is not self.scope:
                self._look_closer(data, any_complete=True)

        def _receive_with_care(self, data: bytes) -> None:
            if self._bytes + len(data) > longest and self._too_long(data):
                self.transport.write(REFUSAL)
                self.transport.close()
                return
            before = self.cycle
            receive(self, data)
            self._look_closer(data, any_complete=self.cycle is not before)

        def _look_closer(self, data: bytes, any_complete: bool) -> None:
            upgraded = self not in self.connections  # it is a WebSocket's now
            waits = in_head(self) and not upgraded
            if self._waiting and (any_complete or not waits):
                self._waiting, self._bytes, self._tail = False, 0, b""
                heads.complete(self)
            if not waits:
                return
            # Where in the data it began is not known, if something else came before.
            self._bytes = self._bytes + len(data) if self._waiting else 0
            self._tail = data[-3:]
            self._waiting = True
            heads.expect(self, now())

        def _too_long(self, data: bytes) -> bool:
            """Whether this data is of a head that does not end where it should."""
            between_requests = self.cycle is not None and not self.cycle.more_body
            if not (self._waiting or between_requests or in_head(self)):
                return False
            room = max(0, longest - self._bytes)
            return LINE_END not in self._tail + data[:room]

        def shutdown(self) -> None:
            if self.transport is not None:  # else it is being connected, and is answered yet
                super().shutdown()

        def connection_lost(self, exc: Exception | None) -> None:
            heads.lost(self)
            lose(self, exc)

    Guarded.__name__ = Guarded.__qualname__ = base.__name__
    return Guarded

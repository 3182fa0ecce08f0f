"""Accepts connections, under the gate's rule, and gives them to uvicorn's protocol.

It accepts by itself, and not through ``loop.create_server``, for two reasons. Only so
can it stop after one connection. And when the process has no descriptor left,
asyncio's server logs two thousand lines a second, while libuv's accepts connections
only to close them: here they wait in the kernel's queue, for a sibling or for later.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import logging
import socket
import ssl
from collections.abc import Callable, Coroutine, Sequence
from time import monotonic
from typing import Any

from forkserve.worker.gate import WINDOW, Gate
from forkserve.worker.heads import Heads
from forkserve.worker.watch import Watch, in_turn, watch

logger = logging.getLogger("uvicorn.error")

EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
"""What accept(2) says when nothing is wrong with the connection, but with us."""

TURN = 16
"""While the gate is wide a worker goes to the end of the kernel's queue at every so
many wake-ups; each time would cost more than it is worth."""

LOOK_AGAIN = 0.25
"""Seconds until accepting is tried again after that."""

RECOVERED = 5.0
"""Seconds without it, after which it is over."""


class Acceptor:
    """Takes connections for one worker."""

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        make_protocol: Callable[[], Any],
        heads: Heads,
        turn: Callable[[], float],
        context: ssl.SSLContext | None = None,
        handshake_timeout: float | None = None,
        limited: bool = False,
        on_accepted: Callable[[int], None] = lambda connections: None,
    ) -> None:
        """``on_accepted`` is told how many new clients' connections were taken at a time."""
        self._loop = asyncio.get_running_loop()
        self._listeners = listeners
        self._make_protocol = make_protocol
        self._heads = heads
        self._turn = turn
        self._on_accepted = on_accepted
        self._context = context
        # None leaves it to the loop's own limit. Without a context none may be given.
        self._handshake_timeout = handshake_timeout or None if context else None
        self._gate = Gate(monotonic(), may_widen=not limited)
        self._full = False
        self._closed = False
        self._emptying = False
        """It looks by itself whether somebody waits."""
        self._opened = asyncio.Event()
        self._wakes = 0
        self._newest: socket.socket | None = None
        """The connection that was accepted last: the one that the gate may wait for."""
        self._timer: asyncio.TimerHandle | None = None
        self._starved = False
        """It has met a lack of descriptors, and has not tried again yet."""
        self._last_starved = 0.0
        """When it met that last (``time.monotonic()``); 0.0: not lately."""
        heads.on_first = self._first_request
        heads.on_lost = self._lost
        self._watch: Watch = watch(self._loop, listeners, self._readable)

    def close(self) -> None:
        """Take nothing more; siblings go on with the same queue."""
        if self._closed:
            return
        watched = self._may_accept()
        self._closed = True
        self._watch.close()
        if watched:
            # The kernel may have woken us, and nobody else, for one that waits.
            for listener in self._listeners:
                self._accept(listener, 1)

    async def empty_the_queue(self, until: float, more_comes: Callable[[], bool]) -> None:
        """Take what still waits, under the gate's rule, until nothing waits any more.

        For a worker that leaves when nobody comes after it. ``until``:
        ``time.monotonic()``. ``more_comes`` says whether there is somebody who still
        puts something into a queue.
        """
        # What has been shut for new clients would wake us without end.
        self._emptying = True
        self._watch.pause()
        while not self._closed and monotonic() < until:
            self._opened.clear()
            more = more_comes()  # before the look, or what comes between the two is missed
            if self._may_accept():
                self._listeners = in_turn(self._listeners)
                taken = sum([self._accept_one(listener) for listener in self._listeners])
                if not (taken or more or self._starved):
                    return
                if not taken:
                    self._opened.clear()  # the gate is open, but there is nobody
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._opened.wait(), WINDOW)

    def leave(self, listeners: Sequence[socket.socket]) -> None:
        """Take nothing more from these; after :meth:`empty_the_queue`."""
        self._listeners = [one for one in self._listeners if one not in listeners]

    def full(self, full: bool) -> None:
        """The worker is at its limit of requests in flight, or no longer."""
        self._full = full
        if full:
            self._watch.pause()
        else:
            self._open()

    def beat(self, now: float) -> None:
        """To be called about once a second.

        Looks whether a connection waits that nobody was woken for. An exclusive
        wake-up is spent on one worker, and that may have died of it.
        """
        if self._last_starved and now - self._last_starved > RECOVERED:
            logger.warning("accepting again: descriptors are free")
            self._last_starved = 0.0
        if self._may_accept():
            self._watch.pause()
            self._watch.resume()

    # -- accepting --------------------------------------------------------------------

    def _may_accept(self) -> bool:
        shut = self._full or self._closed or self._starved
        return not shut and self._gate.awaited is None

    def _readable(self, listener: socket.socket) -> None:
        if not self._may_accept():
            return  # shut in this very turn
        if not self._gate.wide:
            self._accept_one(listener)
            return
        self._accept(listener, self._gate.width)
        self._wakes += 1
        if self._wakes % TURN == 0:
            self._watch.pause()
            self._open_in_turn()

    def _accept_one(self, listener: socket.socket) -> int:
        """Accept one connection if one waits, and no more until the gate opens."""
        if not self._may_accept():
            return 0
        self._watch.pause()
        taken = self._accept(listener, 1)
        if self._gate.awaited is None:
            self._open_in_turn()
        if self._timer is None and (self._gate.awaited is not None or self._gate.wide):
            self._set_timer(monotonic())
        return taken

    def _accept(self, listener: socket.socket, at_most: int) -> int:
        """Accept what waits, ``at_most`` so many; how many it were."""
        taken = new = 0
        while taken < at_most:
            try:
                connection, peer = listener.accept()
            except (BlockingIOError, InterruptedError):
                break
            except OSError as exc:
                if exc.errno in EXHAUSTED:
                    self._wait_for_descriptors(exc)
                break  # or it has failed already: accept(2), "Error handling"
            self._take(connection)
            taken += 1
            new += peer is not None  # else the switchboard has had it
        if new:
            self._on_accepted(new)
        return taken

    def _take(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        protocol = self._make_protocol()
        # uvicorn does so when it is connected, which is later; a draining worker would
        # not know until then that it has a client.
        protocol.connections.add(protocol)
        now = monotonic()
        self._heads.expect(protocol, now)
        self._gate.taken(protocol, now)
        self._newest = connection
        self._advance(self._connect(protocol, connection))

    async def _connect(self, protocol: Any, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(
                lambda: protocol,
                connection,
                ssl=self._context,
                ssl_handshake_timeout=self._handshake_timeout,
            )
        except Exception as exc:
            # A handshake that failed, or a client that has gone: none of our business.
            logger.debug("a connection came to nothing: %r", exc)
            protocol.connections.discard(protocol)
            self._heads.lost(protocol)
            connection.close()

    def _advance(
        self, coroutine: Coroutine[Any, None, None], _done: asyncio.Future[Any] | None = None
    ) -> None:
        """Run ``coroutine`` to its end, without the task that would cost as much as the
        rest of an accept. It waits for one or two futures, and never for time."""
        try:
            awaited = coroutine.send(None)
        except StopIteration:
            return
        awaited.add_done_callback(functools.partial(self._advance, coroutine))

    # -- opening and shutting ---------------------------------------------------------

    def _open(self) -> None:
        if self._may_accept():
            if not self._emptying:
                self._watch.resume()
            self._opened.set()

    def _first_request(self, protocol: Any) -> None:
        if self._gate.arrived(protocol):
            self._open_in_turn()

    def _open_in_turn(self) -> None:
        if patience := self._turn():
            self._loop.call_later(patience, self._open)
        else:
            self._open()

    def _lost(self, protocol: Any) -> None:
        if self._gate.arrived(protocol):
            self._open()
        if self._starved:
            self._try_again()  # here is a descriptor

    def _set_timer(self, now: float) -> None:
        delay = self._gate.time_left(now) or WINDOW
        self._timer = self._loop.call_later(delay, self._tick, now + delay)

    def _tick(self, due: float) -> None:
        """At the end of a window, and while the gate is wide: is the loop held up?"""
        now = monotonic()
        gate = self._gate
        gate.turned(now - due, now)
        self._timer = None
        if gate.awaited is not None and not gate.time_left(now):
            if self._newest is not None and has_spoken(self._newest):
                gate.wait_on(now)
            else:
                gate.expire(now)
                self._open()
        if gate.awaited is not None or gate.wide:
            self._set_timer(now)

    # -- out of descriptors -----------------------------------------------------------

    def _wait_for_descriptors(self, exc: OSError) -> None:
        if not self._last_starved:
            logger.error(
                "cannot accept (%s): new connections wait until descriptors are free; "
                "see `ulimit -n`, or LimitNOFILE= of systemd",
                exc.strerror,
            )
        self._starved, self._last_starved = True, monotonic()
        self._watch.pause()
        self._loop.call_later(LOOK_AGAIN, self._try_again)

    def _try_again(self) -> None:
        self._starved = False
        self._open()


def has_spoken(connection: socket.socket) -> bool:
    """Whether there is something to read that nobody has read yet."""
    try:
        return bool(connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except OSError:  # nothing, or it has gone
        return False

"""Watching the listeners so that a new connection wakes one worker, and each in turn.

Every worker's event loop has the shared listeners in its epoll set, so a connection
wakes them all and all but one find nothing: with 8 workers, 8 context switches a
connection. Linux can wake one (epoll_ctl(2), EPOLLEXCLUSIVE, since 4.5), but then
always the same one, whose turn is first in the kernel's queue. Taking the listener
out of the set and putting it back moves the worker to the end of that queue, and is
what pausing and going on does here anyway: round robin, for nothing.

Only the loop's own epoll set will do; one nested in it is woken with all others. So
the registration that ``add_reader`` makes is replaced behind the loop's back, through
the descriptor that both loops have under a private name. Where there is none, or no
epoll, :class:`PlainWatch` uses ``add_reader`` and ``remove_reader`` alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any, Protocol

OnReadable = Callable[[socket.socket], None]


class Watch(Protocol):
    """Calls a function when a connection waits at one of the listeners."""

    def pause(self) -> None:
        """Stop watching, for now."""

    def resume(self) -> None:
        """Watch again; what already waits is noticed at once."""

    def close(self) -> None:
        """Stop watching, for good."""


def watch(
    loop: asyncio.AbstractEventLoop, listeners: Sequence[socket.socket], call: OnReadable
) -> Watch:
    """Watch ``listeners`` in the best way that ``loop`` allows."""
    descriptor = epoll_of(loop)
    if descriptor is None:
        return PlainWatch(loop, listeners, call)
    return ExclusiveWatch(loop, listeners, call, descriptor)


def epoll_of(loop: Any) -> int | None:
    """The descriptor of the loop's epoll set, if it has one and tells."""
    if sys.platform != "linux" or not hasattr(select, "EPOLLEXCLUSIVE"):
        return None
    try:
        if hasattr(loop, "_get_backend_id"):  # uvloop
            descriptor = loop._get_backend_id()
        else:
            descriptor = loop._selector.fileno()
        link = os.readlink(f"/proc/self/fd/{int(descriptor)}")
    except (AttributeError, TypeError, ValueError, OSError):
        return None
    return int(descriptor) if link == "anon_inode:[eventpoll]" else None


def in_turn(listeners: Sequence[socket.socket]) -> list[socket.socket]:
    """The same, with another one first: what is registered first is looked at first, and a
    worker that takes one connection at a time would only ever see that."""
    return [*listeners[1:], *listeners[:1]]


class PlainWatch:
    """With what every event loop has."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listeners: Sequence[socket.socket],
        call: OnReadable,
    ) -> None:
        self._loop = loop
        self._listeners = listeners
        self._call = call
        self._paused = True
        self.resume()

    def pause(self) -> None:
        if not self._paused:
            self._paused = True
            for listener in self._listeners:
                self._loop.remove_reader(listener)

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            self._listeners = in_turn(self._listeners)
            for listener in self._listeners:
                self._loop.add_reader(listener, self._call, listener)

    def close(self) -> None:
        self.pause()


class ExclusiveWatch:
    """With EPOLLEXCLUSIVE, in the loop's own epoll set."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listeners: Sequence[socket.socket],
        call: OnReadable,
        descriptor: int,
    ) -> None:
        self._loop = loop
        self._listeners = listeners
        self._events = select.EPOLLIN | select.EPOLLEXCLUSIVE
        # A descriptor of our own: the object closes it in the end.
        self._epoll = select.epoll.fromfd(os.dup(descriptor))
        self._paused = False
        self._ours = False
        for listener in listeners:
            loop.add_reader(listener, call, listener)
        self._take_over()

    def _take_over(self) -> None:
        """Make the registrations ours, once the loop has made them.

        uvloop makes them in its next turn, and libuv aborts the process if it then
        meets an exclusive one.
        """
        if self._epoll.closed:
            return
        try:
            for listener in self._listeners:
                self._epoll.modify(listener.fileno(), select.EPOLLIN)
        except FileNotFoundError:
            self._loop.call_soon(self._take_over)
            return
        for listener in self._listeners:
            self._epoll.unregister(listener.fileno())
        self._ours = True
        if not self._paused:
            self._register()

    def _register(self) -> None:
        self._listeners = in_turn(self._listeners)
        for listener in self._listeners:
            self._epoll.register(listener.fileno(), self._events)

    def pause(self) -> None:
        if not self._paused:
            self._paused = True
            if self._ours:
                for listener in self._listeners:
                    self._epoll.unregister(listener.fileno())

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            if self._ours:
                self._register()

    def close(self) -> None:
        if self._epoll.closed:
            return
        self.pause()
        self._epoll.close()
        for listener in self._listeners:
            # It takes its own registration out, and finds that it is gone.
            with contextlib.suppress(OSError):
                self._loop.remove_reader(listener)

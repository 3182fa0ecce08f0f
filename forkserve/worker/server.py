"""``uvicorn.Server`` as a worker needs it: it says when it is ready, beats, and drains."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from time import monotonic
from types import FrameType
from typing import TYPE_CHECKING, Any

import uvicorn

from forkserve.channel import (
    Drain,
    Encrypted,
    LastCall,
    Leaving,
    LogReopened,
    Message,
    Promote,
    Ready,
    Spent,
)
from forkserve.last_call import turn_away
from forkserve.logs import files, outputs
from forkserve.scoreboard import Row
from forkserve.switchboard.queues import Exchange
from forkserve.worker import access, asking, lifeline
from forkserve.worker.acceptor import Acceptor
from forkserve.worker.beats import Beats
from forkserve.worker.heads import Heads, can_be_read, guarded, opened
from forkserve.worker.heartbeat import Heartbeat
from forkserve.worker.keep_alive import FINEST, Timers
from forkserve.worker.limit import Limit
from forkserve.worker.parking import Outbox, Parking
from forkserve.worker.switching import Switching
from forkserve.worker.tracking import tracked
from forkserve.worker.wear import Wear

if TYPE_CHECKING:
    from forkserve.worker.birth import Job

logger = logging.getLogger("uvicorn.error")

BEAT = 1.0
"""Seconds between two heartbeats, at most; an idle worker wakes no oftener."""

STEP_BACK = 0.001
"""Seconds for which a worker lets its siblings go first, for each connection that it has
more than one of them ..."""

MOST_SURPLUS = 4
"""... up to so many connections: should that one be blocked, no client waits for long."""

FIRST_WORD = 1.0
"""Seconds that a draining worker waits for the first request of a client that has only
connected, however short the keep-alive time is."""

HANDING_OUT = 0.5
"""Seconds that the last workers wait for what a switchboard still holds."""

FOR_THE_BORROWED = 1.0
"""Seconds in which the last workers still serve who waits at a socket that was passed in. Who
comes later waits for the service to be started again, if somebody else holds the socket."""

FOR_EVERYBODY = 0.25
"""Seconds in which the master says that the service stops, if the signal that we got has gone
to everybody: service managers do that (systemd.kill(5), KillMode=control-group)."""

BEATS_A_TIMEOUT = 5
"""However short the liveness timeout is, so many beats fit into it."""


class Connections(set[Any]):
    """uvicorn's set of open connections, which tells when it becomes empty, and shows
    on the scoreboard how many they are."""

    def __init__(self, row: Row) -> None:
        super().__init__()
        self._row = row
        self.accepting = False
        self.empty = asyncio.Event()

    def add(self, connection: Any) -> None:
        super().add(connection)
        if self.accepting:
            self._row.hold(len(self))

    def discard(self, connection: Any) -> None:
        super().discard(connection)
        if self.accepting:
            self._row.hold(len(self))
        if not self:
            self.empty.set()

    def patience(self) -> float:
        """Seconds for which siblings with fewer connections may take the next first."""
        surplus = len(self) - self._row.fewest_held()
        return min(surplus, MOST_SURPLUS) * STEP_BACK if surplus > 1 else 0.0


class WorkerServer(uvicorn.Server):
    """Serves on the sockets that the master listens on, until it is told to leave."""

    def __init__(
        self,
        config: uvicorn.Config,
        job: Job,
        before_ready: Callable[[], None],
        on_ready: Callable[[], None],
    ) -> None:
        """``before_ready``: the last thing before it accepts; what it raises, a BootError,
        says that the worker is not ready."""
        counted = self._answered if job.settings.max_requests else None
        long = self._suspect if job.exchange else None
        config.loaded_app = tracked(config.loaded_app, job.row, counted, long)
        self._limit: Limit | None = None
        if job.settings.worker_concurrency:
            self._limit = Limit(job.settings.worker_concurrency)
            config.loaded_app = self._limit.around(config.loaded_app)
        super().__init__(config)
        self._job = job
        self._heads = Heads(job.settings.header_timeout, job.settings.max_header_size)
        self._timers: Timers | None = None
        self._acceptor: Acceptor | None = None
        self._parking: Parking | None = None
        self._switching: Switching | None = None
        self._heartbeat: Heartbeat | None = None
        self._wear: Wear | None = None
        """None in a worker that does not accept yet, or has said that it is worn."""
        self._before_ready = before_ready
        self._on_ready = on_ready
        self._connections = Connections(job.row)
        self.server_state.connections = self._connections
        self._last_call = asyncio.Event()
        """Nobody will accept after us."""
        self._ordered = False
        """The master has asked us to leave; else it was a signal from outside."""
        self._leave = asyncio.Event()
        self._hurry = asyncio.Event()
        timeout = job.settings.timeout
        self._beat_every = min(BEAT, timeout / BEATS_A_TIMEOUT) if timeout else BEAT

    # -- uvicorn's own steps, in their order ------------------------------------------

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are ours: uvicorn would raise them again when all is done."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._main_task = asyncio.current_task()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._asked_to_leave)
        self._loop.add_reader(self._job.channel.fileno(), self._hear_the_master)
        if self._job.settings.keep_alive >= FINEST:
            self._timers = Timers(self._loop)
        self._sockets = sockets or []
        # Without a socket uvicorn starts the app and nothing else.
        await super().startup([])
        self.started = False  # not before it may accept: see drain()
        try:
            await self._prove_ready()
        except BaseException:
            await self.lifespan.shutdown()
            raise
        self.started = True
        self._on_ready()
        self._job.row.beat(monotonic())
        if threshold := self._job.settings.slow_threshold:
            self._heartbeat = Heartbeat(self._loop, self._job.row, self._job.channel, threshold)
        self._job.channel.send(Ready())

    async def _prove_ready(self) -> None:
        """Raises what says that the app is not ready; accepts, unless it is a spare."""
        if path := self._job.settings.ready_path:
            state = self.lifespan.state
            await asking.ask(self.config.loaded_app, path, "--ready-path", state)
        self._before_ready()
        if not self._job.spare:
            self._accept()

    def _accept(self) -> None:
        """Take connections from the master's sockets, as they come."""
        self._log_requests()
        readable = can_be_read(self.config.http_protocol_class)
        if readable:
            protocol_class = guarded(self.config.http_protocol_class, self._heads, monotonic)
        else:
            protocol_class = opened(self.config.http_protocol_class, self._heads)
            self._timers = None
        make = functools.partial(
            protocol_class,
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
            _loop=self._timers or self._loop,
        )
        settings = self._job.settings
        listeners: list[Any] = list(self._sockets)
        if self._job.exchange is not None and self.config.ssl is None and readable:
            listeners.append(Outbox(self._job.exchange.outbox))
            self._begin_to_park(self._job.exchange, protocol_class)
        elif self._job.exchange is not None and readable:
            self._job.channel.send(Encrypted())
        self._acceptor = Acceptor(
            listeners,
            make,
            self._heads,
            self._connections.patience,
            self.config.ssl,
            settings.header_timeout,
            limited=self._limit is not None,
            on_accepted=self._job.row.accepted,
        )
        self._connections.accepting = True
        self._job.row.hold(0)
        if self._limit is not None:
            self._limit.on_change = self._acceptor.full
        self._wear = Wear.begin(self._job.settings)
        if because := self._wear.too_big_from_the_start():
            # Not before it is ready: until then what is said counts as a failure's cause.
            self._loop.call_soon(logger.warning, because)

    def _log_requests(self) -> None:
        """With more than uvicorn knows of them, if that is asked for."""
        settings = self._job.settings
        if outputs.access_is_timed(settings) and outputs.access_is_logged(settings):
            handlers = outputs.of_access(settings, self._job.log.access)
            self.config.loaded_app = access.logged(self.config.loaded_app, handlers)

    def _begin_to_park(self, exchange: Exchange, protocol_class: Any) -> None:
        self._parking = Parking(exchange, self._loop, protocol_class, self._idle_until)
        self._parking.on_refused = self._parking_refused
        always = self._job.settings.switchboard == "on"
        self._switching = Switching(
            self._loop, self._parking, self._job.row, self._job.channel, always
        )
        if self._limit is not None:
            self._limit.on_waited = self._switching.waited

    def _suspect(self, now: float) -> None:
        if self._switching is not None:
            self._switching.suspect(now)

    def _idle_until(self, connection: Any, now: float) -> float:
        """When an idle connection is to be closed."""
        if (deadline := self._heads.deadline(connection)) is not None:
            return deadline
        keep_alive = self._job.settings.keep_alive
        if self._timers is None:
            return now + keep_alive
        return self._timers.deadline(connection, keep_alive, now)

    async def main_loop(self) -> None:
        beats = Beats(self._job.row, self._beat_every)
        # Tick 0 is the one at which uvicorn renews the Date header.
        while not await self.on_tick(0):
            now = monotonic()
            beats.turned(now)
            self._close_the_late(now)
            if self._acceptor is not None:
                self._acceptor.beat(now)
            if self._switching is not None:
                self._switching.look(now)
            if self._parking is not None and self._parking.active:
                self._parking.sweep(self._connections)
            if self._wear and (because := self._wear.tired(now)):
                self._ask_to_be_recycled(because)
            await _first_of(self._beat_every, self._leave)
        beats.end()

    def _close_the_late(self, now: float) -> None:
        self._heads.close_late(now)
        if self._timers is not None:
            self._timers.close_idle(self._connections, self._job.settings.keep_alive, now)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain: accept nothing new, answer the rest, tell clients to go, and end.

        Idle connections are parked, also those that are answered yet. Where they cannot
        be, one stays open for the keep-alive time, and what comes on it is answered, so
        that a request already on its way is not reset.
        """
        settings = self._job.settings
        deadline = monotonic() + settings.graceful_timeout
        if not (self._ordered or self._last_call.is_set()):
            await _first_of(min(FOR_EVERYBODY, settings.graceful_timeout), self._last_call)
        if self._acceptor is not None and self._last_call.is_set():
            await self._empty_the_queue(self._acceptor, sockets or [], deadline)
        self._stop_accepting(sockets or [])
        self._close_websockets()
        patience = max(settings.keep_alive, FIRST_WORD)
        until = deadline if self._can_park() else min(deadline, monotonic() + patience)
        await self._see_idle_clients_off(until)
        left = max(0.0, deadline - monotonic())
        self.config.timeout_graceful_shutdown = left  # type: ignore[assignment]
        try:
            await super().shutdown(sockets)
        finally:
            if self._heartbeat is not None:
                self._heartbeat.end()

    async def _empty_the_queue(
        self, acceptor: Acceptor, sockets: list[socket.socket], deadline: float
    ) -> None:
        """Serve who waits for a connection: nobody comes after us."""
        # A master that was killed has not done it.
        borrowed = [sock for sock in sockets if not turn_away(sock)]
        handed_out_by = monotonic() + HANDING_OUT

        def more_comes() -> bool:
            return monotonic() < handed_out_by and self._switchboard_hands_out()

        if borrowed:
            # New clients still come there, so the queue may never be empty.
            soon = min(deadline, monotonic() + FOR_THE_BORROWED)
            await acceptor.empty_the_queue(soon, more_comes)
            acceptor.leave(borrowed)
        await acceptor.empty_the_queue(deadline, more_comes)

    def _switchboard_hands_out(self) -> bool:
        return self._parking is not None and self._parking.hands_out(monotonic())

    async def _see_idle_clients_off(self, until: float) -> None:
        """Wait for the clients to go: until none is left, or there is no time for more."""
        self._park_all()
        while self._connections and not self._hurry.is_set() and (now := monotonic()) < until:
            self._connections.empty.clear()
            self._close_the_late(now)
            await _first_of(min(BEAT, until - now), self._connections.empty, self._hurry)
            self._park_all()

    def _can_park(self) -> bool:
        return self._parking is not None and self._parking.possible(monotonic())

    def _park_all(self) -> None:
        if self._parking is not None:
            self._parking.sweep(self._connections)

    def _close_websockets(self) -> None:
        """With 1012 (service restart; IANA's registry of RFC 6455): they would not end
        by themselves."""
        for connection in list(self._connections):
            if not isinstance(connection, self.config.http_protocol_class):
                connection.shutdown()

    def _stop_accepting(self, sockets: list[socket.socket]) -> None:
        if self._acceptor is not None:
            self._connections.accepting = False
            self._acceptor.close()
            self._job.row.hold_no_more()
        for sock in sockets:
            sock.close()

    # -- wear -------------------------------------------------------------------------

    def _answered(self, requests: int) -> None:
        if self._wear and (because := self._wear.tired_of_requests(requests)):
            self._ask_to_be_recycled(because)

    def _ask_to_be_recycled(self, because: str) -> None:
        """Serve on: the master makes another first, and then has this one drain."""
        self._wear = None
        self._job.channel.send(Spent(because))

    # -- being told to leave ----------------------------------------------------------

    def _asked_to_leave(self, signum: int, frame: FrameType | None) -> None:
        # A signal handler and not the loop's, since it runs in a blocked loop too.
        if lifeline.is_orphan(self._job.master_pid):
            self._make_sure_it_ends()
            if not self._job.row.queue_is_shared():
                for sock in self._job.sockets:
                    turn_away(sock)  # so that a restart finds a Unix socket's path free
        if not self._loop.is_closed():  # else there is nothing left of us but the last hook
            self._loop.call_soon_threadsafe(self.drain, signum == signal.SIGTERM)

    def _hear_the_master(self) -> None:
        for message, fds in self._job.channel.receive_with_fds():
            if isinstance(message, LogReopened):
                files.take_over(self._job.channel, message, fds)
            self._obey(message)
            for fd in fds:
                os.close(fd)
        if self._job.channel.closed:  # the master is gone
            self._no_one_comes_after_us()
            self._loop.remove_reader(self._job.channel.fileno())
            self._make_sure_it_ends()
            self.drain(patient=True)

    def _obey(self, message: Message) -> None:
        if isinstance(message, LastCall):
            self._no_one_comes_after_us()
        elif isinstance(message, Drain):
            self._ordered = True
        elif isinstance(message, Promote) and self.started and not self.should_exit:
            self._accept()

    def _no_one_comes_after_us(self) -> None:
        if not self._job.row.queue_is_shared():  # else who waits there is another's to answer
            self._last_call.set()
        if self._parking is not None:
            self._parking.close()
        if self.should_exit:
            self._tell_clients_to_go()

    def _make_sure_it_ends(self) -> None:
        lifeline.end_anyway_after(self._job.settings.graceful_timeout + 1.0)

    def drain(self, patient: bool) -> None:
        """Begin to leave. ``patient``: idle clients get the keep-alive time."""
        if not patient:
            self._hurry.set()
        if self.should_exit:
            return
        self.should_exit = True
        if not self._job.channel.closed:
            self._hear_the_master()  # what was said before the signal came
        if self._parking is not None and self._can_park():
            self._parking.activate(True)  # they stay, and we go
            self._parking.include(self._connections)
        else:
            self._tell_clients_to_go()
        self._leave.set()
        self._job.channel.send(Leaving())
        if not self.started and self._main_task is not None:
            self._main_task.cancel()  # in lifespan startup: there is nobody to wait for

    def _parking_refused(self) -> None:
        if self.should_exit:
            self._tell_clients_to_go()

    def _tell_clients_to_go(self) -> None:
        goodbye = (b"connection", b"close")
        if goodbye in self.config.encoded_headers:
            return
        # In place, so that responses already under way say it too; and for the next tick,
        # which makes the list anew.
        self.server_state.default_headers.append(goodbye)
        self.config.encoded_headers = [*self.config.encoded_headers, goodbye]


async def _first_of(seconds: float, *events: asyncio.Event) -> None:
    """Return at the first of ``events``, or after ``seconds``."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()

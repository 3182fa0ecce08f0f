"""The master process: the one loop.

    signal ─► wake-up descriptor ─┐
    worker's message, its end ────┼─► select() ─► event ─► supervisor ─► actions
    next deadline ────────────────┘                 ▲                      │
                                                    └── what came of it ◄──┘

Nothing else in the master waits. It imports no app code and runs no asyncio.
"""

from __future__ import annotations

import os
import selectors
import signal
from collections import deque
from functools import singledispatchmethod
from time import monotonic

from forkserve.channel import BootFailed, Leaving, Message, Ready
from forkserve.config.settings import Settings
from forkserve.master import logbook
from forkserve.master.children import Child, Nursery, drain_signal
from forkserve.master.kernel import Death, Kernel, Posix
from forkserve.master.listeners import BindError, Listener, open_listeners
from forkserve.master.logbook import Logbook, Person
from forkserve.master.signals import SignalQueue, Terminal
from forkserve.scoreboard import Scoreboard, Snapshot
from forkserve.supervisor import Policy, Supervisor
from forkserve.supervisor import actions as do
from forkserve.supervisor import events as on
from forkserve.supervisor.events import Event
from forkserve.worker.lifeline import STACK_SIGNAL

LONGEST_WAIT = 3600.0
"""Seconds. Some selectors refuse an endless float."""


def run(settings: Settings) -> int:
    """Serve until stopped. Returns the exit code of the process."""
    logbook.configure(settings.log_level)
    try:
        listeners = open_listeners(settings.bind)
    except BindError as exc:
        logbook.to_stderr(str(exc))
        return 1
    return Master(settings, listeners, Posix()).run()


def policy_of(settings: Settings) -> Policy:
    """What the supervisor needs to know of the settings."""
    surge = settings.surge if settings.surge is not None else max(1, settings.workers // 4)
    return Policy(
        workers=settings.workers,
        surge=surge,
        timeout=settings.timeout,
        boot_timeout=settings.boot_timeout,
        graceful_timeout=settings.graceful_timeout,
        seed=int.from_bytes(os.urandom(4), "big"),
    )


class Master:
    """Turns what happens into events and performs the supervisor's actions."""

    def __init__(self, settings: Settings, listeners: list[Listener], kernel: Kernel) -> None:
        policy = policy_of(settings)
        self._settings = settings
        self._listeners = listeners
        self._kernel = kernel
        self._supervisor = Supervisor(policy)
        self._scoreboard = Scoreboard(policy.slots)
        self._nursery = Nursery(settings, kernel, self._scoreboard, listeners)
        self._children: dict[int, Child] = {}
        self._obituaries: dict[int, Person] = {}
        self._selector = selectors.DefaultSelector()
        self._signals = SignalQueue()
        self._terminal = Terminal()
        self._logbook = Logbook(self._person, [ln.url for ln in listeners], settings.app)
        self._events: deque[Event] = deque()
        self._exit_code: int | None = None
        self.faults = 0
        """Errors in the master's own code that it has survived."""

    def run(self) -> int:
        self._selector.register(self._signals.fileno(), selectors.EVENT_READ, self._hear_signals)
        self._signals.open()
        self._logbook.opening(self._settings.workers)
        self._handle(on.Started(monotonic()))
        while self._exit_code is None:
            self._turn()
        self._close()
        return self._exit_code

    def _turn(self) -> None:
        """Wait for the next thing to happen, and see to it."""
        wait = min(max(0.0, self._supervisor.next_deadline() - monotonic()), LONGEST_WAIT)
        try:
            ready = self._selector.select(wait)
            # Signals first: what they say explains what the workers say.
            for key, _ in sorted(ready, key=lambda r: r[0].fileobj != self._signals.fileno()):
                key.data()
            if monotonic() >= self._supervisor.next_deadline():
                self._handle(on.Alarm(monotonic(), self._beats()))
        except Exception:
            # A bug of ours. It is loud, but it does not take healthy workers down.
            self.faults += 1
            logbook.log.exception("a fault in forkserve itself, please report it")
            if self.faults > 100:
                raise

    # -- what happens -----------------------------------------------------------------

    def _handle(self, event: Event) -> None:
        """Have the supervisor decide, do what it says, and tell it what came of it."""
        self._events.append(event)
        while self._events:
            for action in self._supervisor.handle(self._events.popleft()):
                self._perform(action)

    def _hear_signals(self) -> None:
        for number in self._signals.take():
            self._on_signal(number)

    def _on_signal(self, number: signal.Signals) -> None:
        now = monotonic()
        match number:
            case signal.SIGCHLD:
                for death in self._kernel.reap():
                    self._bury(death)
            case signal.SIGTERM:
                self._handle(on.TerminateRequested(now))
            case signal.SIGINT:
                self._handle(on.InterruptRequested(now))
            case signal.SIGQUIT:
                self._handle(on.QuitRequested(now))
            case signal.SIGHUP if self._terminal.gone:
                self._handle(on.TerminateRequested(now, "SIGHUP: the terminal was closed"))
            case signal.SIGHUP:
                self._handle(on.ReloadRequested(now))
            case signal.SIGTTIN:
                self._handle(on.ScaleRequested(now, +1))
            case signal.SIGTTOU:
                self._handle(on.ScaleRequested(now, -1))
            case signal.SIGCONT:
                self._handle(on.Resumed(now))

    def _hear_worker(self, child: Child) -> None:
        if self._children.get(child.worker_id) is not child:
            return  # buried a moment ago, by a signal of the same turn
        for message in child.channel.receive():
            self._on_message(child, message)
        if child.channel.closed:
            # It has gone, or soon will be; SIGCHLD tells how.
            self._selector.unregister(child.channel)

    def _on_message(self, child: Child, message: Message) -> None:
        now = monotonic()
        match message:
            case Ready():
                self._handle(on.WorkerReady(now, child.worker_id))
            case Leaving():
                self._handle(on.WorkerLeaving(now, child.worker_id))
            case BootFailed(headline, where, details):
                failure = on.BootFailure(headline, where, details)
                self._handle(on.WorkerBootFailed(now, child.worker_id, failure))

    def _bury(self, death: Death) -> None:
        """A child has been reaped: hear its last messages, then say that it is gone."""
        child = next((c for c in self._children.values() if c.pid == death.pid), None)
        if child is None:
            return  # a stranger: as PID 1 we inherit orphans
        was_open = not child.channel.closed
        for message in child.channel.receive_rest():
            self._on_message(child, message)
        if was_open:
            self._selector.unregister(child.channel)
        del self._children[child.worker_id]
        person = self._describe(child)
        self._obituaries[child.worker_id] = person
        stack = child.stack()
        child.close()
        self._handle(on.WorkerExited(monotonic(), child.worker_id, on.Exit(death.code), stack))
        del self._obituaries[child.worker_id]

    def _beats(self) -> dict[int, float]:
        return {c.worker_id: beat for c in self._children.values() if (beat := c.row.last_beat())}

    # -- what is done -----------------------------------------------------------------

    @singledispatchmethod
    def _perform(self, action: do.Action) -> None:
        raise TypeError(f"the master does not know the action {action!r}")

    @_perform.register
    def _fork(self, action: do.Fork) -> None:
        try:
            child = self._nursery.fork(action)
        except OSError as exc:
            failed = on.ForkFailed(monotonic(), action.worker_id, exc.strerror or str(exc))
            self._events.append(failed)
            return
        self._children[child.worker_id] = child
        self._selector.register(
            child.channel, selectors.EVENT_READ, lambda: self._hear_worker(child)
        )
        logbook.log.debug("%s was forked", self._describe(child).name)
        self._events.append(on.Forked(monotonic(), child.worker_id, child.pid))

    @_perform.register
    def _drain(self, action: do.Drain) -> None:
        self._kernel.signal(action.pid, drain_signal(action.patient))

    @_perform.register
    def _dump(self, action: do.DumpStacks) -> None:
        self._kernel.signal(action.pid, STACK_SIGNAL)

    @_perform.register
    def _kill(self, action: do.Kill) -> None:
        self._kernel.signal(action.pid, signal.SIGKILL)

    @_perform.register
    def _close_listeners(self, action: do.CloseListeners) -> None:
        for listener in self._listeners:
            listener.socket.close()

    @_perform.register
    def _leave(self, action: do.Leave) -> None:
        self._exit_code = action.code

    @_perform.register
    def _tell(self, action: do.Note) -> None:
        self._logbook.tell(action)

    # -- who is who -------------------------------------------------------------------

    def _person(self, worker_id: int) -> Person:
        if worker_id in self._obituaries:
            return self._obituaries[worker_id]
        if child := self._children.get(worker_id):
            return self._describe(child)
        return Person(f"worker {worker_id}")

    def _describe(self, child: Child) -> Person:
        name = f"worker {child.worker_id} (pid {child.pid}, generation {child.generation})"
        seen: Snapshot = child.row.snapshot()
        return Person(name, child.pid, seen)

    def _close(self) -> None:
        self._selector.close()
        self._signals.close()
        self._terminal.close()

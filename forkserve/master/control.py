"""Control connections, the master's side: who asks what, and who is told what happens.

All of it runs in the master's one loop, as one of the things that wake it up. Nobody is waited
for here: what takes time is an order (:mod:`.orders`) that follows what the supervisor notes.
"""

from __future__ import annotations

import dataclasses
import selectors
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from time import monotonic
from typing import Any

from forkserve.control.peer import Peer
from forkserve.control.protocol import NUMBER_OF_WORKERS, Request
from forkserve.master.chronicle import Line
from forkserve.master.connection import FOREVER, Connection
from forkserve.master.door import Door, ExhaustedError
from forkserve.master.family import Family, WorkerChild
from forkserve.master.kernel import Kernel
from forkserve.master.logbook import log
from forkserve.master.orders import Caller, Dump, Order, Recycle, Reload, Scale, Stop
from forkserve.supervisor import actions as note
from forkserve.supervisor import events as on
from forkserve.supervisor.events import Event
from forkserve.supervisor.state import State
from forkserve.worker.lifeline import STACK_SIGNAL

MOST_CONNECTIONS = 64

MOST_AT_ONCE = 8
"""So many connections are seen to before something else in the master's loop has its turn."""

RETRY = 1.0
"""Seconds until a door that could not be opened, or was shut for lack of descriptors, is
tried again."""

MOST_TRIES = 5

SAID_LATELY = 60.0
"""Seconds for which the log does not name again a user who was turned away."""


class RefusedError(Exception):
    """The message is one sentence for who has asked."""


@dataclass(frozen=True, slots=True)
class Access:
    """What control reaches of the master."""

    handle: Callable[[Event], None]
    """Have the supervisor decide."""

    reload: Callable[[], None]
    """Read the settings, and then have it decide."""

    reopen_logs: Callable[[str], bool]
    """Because of somebody. Returns whether that could be done."""

    state: State
    """The supervisor's record of facts."""

    family: Family
    kernel: Kernel


class Control:
    """The connections, and the orders that are under way."""

    def __init__(
        self,
        door: Door,
        selector: selectors.BaseSelector,
        access: Access,
        status: Callable[[], dict[str, Any]],
    ) -> None:
        self._door = door
        self._selector = selector
        self._access = access
        self._status = status
        self._connections: list[Connection] = []
        self._orders: list[Order] = []
        self._next_try = FOREVER
        self._tries = 0
        self._turned_away: dict[int, float] = {}
        """By uid: when the log has named that user last."""
        self._verbs: dict[str, Callable[[Caller, Request], None]] = {
            "status": self._tell_status,
            "follow": self._let_follow,
            "reload": self._reload,
            "scale": self._scale,
            "recycle": self._recycle,
            "stop": self._stop,
            "dump": self._dump,
            "logs-reopen": self._reopen_logs,
        }

    # -- the door ---------------------------------------------------------------------

    def open(self, *, at_once: bool = False) -> None:
        """Let clients in. If that cannot be, it is said, and nothing else is the worse for it.

        ``at_once``: the loop is running, so it is better tried again than waited for.
        """
        if not self._door.wanted or self._door.path:
            return
        why = self._door.open(at_once=at_once)
        if not why:
            self._tries, self._next_try = 0, FOREVER
            self._selector.register(self._door, selectors.EVENT_READ, self._knocked)
            log.debug("the control socket is %s", self._door.path)
            return
        self._tries += 1
        if at_once and self._tries < MOST_TRIES:
            self._next_try = monotonic() + RETRY
            return
        self._next_try = FOREVER
        log.warning("no control socket, so `forkserve status` and its like cannot be used: %s", why)

    def give_up(self) -> None:
        """Let nobody in any more. Who is in may stay."""
        if self._door.path is None:
            return
        self._knocked()
        if self._is_watched():
            self._selector.unregister(self._door)
        self._next_try = FOREVER
        self._door.close()

    def _is_watched(self) -> bool:
        return self._door.fileno() in self._selector.get_map()

    def _knocked(self) -> None:
        if self._door.path is None:
            return
        try:
            for sock, peer in self._door.knocks():
                self._admit(sock, peer)
        except ExhaustedError:
            # It would wake us again at once. A connection of ours that ends makes room.
            if self._is_watched():
                self._selector.unregister(self._door)
            self._next_try = monotonic() + RETRY

    def _admit(self, sock: socket.socket, peer: Peer) -> None:
        connection = Connection(sock, peer, self._selector, self._asked)
        self._connections = [one for one in self._connections if not one.closed]
        if not peer.may_command:
            self._name(peer, monotonic())
            connection.send_away("You are neither this master's user nor root.")
        elif len(self._connections) >= MOST_CONNECTIONS:
            connection.send_away(
                f"{MOST_CONNECTIONS} control connections are open already; try again later."
            )
        self._connections.append(connection)

    def _name(self, stranger: Peer, now: float) -> None:
        if now - self._turned_away.get(stranger.uid, -FOREVER) >= SAID_LATELY:
            self._turned_away[stranger.uid] = now
            log.warning(
                "control: pid %s of the user with uid %d was turned away: it is neither this "
                "master's user nor root",
                stranger.pid,
                stranger.uid,
            )

    def adopt(self, sock: socket.socket) -> None:
        """Listen to one of our own children, which has the other end."""
        sock.setblocking(False)
        self._connections.append(Connection(sock, None, self._selector, self._asked))

    # -- time -------------------------------------------------------------------------

    def due(self) -> float:
        """When :meth:`turn` has something to do (monotonic seconds, or infinity)."""
        dues = [one.due() for one in self._connections] + [one.due() for one in self._orders]
        return min([self._next_try, *dues])

    def turn(self, now: float) -> None:
        """The master's loop has turned."""
        first = [one for one in self._connections if one.due() <= now][:MOST_AT_ONCE]
        self._connections = [one for one in self._connections if one not in first] + first
        for connection in first:
            connection.turn(now)
        for order in [one for one in self._orders if one.due() <= now]:
            order.look(now)
        if now >= self._next_try:
            self._try_again()
        self._forget()

    def _try_again(self) -> None:
        self._next_try = FOREVER
        if self._door.path is None:
            self.open(at_once=True)
        elif not self._is_watched():
            self._selector.register(self._door, selectors.EVENT_READ, self._knocked)

    def _forget(self) -> None:
        self._connections = [one for one in self._connections if not one.closed]
        self._orders = [one for one in self._orders if not one.over]

    # -- what happens -----------------------------------------------------------------

    def tell(self, what: note.Note, text: str, state: State) -> None:
        """The supervisor has noted something, which the log tells as ``text``."""
        for order in [one for one in self._orders if not one.over]:
            order.hear(what, text, state)
        if any(one.follows for one in self._connections):
            self._tell_followers({"kind": type(what).__name__, "at": _now(), **_fields(what)})

    def hear_line(self, line: Line) -> None:
        """The master has written a line into its log."""
        self._tell_followers({"kind": "Line", **line})

    def _tell_followers(self, event: dict[str, Any]) -> None:
        for connection in [one for one in self._connections if one.follows]:
            for id in list(connection.follows):
                connection.send({"id": id, "event": event})

    def follow(self, event: Event, state: State) -> None:
        """``event`` has happened, and ``state`` is what came of it."""
        for order in [one for one in self._orders if not one.over]:
            order.follow(event, state)
        self._forget()
        if isinstance(event, on.TakenOver | on.PredecessorGone) and not state.stopping:
            self.open(at_once=True)  # the old master has let go of the place, or has died

    # -- what is asked ----------------------------------------------------------------

    def _asked(self, connection: Connection, request: Request) -> None:
        caller = Caller(connection, request.id)
        connection.under_way += 1
        try:
            if (verb := self._verbs.get(request.do)) is None:
                known = ", ".join(self._verbs)
                raise RefusedError(f"There is no such command; there are {known}.")
            verb(caller, request)
        except RefusedError as exc:
            caller.fail(str(exc))

    def _tell_status(self, caller: Caller, request: Request) -> None:
        caller.done(status=self._status())

    def _let_follow(self, caller: Caller, request: Request) -> None:
        caller.answered = True  # it never will be
        caller.connection.under_way -= 1
        caller.connection.follows.append(request.id)

    def _reload(self, caller: Caller, request: Request) -> None:
        self._begin(Reload(caller, self._older_ones_accept), "a reload")
        self._access.reload()

    def _older_ones_accept(self, generation: int) -> bool:
        workers = self._access.family.workers.values()
        return any(one.row.accepts() for one in workers if one.generation < generation)

    def _scale(self, caller: Caller, request: Request) -> None:
        to = request.arguments.get("to")
        if not isinstance(to, str) or not NUMBER_OF_WORKERS.fullmatch(to):
            raise RefusedError('"to" is a number of workers, such as "4", "+1" or "-1".')
        self._begin(Scale(caller), f"scaling to {to}")
        by_so_many = to[0] in "+-"
        wanted = on.ScaleRequested if by_so_many else on.TargetRequested
        self._access.handle(wanted(monotonic(), int(to)))

    def _recycle(self, caller: Caller, request: Request) -> None:
        number = None if request.arguments.get("worker") == "all" else _number(request)
        order = Recycle(caller, number)
        order.begin(self._access.state)
        whom = "all workers" if number is None else f"worker {number}"
        self._begin(order, f"recycling {whom}")
        self._access.handle(on.RecycleRequested(monotonic(), number))

    def _stop(self, caller: Caller, request: Request) -> None:
        self._begin(Stop(caller), "a stop")
        because = f"`forkserve stop`{_by(caller)}"
        self._access.handle(on.TerminateRequested(monotonic(), because))

    def _dump(self, caller: Caller, request: Request) -> None:
        worker = self._worker(request)
        order = Dump(caller, worker, lambda: self._ask_for_stacks(worker))
        self._begin(order, f"a dump of worker {worker.id}")
        order.begin()

    def _ask_for_stacks(self, worker: WorkerChild) -> None:
        assert worker.pid is not None
        self._access.kernel.signal(worker.pid, STACK_SIGNAL)

    def _worker(self, request: Request) -> WorkerChild:
        number = _number(request)
        worker = self._access.family.workers.get(number)
        if worker is None or worker.pid is None:
            raise RefusedError(f"There is no worker {number}.")
        return worker

    def _reopen_logs(self, caller: Caller, request: Request) -> None:
        if not self._access.reopen_logs(f"control{_by(caller)}"):
            raise RefusedError("Not every log file could be opened anew; the log says why.")
        caller.done()

    def _begin(self, order: Order, what: str) -> None:
        log.info("control: %s was asked for%s", what, _by(order.caller))
        self._orders.append(order)

    # -- the end ----------------------------------------------------------------------

    def close(self) -> None:
        """The master exits. Who asked for that has been told so already."""
        self.give_up()
        for connection in self._connections:
            connection.close()


def _number(request: Request) -> int:
    number = request.arguments.get("worker")
    if not isinstance(number, int) or isinstance(number, bool):
        raise RefusedError('"worker" is the number of a worker, as the status has it.')
    return number


def _by(caller: Caller) -> str:
    peer = caller.connection.peer
    return f" (by pid {peer.pid}, uid {peer.uid})" if peer is not None else ""


def _now() -> float:
    return round(time.time(), 3)


def _fields(what: note.Note) -> dict[str, Any]:
    return {name: _plain(value) for name, value in dataclasses.asdict(what).items()}


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value

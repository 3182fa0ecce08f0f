"""The shared memory that every process sees: one row for each slot.

Each field of a row has one writer, the slot's worker or the master, so there are no locks,
and no system call is made for a request. Numbers are aligned eight-byte stores, which a
reader sees whole. The text of the request may be seen half written, which costs one odd
log line at worst.

The mapping is anonymous and shared (mmap(2), MAP_SHARED | MAP_ANONYMOUS): it is
inherited through fork, has no name that could be left behind, and pages that no
slot uses take no memory.

    one row a slot     | the master's: who holds it, memory | the worker's: counts | its request |
    the switchboard's
    the master's       | whether the queue is shared, what workers have done that are gone
    two columns        | what every worker compares with its siblings: close together, since
                       | it is looked at for each connection
"""

from __future__ import annotations

import mmap
import struct
from functools import partial
from time import monotonic

from forkserve.readings import BOUNDS, Holder, Snapshot, Totals
from forkserve.supervisor.phases import Phase

ROW = 512
"""Bytes a row."""

_PHASES = tuple(Phase)
_HOLDER = struct.Struct("6d")
"""Worker id (0: nobody), generation, the phase's place in _PHASES, pid (0: not known yet),
born, ready since (0: never)."""

_MEMORY_AT = _HOLDER.size
"""Two numbers: resident bytes, and its share of them (PSS)."""

_COUNTS_AT = 64  # a cache line further: another processor writes here
(SINCE, MORE, SECONDS, OVERLAP, SPELL, CLOSED, WEBSOCKETS, ACCEPTS, DURATIONS) = range(9)
"""Places in :attr:`Row.counts`.

SINCE when the request that is shown is served (0: none is), and how many MORE there are.

HTTP requests answered, by how long they took, from DURATIONS on: for each of BOUNDS and
beyond; and how many SECONDS they took together. Of those some were not the worker's, since it
served several at once: the OVERLAP. A SPELL in which there are several began then (0: there
are not); what of it has passed is in neither yet.

WebSockets that are open, and such that have been CLOSED. Connections accepted (ACCEPTS)."""

_COUNTS = struct.Struct(f"{DURATIONS + len(BOUNDS) + 1}d")

_BEAT = struct.Struct("d")
_LOOP = struct.Struct("4d")
_LOOP_AT = _COUNTS_AT + _COUNTS.size
"""When the loop beat last, when it is to beat again (0: it is not), how late it was, and how
late at most."""

_LABEL = struct.Struct("16p192p")
_LABEL_AT = _LOOP_AT + _LOOP.size
"""The method and path of the request that is shown."""

_TRIES = 5
"""The worker of a row goes on while it is read: it is read until it says the same twice."""

_COLUMNS = 2
_OPEN, _SLOW = range(_COLUMNS)
"""0.0: it does not accept; else the number of its connections and one. And: 1.0 while the
worker's handlers are slow, else 0.0."""

_SHARED = 0
_GONE = struct.Struct(f"{5 + len(BOUNDS) + 1}d")
_GONE_AT = 8
"""In the master's row: whether the queue is shared, and the Totals of those that are gone."""


class Scoreboard:
    """All rows, as the master holds them."""

    def __init__(self, slots: int) -> None:
        # The last two rows are the switchboard's and the master's.
        self._columns_at = (slots + 2) * ROW
        self._memory = mmap.mmap(-1, self._columns_at + _COLUMNS * slots * 8)
        self.slots = slots

    def row(self, slot: int) -> Row:
        """The row of ``slot``; its numbers stay valid across a fork."""
        this = memoryview(self._memory)[slot * ROW : (slot + 1) * ROW]
        return Row(slot, this, self._column(_OPEN), self._column(_SLOW), self._beyond(1))

    def switchboard(self) -> SwitchboardRow:
        """The row of the switchboard."""
        return SwitchboardRow(self._beyond(0).cast("d"))

    def share_the_queue(self, shared: bool) -> None:
        """Whether another master's workers accept from the same listen queue (in an upgrade)."""
        self._beyond(1).cast("d")[_SHARED] = float(shared)

    def of_the_gone(self) -> Totals:
        """What those workers have done that have died since the start."""
        return _totals_of_the_gone(self._beyond(1))

    def _beyond(self, number: int) -> memoryview:
        """A row behind those of the slots."""
        at = (self.slots + number) * ROW
        return memoryview(self._memory)[at : at + ROW]

    def _column(self, number: int) -> memoryview[float]:
        at = self._columns_at + number * self.slots * 8
        return memoryview(self._memory)[at : at + self.slots * 8].cast("d")


class Row:
    """One slot. Its worker and the master write it, each their own, and the master reads it."""

    def __init__(
        self,
        slot: int,
        view: memoryview,
        open_of_each: memoryview[float],
        slow_of_each: memoryview[float],
        of_the_master: memoryview,
    ) -> None:
        self._slot = slot
        self._view = view
        # As attributes, and not as methods: each request passes here.
        self.counts = view[_COUNTS_AT:_LOOP_AT].cast("d")
        """The numbers whose places are BEGUN and so on."""
        self.label = partial(_LABEL.pack_into, view, _LABEL_AT)
        """``label(method, path)``: show this request; what is too long is cut."""
        self._busy = 0.0
        """The most that was ever read."""
        self._memory = view[_MEMORY_AT:_COUNTS_AT].cast("d")
        self._open_of_each = open_of_each
        self._slow_of_each = slow_of_each
        self._of_the_master = of_the_master

    # -- the master's -----------------------------------------------------------------

    def clear(self) -> None:
        """Forget the former holder of the slot, but not what it has done (done by the master,
        when it is gone and before another is made)."""
        gone = _totals_of_the_gone(self._of_the_master) + self._totals(
            self._steady_counts(), monotonic(), gone=True
        )
        numbers = (gone.requests, gone.lost, gone.accepts, gone.busy, gone.seconds)
        _GONE.pack_into(self._of_the_master, _GONE_AT, *numbers, *gone.durations)
        self._view[:] = bytes(ROW)
        self._busy = 0.0
        self._open_of_each[self._slot] = self._slow_of_each[self._slot] = 0.0

    def assign(self, holder: Holder) -> None:
        """This is who holds the slot, and how it stands."""
        _HOLDER.pack_into(
            self._view,
            0,
            holder.worker_id,
            holder.generation,
            _PHASES.index(holder.phase),
            holder.pid or 0,
            holder.born,
            holder.ready_since or 0.0,
        )

    def weigh(self, resident: int) -> None:
        """So many bytes of memory the worker has."""
        self._memory[0] = resident

    def share_out(self, share: int) -> None:
        """... and this is its share of it (PSS)."""
        self._memory[1] = share

    # -- the worker's -----------------------------------------------------------------

    def beat(
        self, now: float, due: float = 0.0, lag: float = 0.0, highest_lag: float = 0.0
    ) -> None:
        """The event loop turned at ``now`` (``time.monotonic()``), ``lag`` seconds late, and
        will again when it is ``due``; 0.0: that is not known."""
        _LOOP.pack_into(self._view, _LOOP_AT, now, due, lag, highest_lag)

    def beat_alone(self, now: float) -> None:
        """Like ``beat``, with what else is said of the loop left as it is."""
        _BEAT.pack_into(self._view, _LOOP_AT, now)

    def accepted(self, connections: int) -> None:
        """So many more were accepted."""
        self.counts[ACCEPTS] += connections

    def hold(self, connections: int) -> None:
        """The worker accepts, and has so many connections."""
        self._open_of_each[self._slot] = connections + 1.0

    def hold_no_more(self) -> None:
        """The worker does not accept any longer."""
        self._open_of_each[self._slot] = 0.0

    def slow(self, slow: bool) -> None:
        """Whether the handlers of this worker are slow."""
        self._slow_of_each[self._slot] = float(slow)

    # -- read by everybody ------------------------------------------------------------

    def fewest_held(self) -> int:
        """The connections of that worker which accepts and has the fewest."""
        return int(min(filter(None, self._open_of_each.tolist()), default=1)) - 1

    def is_alone(self) -> bool:
        """Whether at most one worker accepts."""
        return len(list(filter(None, self._open_of_each.tolist()))) <= 1

    def any_slow(self) -> bool:
        """Whether the handlers of any worker are slow."""
        return any(self._slow_of_each.tolist())

    def accepts(self) -> bool:
        """Whether the worker takes connections."""
        return self._open_of_each[self._slot] > 0

    def queue_is_shared(self) -> bool:
        """Whether somebody goes on accepting when all workers of this master have gone."""
        return self._of_the_master.cast("d")[_SHARED] == 1.0

    def begun(self) -> int:
        """How many requests and WebSockets have begun."""
        counts = self._steady_counts()
        return int(sum(counts[DURATIONS:]) + counts[CLOSED]) + _in_flight(counts)

    def last_beat(self) -> float:
        beat: float = _LOOP.unpack_from(self._view, _LOOP_AT)[0]
        return beat

    def snapshot(self, now: float | None = None) -> Snapshot:
        """``now``: ``time.monotonic()``, if it is known already."""
        now = monotonic() if now is None else now
        counts = self._steady_counts()
        in_flight = _in_flight(counts)
        method, path = _LABEL.unpack_from(self._view, _LABEL_AT) if in_flight else (b"", b"")
        beat, due, lag, highest_lag = _LOOP.unpack_from(self._view, _LOOP_AT)
        overdue = now - due if due else 0.0
        held = int(self._open_of_each[self._slot])
        return Snapshot(
            holder=self._holder(),
            beat=beat,
            in_flight=in_flight,
            websockets=int(counts[WEBSOCKETS]),
            method=_printable(method),
            path=_printable(path),
            serving_since=counts[SINCE] if in_flight else 0.0,
            lag=max(lag, overdue),
            highest_lag=max(highest_lag, overdue),
            accepting=held > 0,
            connections=max(0, held - 1),
            slow=self._slow_of_each[self._slot] == 1.0,
            done=self._totals(counts, now),
            rss=int(self._memory[0]),
            pss=int(self._memory[1]),
        )

    def _holder(self) -> Holder | None:
        number, generation, phase, pid, born, ready = _HOLDER.unpack_from(self._view, 0)
        if not number:
            return None
        return Holder(
            int(number), int(generation), _PHASES[int(phase)], int(pid) or None, born, ready or None
        )

    def _steady_counts(self) -> tuple[float, ...]:
        """As they were at one moment, which may have been in the middle of something."""
        before: tuple[float, ...] = ()
        for _ in range(_TRIES):
            counts = _COUNTS.unpack_from(self._view, _COUNTS_AT)
            if counts == before:
                break
            before = counts
        return before

    def _totals(self, counts: tuple[float, ...], now: float, gone: bool = False) -> Totals:
        """``gone``: what is in flight will not be answered any more."""
        # The worker may be between two of its stores, and what it has said of an end may still
        # lack the time that it took.
        self._busy = max(self._busy, _busy(counts, now))
        return Totals(
            requests=int(sum(counts[DURATIONS:]) + counts[CLOSED]),
            lost=_in_flight(counts) if gone else 0,
            accepts=int(counts[ACCEPTS]),
            busy=self._busy,
            durations=tuple(map(int, counts[DURATIONS:])),
            seconds=counts[SECONDS],
        )


def _in_flight(counts: tuple[float, ...]) -> int:
    return 1 + int(counts[MORE]) if counts[SINCE] else 0


def _busy(counts: tuple[float, ...], now: float) -> float:
    """Seconds with at least one HTTP request in flight."""
    alone = counts[SINCE] if not counts[WEBSOCKETS] else 0.0
    since = counts[SPELL] or alone
    return counts[SECONDS] - counts[OVERLAP] + (max(0.0, now - since) if since else 0.0)


def _printable(text: bytes) -> str:
    return "".join(c if c.isprintable() else "?" for c in text.decode("latin-1"))


def _totals_of_the_gone(of_the_master: memoryview) -> Totals:
    requests, lost, accepts, busy, seconds, *durations = _GONE.unpack_from(of_the_master, _GONE_AT)
    return Totals(int(requests), int(lost), int(accepts), busy, tuple(map(int, durations)), seconds)


class SwitchboardRow:
    """What the switchboard says of itself. It writes, everybody reads."""

    def __init__(self, numbers: memoryview[float]) -> None:
        self._numbers = numbers

    def beat(self, now: float) -> None:
        """Its loop turned at ``now`` (``time.monotonic()``)."""
        self._numbers[0] = now

    def last_beat(self) -> float:
        """0.0: it never has."""
        return self._numbers[0]

    def open(self) -> None:
        """It takes connections from this moment on."""
        self._numbers[1] = 1.0

    def close(self) -> None:
        """It takes no more."""
        self._numbers[1] = 0.0

    def is_open(self) -> bool:
        return self._numbers[1] == 1.0

    def finish(self) -> None:
        """It has given away all that it held, and takes no more."""
        self._numbers[1] = -1.0

    def is_finished(self) -> bool:
        return self._numbers[1] == -1.0

    def hold(self, idle: int, waiting: int) -> None:
        """So many connections are idle there, and so many have a request for which there
        was no room in the outbox yet."""
        self._numbers[2], self._numbers[3] = idle, waiting

    def held(self) -> tuple[int, int]:
        return int(self._numbers[2]), int(self._numbers[3])

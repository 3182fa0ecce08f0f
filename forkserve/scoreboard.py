"""The shared memory that every process sees: one row for each slot.

A row has one writer, its worker, and is read by the master; there are no locks.
Numbers are aligned eight-byte stores, which a reader sees whole. The text of the
request may be seen half written, which costs one odd log line at worst.

The mapping is anonymous and shared (mmap(2), MAP_SHARED | MAP_ANONYMOUS): it is
inherited through fork, has no name that could be left behind, and pages that no
slot uses take no memory.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from functools import partial

ROW = 256
"""Bytes a row: the heartbeat, the open connections, whether handlers are slow, then what is
being served."""

_BEAT = struct.Struct("d")
_OPEN = struct.Struct("d")
"""0.0: it does not accept; else the number of its connections and one."""

_SLOW = struct.Struct("d")
"""1.0 while the worker's handlers are slow, else 0.0."""

_COUNTS = struct.Struct("3d")
"""Requests begun, requests answered, and since when the one that is shown is served."""

BEGUN, ANSWERED, SINCE = range(3)
"""Their places in :attr:`Row.counts`."""

_LABEL = struct.Struct("16p192p")
"""Its method and path."""

_OPEN_AT = _BEAT.size
_SLOW_AT = _OPEN_AT + _OPEN.size
_COUNTS_AT = _SLOW_AT + _SLOW.size
_LABEL_AT = _COUNTS_AT + _COUNTS.size


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a row said. Times are ``time.monotonic()`` seconds, 0.0 for never."""

    beat: float
    requests: int
    in_flight: int
    serving: str
    """Method and path of the newest request not yet answered, or empty."""
    serving_since: float


class Scoreboard:
    """All rows, as the master holds them."""

    def __init__(self, slots: int) -> None:
        # The last two rows are the switchboard's and the master's.
        self._memory = mmap.mmap(-1, (slots + 2) * ROW)
        self.slots = slots

    def row(self, slot: int) -> Row:
        """The row of ``slot``; its numbers stay valid across a fork."""
        everybody = memoryview(self._memory)[: self.slots * ROW]
        numbers = everybody.cast("d")
        open_of_each = numbers[_OPEN_AT // 8 :: ROW // 8]
        slow_of_each = numbers[_SLOW_AT // 8 :: ROW // 8]
        this = everybody[slot * ROW : (slot + 1) * ROW]
        return Row(this, open_of_each, slow_of_each, self._of_the_master())

    def switchboard(self) -> SwitchboardRow:
        """The row of the switchboard."""
        return SwitchboardRow(self._beyond(0))

    def share_the_queue(self, shared: bool) -> None:
        """Whether another master's workers accept from the same listen queue (in an upgrade)."""
        self._of_the_master()[0] = float(shared)

    def _of_the_master(self) -> memoryview[float]:
        return self._beyond(1)

    def _beyond(self, number: int) -> memoryview[float]:
        """A row behind those of the slots."""
        at = (self.slots + number) * ROW
        return memoryview(self._memory)[at : at + ROW].cast("d")


class Row:
    """One slot. A worker writes it, the master reads it."""

    def __init__(
        self,
        view: memoryview,
        open_of_each: memoryview[float],
        slow_of_each: memoryview[float],
        of_the_master: memoryview[float],
    ) -> None:
        self._view = view
        # As attributes, and not as methods: each request passes here.
        self.counts = view[_COUNTS_AT:_LABEL_AT].cast("d")
        """Three numbers, at BEGUN, ANSWERED and SINCE: requests begun, requests answered,
        and since when the one that is shown is being served (``time.monotonic()``)."""
        self.label = partial(_LABEL.pack_into, view, _LABEL_AT)
        """``label(method, path)``: show this request; what is too long is cut."""
        self._open_of_each = open_of_each
        self._slow_of_each = slow_of_each
        self._of_the_master = of_the_master

    def clear(self) -> None:
        """Forget the former holder of the slot (done by the master, before a fork)."""
        self._view[:] = bytes(ROW)

    def beat(self, now: float) -> None:
        """The event loop turned at ``now`` (``time.monotonic()``)."""
        _BEAT.pack_into(self._view, 0, now)

    def hold(self, connections: int) -> None:
        """The worker accepts, and has so many connections."""
        _OPEN.pack_into(self._view, _OPEN_AT, connections + 1)

    def hold_no_more(self) -> None:
        """The worker does not accept any longer."""
        _OPEN.pack_into(self._view, _OPEN_AT, 0)

    def fewest_held(self) -> int:
        """The connections of that worker which accepts and has the fewest."""
        return int(min(filter(None, self._open_of_each.tolist()), default=1)) - 1

    def is_alone(self) -> bool:
        """Whether at most one worker accepts."""
        return len(list(filter(None, self._open_of_each.tolist()))) <= 1

    def slow(self, slow: bool) -> None:
        """Whether the handlers of this worker are slow."""
        _SLOW.pack_into(self._view, _SLOW_AT, float(slow))

    def any_slow(self) -> bool:
        """Whether those of any worker are."""
        return any(self._slow_of_each.tolist())

    def queue_is_shared(self) -> bool:
        """Whether somebody goes on accepting when all workers of this master have gone."""
        return self._of_the_master[0] == 1.0

    def last_beat(self) -> float:
        beat: float = _BEAT.unpack_from(self._view, 0)[0]
        return beat

    def snapshot(self) -> Snapshot:
        begun, answered, since = _COUNTS.unpack_from(self._view, _COUNTS_AT)
        method, path = _LABEL.unpack_from(self._view, _LABEL_AT)
        in_flight = begun - answered
        label = f"{method.decode('latin-1')} {path.decode('latin-1')}" if in_flight else ""
        return Snapshot(
            beat=self.last_beat(),
            requests=int(answered),
            in_flight=int(in_flight),
            serving="".join(c if c.isprintable() else "?" for c in label),
            serving_since=since if in_flight else 0.0,
        )


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

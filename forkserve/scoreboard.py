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

ROW = 256
"""Bytes a row: the heartbeat first, then what is being served."""

_BEAT = struct.Struct("d")
_SERVING = struct.Struct("3d16p208p")
"""Requests answered, requests in flight, since when, method, path: written in one go,
as it is written twice a request."""

_PROGRESS = struct.Struct("2d")
"""The first two of those."""

_SERVING_AT = _BEAT.size


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
        self._memory = mmap.mmap(-1, slots * ROW)
        self.slots = slots

    def row(self, slot: int) -> Row:
        """The row of ``slot``; its numbers stay valid across a fork."""
        return Row(memoryview(self._memory)[slot * ROW : (slot + 1) * ROW])


class Row:
    """One slot. A worker writes it, the master reads it."""

    def __init__(self, view: memoryview) -> None:
        self._view = view

    def clear(self) -> None:
        """Forget the former holder of the slot (done by the master, before a fork)."""
        self._view[:] = bytes(ROW)

    def beat(self, now: float) -> None:
        """The event loop turned at ``now`` (``time.monotonic()``)."""
        _BEAT.pack_into(self._view, 0, now)

    def serve(
        self, answered: int, in_flight: int, since: float, method: bytes, path: bytes
    ) -> None:
        """Say which request is being served; what is too long is cut."""
        _SERVING.pack_into(self._view, _SERVING_AT, answered, in_flight, since, method, path)

    def rest(self, answered: int) -> None:
        """So many requests are answered, and none is being served."""
        _PROGRESS.pack_into(self._view, _SERVING_AT, answered, 0)

    def last_beat(self) -> float:
        beat: float = _BEAT.unpack_from(self._view, 0)[0]
        return beat

    def snapshot(self) -> Snapshot:
        answered, in_flight, since, method, path = _SERVING.unpack_from(self._view, _SERVING_AT)
        label = f"{method.decode('latin-1')} {path.decode('latin-1')}" if in_flight else ""
        return Snapshot(
            beat=self.last_beat(),
            requests=int(answered),
            in_flight=int(in_flight),
            serving="".join(c if c.isprintable() else "?" for c in label),
            serving_since=since if in_flight else 0.0,
        )

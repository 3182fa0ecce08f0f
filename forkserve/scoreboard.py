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
from dataclasses import dataclass

ROW = 256
"""Bytes a row; numbers first, then the text of the request."""

_NUMBERS = 8
_TEXT_AT = _NUMBERS * 8 + 2
_LONGEST_TEXT = ROW - _TEXT_AT

# The number fields, by position.
_BEAT, _REQUESTS, _IN_FLIGHT, _SERVING_SINCE = range(4)


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
        self._numbers = view[: _NUMBERS * 8].cast("d")
        self._text = view[_NUMBERS * 8 :]

    def clear(self) -> None:
        """Forget the former holder of the slot (done by the master, before a fork)."""
        for i in range(_NUMBERS):
            self._numbers[i] = 0.0

    def beat(self, now: float) -> None:
        """The event loop turned at ``now`` (``time.monotonic()``)."""
        self._numbers[_BEAT] = now

    def serve(self, label: bytes, since: float, in_flight: int) -> None:
        """Say which request is being served; ``label`` is cut to fit."""
        cut = label[:_LONGEST_TEXT]
        text = self._text
        text[0] = len(cut)
        text[2 : 2 + len(cut)] = cut
        self._numbers[_SERVING_SINCE] = since
        self._numbers[_IN_FLIGHT] = in_flight

    def rest(self) -> None:
        """No request is being served."""
        self._numbers[_IN_FLIGHT] = 0.0

    def count(self, requests: int) -> None:
        """So many requests are answered."""
        self._numbers[_REQUESTS] = requests

    def last_beat(self) -> float:
        return self._numbers[_BEAT]

    def snapshot(self) -> Snapshot:
        numbers, in_flight = self._numbers, int(self._numbers[_IN_FLIGHT])
        label = bytes(self._text[2 : 2 + self._text[0]]).decode("latin-1") if in_flight else ""
        return Snapshot(
            beat=numbers[_BEAT],
            requests=int(numbers[_REQUESTS]),
            in_flight=in_flight,
            serving="".join(c if c.isprintable() else "?" for c in label),
            serving_since=numbers[_SERVING_SINCE] if in_flight else 0.0,
        )

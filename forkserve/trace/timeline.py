"""The phases of each process as a time line, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from forkserve.supervisor.phases import Phase
from forkserve.trace.replaying import Cast, Seen, Who

LEGEND = ". starting   - spare   = ready   ~ draining   ! killed   x gone"

SCALE = "one column for each step in which a phase changes, so time is not to scale"

_MARKS: Mapping[Phase, str] = {
    Phase.STARTING: ".",
    Phase.READY: "=",
    Phase.DRAINING: "~",
    Phase.KILLED: "!",
    Phase.EXITED: "x",
}

_GONE = "x"
_KINDS = ("new master", "template", "switchboard", "worker")

NARROWEST = 20
"""Columns for the picture itself, however narrow the terminal is."""


@dataclass(slots=True)
class Timeline:
    """Of one master. ``times`` holds the seconds of each column."""

    times: list[float] = field(default_factory=list)
    _changes: list[dict[Who, str]] = field(default_factory=list)
    """For each column, the marks that differ from the column before: there may be hundreds of
    processes, and tens of thousands of columns."""

    _names: dict[Who, str] = field(default_factory=dict)
    _now: dict[Who, str] = field(default_factory=dict)

    def note(self, time: float, cast: Cast) -> None:
        """What holds from ``time`` on. A column is added if that is something new."""
        marks = {who: _mark(seen) for who, seen in cast.items()}
        if marks == self._now:
            return
        new = {who: mark for who, mark in marks.items() if self._now.get(who) != mark}
        gone = {who: _GONE for who in self._now if who not in marks}
        self._names |= {who: _name(who, cast[who]) for who in new}
        self._now = marks
        self.times.append(time)
        self._changes.append(new | gone)

    def rows(self, width: int) -> Iterator[str]:
        """As many bands, one below the other, as the columns need."""
        margin = max((len(name) for name in self._names.values()), default=0) + 2
        columns = max(NARROWEST, width - margin)
        marks: dict[Who, str] = {}
        for first in range(0, len(self._changes), columns):
            if first:
                yield ""
            yield " " * margin + _ruler(self.times[first : first + columns], columns)
            band: dict[Who, str] = {}
            for place, change in enumerate(self._changes[first : first + columns]):
                marks = {who: mark for who, mark in marks.items() if mark != _GONE} | change
                for who, mark in marks.items():
                    band[who] = band.get(who, "").ljust(place) + mark
            for who in sorted(band, key=lambda who: (_KINDS.index(who.kind), who.id)):
                yield f"{self._names[who]:{margin}}{band[who]}"


def in_words(seconds: float) -> str:
    """A time since the beginning."""
    minutes, rest = divmod(seconds, 60)
    if seconds < 60:
        return f"{seconds:.3f}"
    if minutes < 60:
        return f"{int(minutes)}:{rest:06.3f}"
    return f"{int(minutes) // 60}:{int(minutes) % 60:02}:{rest:06.3f}"


def _mark(seen: Seen) -> str:
    return "-" if seen.spare and seen.phase is Phase.READY else _MARKS[seen.phase]


def _name(who: Who, seen: Seen) -> str:
    generation = f" g{seen.generation}" if seen.generation else ""
    return f"{who.kind} {who.id}{generation}"


def _ruler(times: Sequence[float], columns: int) -> str:
    """The time of a column stands above it, as often as there is room."""
    ruler = ""
    for place, time in enumerate(times):
        label = "|" + in_words(time)
        if place >= len(ruler) + bool(ruler) and place + len(label) <= columns:
            ruler = ruler.ljust(place) + label
    return ruler

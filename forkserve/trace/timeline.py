"""The phases of each process as a time line, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from forkserve.supervisor import Phase
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
    _columns: list[Mapping[Who, str]] = field(default_factory=list)
    _met: dict[Who, Seen] = field(default_factory=dict)
    _now: dict[Who, str] = field(default_factory=dict)

    def note(self, time: float, cast: Cast) -> None:
        """What holds from ``time`` on. A column is added if that is something new."""
        marks = {who: _mark(seen) for who, seen in cast.items()}
        self._met.update(cast)
        if marks == self._now:
            return
        gone = {who: _GONE for who in self._now if who not in marks}
        self._now = marks
        self.times.append(time)
        self._columns.append(marks | gone)

    def rows(self, width: int) -> Iterator[str]:
        """As many bands, one below the other, as the columns need."""
        names = {who: _name(who, seen) for who, seen in self._met.items()}
        margin = max((len(name) for name in names.values()), default=0) + 2
        columns = max(NARROWEST, width - margin)
        for first in range(0, len(self._columns), columns):
            band = self._columns[first : first + columns]
            if first:
                yield ""
            yield " " * margin + _ruler(self.times[first : first + columns], columns)
            there = {who for column in band for who in column}
            for who in sorted(there, key=lambda who: (_KINDS.index(who.kind), who.id)):
                marks = "".join(column.get(who, " ") for column in band)
                yield f"{names[who]:{margin}}{marks.rstrip()}"


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

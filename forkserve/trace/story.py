"""A trace as lines of text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from time import localtime, strftime

from forkserve.supervisor.actions import Note
from forkserve.trace.lines import Snapshot
from forkserve.trace.replaying import Begins, CutOff, Happens, Part
from forkserve.trace.timeline import LEGEND, SCALE, Timeline, in_words
from forkserve.trace.words import Narrator

_BEGINS = {
    "start": "master pid {s.pid} starts",
    "new file": "master pid {s.pid} goes on from another file",
    "gap": "master pid {s.pid} goes on after a gap: {s.lost} steps could not be written",
}

NARROWEST = 40
"""Columns of text, however narrow the terminal is."""


@dataclass(slots=True)
class _Master:
    """One master of the story. ``origin``: what its clock showed when the story began."""

    snapshot: Snapshot
    narrator: Narrator
    origin: float
    timeline: Timeline = field(default_factory=Timeline)


class Story:
    """Is told part by part, and knows in the end what there was to be said of it."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._masters: dict[int, _Master] = {}
        self._ended: list[_Master] = []
        self._speaker: int | None = None
        self._began: float | None = None
        """The wall clock of the first snapshot."""
        self.steps = 0
        self.difference: Happens | None = None
        """The first one."""

    def tell(self, part: Part) -> Iterator[str]:
        match part:
            case Begins():
                yield from self._begins(part)
            case Happens():
                yield from self._happens(part)
            case CutOff(number):
                yield ""
                yield f"line {number} is cut off, as after a crash or on a full disk"

    def timelines(self) -> Iterator[str]:
        for master in [*self._ended, *self._masters.values()]:
            yield ""
            yield from self._wrapped(f"master pid {master.snapshot.pid}: {LEGEND}", 0, 4)
            yield from self._wrapped(f"({SCALE})", 0, 1)
            yield from (_printable(row) for row in master.timeline.rows(self._width))

    def verdict(self) -> Iterator[str]:
        yield ""
        there = "1 step" if self.steps == 1 else f"{self.steps} steps"
        if self.difference is None:
            yield f"{there}: today's code decides the same."
            return
        step = self.difference.step
        what = f"{type(step.event).__name__}, master pid {step.pid}"
        said = f"{there}: today's code decides otherwise, first in step {step.step} ({what}):"
        yield from self._wrapped(said, 0, 4)
        for label, what in _first_difference(self.difference):
            yield from self._wrapped(f"{label:10}{what}", 2, 12)

    # -- the parts ----------------------------------------------------------------------

    def _begins(self, part: Begins) -> Iterator[str]:
        snapshot = part.snapshot
        if self._began is None:
            self._began = snapshot.wall
        master = self._masters.get(snapshot.pid)
        if master is None or snapshot.because == "start":
            if master is not None:
                self._ended.append(master)
            narrator = Narrator(snapshot.app, snapshot.urls)
            origin = snapshot.monotonic - (snapshot.wall - self._began)
            master = self._masters[snapshot.pid] = _Master(snapshot, narrator, origin)
        master.narrator.meet(part.cast)
        master.timeline.note(snapshot.monotonic - master.origin, part.cast)
        self._speaker = snapshot.pid
        yield ""
        yield from self._wrapped(_heading(snapshot), 0, 4)

    def _happens(self, part: Happens) -> Iterator[str]:
        step, master = part.step, self._masters[part.step.pid]
        self.steps += 1
        time = step.event.now - master.origin
        master.narrator.meet(part.before)
        if self._speaker != step.pid:
            self._speaker = step.pid
            yield f"-- master pid {step.pid}"
        times = "once" if step.folded == 1 else f"{step.folded} times"
        left_out = f" (and {times} before)" if step.folded else ""
        what, *details = master.narrator.tell(step.event).split("\n")
        yield from self._wrapped(f"{step.step:5} {in_words(time):>10}  {what}{left_out}", 0, 18)
        yield from self._below(details, 18)
        master.narrator.meet(part.after)
        for action in step.actions:
            sort = "log" if isinstance(action, Note) else "do"
            said, *below = master.narrator.tell(action).split("\n")
            yield from self._wrapped(f"{sort:5}{said}", 18, 23)
            if list(map(str.strip, below)) != list(map(str.strip, details)):
                yield from self._below(below, 23)
        if step.fault:
            yield from self._wrapped(f"a fault in forkserve itself: {step.fault}", 18, 23)
        if part.compared:
            master.timeline.note(time, part.after)
        if part.differs and self.difference is None:
            self.difference = part
            yield from self._wrapped("** today's code decides otherwise; see below", 18)

    def _wrapped(self, text: str, indent: int, hanging: int = 0) -> Iterator[str]:
        yield from textwrap.wrap(
            _printable(text),
            max(self._width, NARROWEST),
            initial_indent=" " * indent,
            subsequent_indent=" " * max(indent, hanging),
            break_long_words=False,
            break_on_hyphens=False,
        )

    def _below(self, details: list[str], indent: int) -> Iterator[str]:
        """A traceback is not wrapped."""
        yield from (" " * (indent + 2) + _printable(line) for line in details)


def _heading(s: Snapshot) -> str:
    since = strftime("%Y-%m-%d %H:%M:%S", localtime(s.wall))
    how = _BEGINS.get(s.because, "master pid {s.pid}").format(s=s)
    served = f"{s.app} on {', '.join(s.urls)}, {s.state.target} wanted"
    return f"{since} {how}: {served}; forkserve {s.forkserve}, Python {s.python}"


def _first_difference(part: Happens) -> Iterator[tuple[str, str]]:
    step = part.step
    if step.fault != part.fault:
        yield "recorded", step.fault or "no fault"
        yield "today", part.fault or "no fault"
        return
    for recorded, today in zip_longest(step.actions, part.decided):
        if recorded != today:
            yield "recorded", repr(recorded) if recorded else "nothing more"
            yield "today", repr(today) if today else "nothing more"
            return


def _printable(text: str) -> str:
    """What comes from a file of somebody else's shall not drive the terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return "    " if character == "\t" else character.encode("unicode_escape").decode("ascii")

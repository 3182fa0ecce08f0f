"""The same decisions, made again by the brain of today."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from forkserve import __version__
from forkserve.supervisor.actions import Action
from forkserve.supervisor.brain import Supervisor
from forkserve.supervisor.phases import Phase
from forkserve.supervisor.state import Process, State, Worker
from forkserve.trace.codec import UnknownError
from forkserve.trace.lines import CutOffError, Line, Snapshot, Step, from_bytes, recorded_by

LONGEST = 16 << 20
"""Bytes of a line: many times what 512 workers and the longest stacks come to."""

LATEST = 1e11
"""Unix seconds, in the year 5138: no trace has been recorded later."""


class UnreadableError(Exception):
    """The file cannot be replayed. The message is one sentence with the file and the line."""


class Who(NamedTuple):
    """One process of a master's, as the brain knows it."""

    kind: str
    """``template``, ``worker``, ``switchboard`` or ``new master``."""

    id: int


class Seen(NamedTuple):
    """What was known of a process at some moment."""

    phase: Phase
    generation: int
    pid: int | None
    spare: bool = False


Cast = Mapping[Who, Seen]


@dataclass(frozen=True, slots=True)
class Begins:
    """A snapshot stands here."""

    snapshot: Snapshot
    cast: Cast


@dataclass(frozen=True, slots=True)
class Happens:
    """One step, and what the brain of today makes of it."""

    step: Step
    before: Cast
    after: Cast

    decided: tuple[Action, ...]
    """Today."""

    fault: str = ""
    """Why it does not decide at all today, if it does not."""

    compared: bool = True
    """False after a difference: from then on the states are not the same any more."""

    @property
    def differs(self) -> bool:
        recorded = (self.step.actions, self.step.fault)
        return self.compared and recorded != (self.decided, self.fault)


@dataclass(frozen=True, slots=True)
class CutOff:
    """A line that is not whole: the last one before a crash, or one that met a full disk.

    If it held a step that is missed, the next step of that master says so.
    """

    number: int


Part = Begins | Happens | CutOff


@dataclass(slots=True)
class _Run:
    """One master, brought to life again."""

    brain: Supervisor
    last: int
    """The number of the last step ..."""

    line: int
    """... and of the last line."""

    lost_track: bool = False
    cast: Cast = field(default_factory=dict)

    @classmethod
    def of(cls, snapshot: Snapshot, line: int) -> _Run:
        brain = Supervisor(snapshot.policy)
        brain.state = snapshot.state
        return cls(brain, snapshot.step, line, cast=cast_of(brain.state))

    def take(self, step: Step) -> Happens:
        self.last = step.step
        before = self.cast
        if self.lost_track:
            return Happens(step, before, before, (), compared=False)
        decided: tuple[Action, ...] = ()
        fault = ""
        try:
            decided = tuple(self.brain.handle(step.event))
        except Exception as exc:
            fault = repr(exc)
        self.cast = cast_of(self.brain.state)
        happens = Happens(step, before, self.cast, decided, fault)
        self.lost_track = happens.differs
        return happens


def replay(path: Path) -> Iterator[Part]:
    """All that is in the file, in its order. Raises UnreadableError, and OSError."""
    runs: dict[int, _Run] = {}
    damaged = 0
    for number, line in _lines(path):
        if isinstance(line, CutOff):
            if runs:
                yield line
            damaged = number if runs else damaged or number
        elif isinstance(line, Snapshot):
            if damaged and not runs:
                yield CutOff(damaged)
            runs[line.pid] = run = _Run.of(line, number)
            yield Begins(line, run.cast)
        else:
            current = runs.get(line.pid)
            if current is None:
                raise UnreadableError(f"{path}:{number}: no snapshot stands before this step.")
            if line.step != current.last + 1:
                is_damage = damaged > current.line
                why = f"line {damaged} is damaged" if is_damage else "lines are missing"
                raise UnreadableError(
                    f"{path}:{number}: step {line.step} follows step {current.last}; {why}."
                )
            current.line = number
            yield current.take(line)
    if not runs:
        raise UnreadableError(f"{path}:{damaged or 1}: this is no trace.")


def _lines(path: Path) -> Iterator[tuple[int, Line | CutOff]]:
    version = "unknown"
    with path.open("rb") as file:
        for number, data in enumerate(iter(lambda: file.readline(LONGEST), b""), 1):
            if len(data) == LONGEST:
                raise UnreadableError(f"{path}:{number}: this is no line of a trace.")
            try:
                line = from_bytes(data)
            except CutOffError:
                yield number, CutOff(number)
                continue
            except UnknownError as exc:
                by = f"recorded by forkserve {recorded_by(data) or version}, read by {__version__}"
                raise UnreadableError(f"{path}:{number}: {exc}; {by}.") from exc
            if not _has_sound_times(line):
                raise UnreadableError(f"{path}:{number}: its time is no time.")
            if isinstance(line, Snapshot):
                version = line.forkserve
            yield number, line


def _has_sound_times(line: Line) -> bool:
    if isinstance(line, Step):
        return math.isfinite(line.event.now)
    return math.isfinite(line.monotonic) and 0 <= line.wall < LATEST


def cast_of(state: State) -> Cast:
    """Everybody there is."""
    return {_who(process): _seen(process) for process in state.processes()}


def _who(process: Process) -> Who:
    return Who(_KINDS.get(type(process).__name__, "process"), process.id)


_KINDS = {
    "Worker": "worker",
    "Template": "template",
    "Switchboard": "switchboard",
    "Successor": "new master",
}


def _seen(process: Process) -> Seen:
    spare = isinstance(process, Worker) and process.spare
    return Seen(process.phase, process.generation, process.pid, spare)

"""The vocabulary of the tests of traces: a life, recorded; and what a replay says of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from time import monotonic
from typing import Any

from forkserve.supervisor import actions as do
from forkserve.supervisor import events as on
from forkserve.supervisor.events import Event, Exit
from forkserve.supervisor.state import Policy
from forkserve.trace.recorded import Recorded
from forkserve.trace.recorder import Recorder
from forkserve.trace.replaying import Begins, CutOff, Happens, replay

BIG = 1 << 30


def recorder_of(path: Path, limit: int = BIG) -> Recorder:
    return Recorder(str(path), limit, "app:app", ["http://127.0.0.1:8000"])


class Life:
    """A brain that is recorded, and a world in which all goes well unless told otherwise.

    A worker is born as its id plus 1000 as soon as it is asked for.
    """

    def __init__(self, path: Path, policy: Policy | None = None, limit: int = BIG) -> None:
        self.path = path
        self.now = monotonic()
        self.recorder = recorder_of(path, limit)
        self.brain = Recorded(policy or Policy(2, seed=7), self.recorder)

    def tell(self, event: Callable[..., Event], *facts: Any) -> list[do.Action]:
        self.now += 0.25
        actions = self.brain.handle(event(self.now, *facts))
        for action in actions:
            if isinstance(action, do.Fork):
                self.tell(on.Forked, action.worker_id, 1000 + action.worker_id)
        return actions

    def begin(self) -> Life:
        self.tell(on.Started)
        self.tell(on.WorkerReady, 1)
        self.tell(on.WorkerReady, 2)
        return self

    def crash(self) -> int:
        """The newest worker dies and its replacement becomes ready. Returns its id."""
        number = self.brain.state.last_id
        self.now += 10.0  # they do not die young
        self.tell(on.WorkerExited, number, Exit(-11))
        self.tell(on.WorkerReady, number + 1)
        return number + 1

    def alarm(self, after: float = 5.0) -> None:
        self.now += after
        self.tell(on.Alarm, dict.fromkeys(self.brain.state.workers, self.now))


class Verdict:
    """What there is in a file."""

    def __init__(self, path: Path) -> None:
        self.parts = list(replay(path))
        self.steps = [p for p in self.parts if isinstance(p, Happens)]
        self.snapshots = [p.snapshot for p in self.parts if isinstance(p, Begins)]
        self.cut_off = [p.number for p in self.parts if isinstance(p, CutOff)]
        self.differing = [p.step.step for p in self.steps if p.differs]

    @property
    def numbers(self) -> list[int]:
        return [p.step.step for p in self.steps]


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def write(path: Path, lines: Iterable[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))

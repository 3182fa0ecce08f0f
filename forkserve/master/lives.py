"""The lives of the children that the master makes by itself: monitors, and who calls a hook.

The supervisor knows of none of them. Each has its time; who is over it writes its stacks, is
killed, and is given up if even that does not end it.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from forkserve.master import signals
from forkserve.master.family import Child
from forkserve.supervisor.events import Exit
from forkserve.worker.lifeline import STACK_SIGNAL

LAST_WORDS = 0.25
"""Seconds between the order to write its stacks and SIGKILL."""

GIVEN_UP_AFTER = 1.0
"""Seconds after SIGKILL. A process that is still there (in an uninterruptible wait, say) must
not hold the master up."""

C = TypeVar("C", bound=Child)


class Phase(Enum):
    LIVES = "lives"
    DUMPS = "writes its stacks"
    LEAVES = "leaves"
    KILLED = "killed"


@dataclass(frozen=True, slots=True)
class Means:
    """What the master does to them."""

    signal: Callable[[Child, int], None]
    forget: Callable[[Child], None]
    """It is no child of ours any more, as far as we are concerned."""


@dataclass(slots=True)
class Life(Generic[C]):
    """One child's. Times are ``time.monotonic()`` seconds."""

    child: C
    born: float
    deadline: float
    phase: Phase = Phase.LIVES
    killed_because: str = ""

    def go_further(self, means: Means, now: float, because: str) -> bool:
        """Its time is over, which is what ``because`` says. Returns whether it is given up."""
        match self.phase:
            case Phase.LIVES:
                self.phase, self.deadline = Phase.DUMPS, now + LAST_WORDS
                self.killed_because = because
                means.signal(self.child, STACK_SIGNAL)
            case Phase.DUMPS | Phase.LEAVES:
                self.kill(means, now)
            case Phase.KILLED:
                means.forget(self.child)
                return True
        return False

    def kill(self, means: Means, now: float) -> None:
        self.phase, self.deadline = Phase.KILLED, now + GIVEN_UP_AFTER
        means.signal(self.child, signal.SIGKILL)

    def ended(self, exit: Exit) -> str:
        """How, in a few words."""
        if self.killed_because:
            return f"was killed: {self.killed_because}"
        if exit.signal:
            return f"was ended by {signals.name(exit.signal)}"
        return f"exited with {exit.code}"

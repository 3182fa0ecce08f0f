"""The record of facts, and the policy it is judged by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from forkserve.supervisor.actions import Departure
from forkserve.supervisor.backoff import Backoff
from forkserve.supervisor.failures import BootFailure
from forkserve.supervisor.phases import Phase

FOREVER = float("inf")


class Preload(Enum):
    """Whether a template imports the app for all workers of a generation."""

    ALWAYS = "always"
    NEVER = "never"
    AUTO = "auto"
    """Yes, unless the template finds something in the app that cannot be shared."""


class Stage(Enum):
    """Where the master is in its own life. It only ever moves down this list."""

    BOOTING = "booting"
    """No worker was ever ready: an app that cannot boot ends the master."""

    SERVING = "serving"
    STOPPING = "stopping"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings that the supervisor decides by. All times in seconds."""

    workers: int = 1
    surge: int = 1
    """How many workers above the target may be starting or ready while replacing."""

    timeout: float = 30.0
    """A ready worker whose loop has not beaten for so long is hung; 0: never."""

    slow_threshold: float = 0.0
    """The loop of a worker of this generation that has not turned for so long is blocked, and
    shows where; 0: nobody looks."""

    boot_timeout: float = 120.0
    """A worker that is not ready after so long is killed; 0: never."""

    graceful_timeout: float = 30.0
    """A draining worker cancels what is left after so long."""

    cutoff_grace: float = 0.8
    """... and is killed so much later."""

    abort_timeout: float = 2.0
    """A worker that leaves before it was ever ready serves nobody, and is killed
    after so long."""

    dump_grace: float = 1.0
    """Between the request for a stack dump and the SIGKILL."""

    kill_retry: float = 5.0
    """A killed process that is still there after so long gets SIGKILL again."""

    spawn_timeout: float = 10.0
    """A template that has not forked a worker so long after it was told to is hung."""

    preload: Preload = Preload.NEVER

    spares: int = 0
    """How many workers are kept ready without accepting."""

    switchboard: bool = False
    """Whether there is one."""

    switchboard_boot_timeout: float = 10.0
    """A switchboard that is not ready after so long is killed: it imports no app."""

    switchboard_timeout: float = 5.0
    """A ready switchboard that has not beaten for so long is hung."""

    handover_timeout: float = 10.0
    """A switchboard that leaves by itself is killed after so long; so is a new master that
    has said why it cannot start."""

    dismissal_grace: float = 1.0
    """A new master that is told to stop is killed so much after the graceful timeout: it has
    workers of its own to bring to an end."""

    most_workers: int = 512
    """The highest target."""

    seed: int = 0
    """Makes the jitter of one instance differ from the next's."""

    @property
    def slots(self) -> int:
        """How many processes there can be at most, those that are leaving included."""
        surge = max(self.surge, self.most_workers // 4)  # which a reload may ask for
        return 2 * (self.most_workers + self.spares) + surge + 1

    @property
    def succession_timeout(self) -> float:
        """Seconds until a new master must be ready: a template and then the workers may take
        the boot timeout each. Infinity: never."""
        return 2 * self.boot_timeout or FOREVER


@dataclass(slots=True)
class Process:
    """What the master knows of one process that it has made."""

    id: int
    generation: int
    phase: Phase
    born: float
    deadline: float
    """When the phase must be over."""

    pid: int | None = None
    """None until the fork has been confirmed."""

    ready_at: float | None = None

    departure: Departure | None = None
    """Why it leaves, once that is known; until then an exit is a crash."""

    killed_at: float | None = None
    """When SIGKILL was last sent."""

    failure: BootFailure | None = None

    @property
    def staying(self) -> bool:
        """Whether it is, or is about to be, of use."""
        return self.phase in (Phase.STARTING, Phase.READY)


@dataclass(slots=True)
class Template(Process):
    """The process that has imported the app and forks workers. It has ids of its own."""


@dataclass(frozen=True, slots=True)
class Blockage:
    """A worker's loop is blocked, and its stacks have been asked for."""

    seconds: float
    """For how long it had not turned then, at least."""

    asked_at: float
    look_at: float
    """When to see whether they are there. Infinity: the blockage has been told."""

    lasted: float | None = None
    """For how long it was blocked, if it turns again before that was told."""

    @property
    def told(self) -> bool:
        return self.look_at == FOREVER


@dataclass(slots=True)
class Worker(Process):
    """One that serves, or is to serve."""

    slot: int = field(kw_only=True)
    template: int | None = None
    """The template that forks it; None for one that the master forks itself."""

    spare: bool = False
    """It does not accept until it is promoted."""

    spent: str = ""
    """Why it wants to be recycled, if it does."""

    beat: float = 0.0
    """When its event loop last turned, as far as is known."""

    slow_threshold: float = 0.0
    """See ``Policy``: its generation's. 0 also once it has no loop any more."""

    watched_from: float = 0.0
    """What its loop did before that does not count as a blockage."""

    blockage: Blockage | None = None
    """Since it was noticed, until the worker says that its loop turns again."""

    slow: bool = False
    """Its handlers hold its loop up."""

    patient: bool = True


@dataclass(slots=True)
class Switchboard(Process):
    """The process where idle connections wait. It has ids of its own, and is of no
    generation (0): its code is not the app's."""

    beat: float = 0.0
    """When its loop last turned, as far as is known."""

    onward: bool = False
    """It passes everything on to the new master's switchboard."""


@dataclass(slots=True)
class Successor(Process):
    """The new master of an upgrade, until it has taken over: then it is its own master. It has
    ids of its own and is of no generation (0)."""


@dataclass(slots=True)
class State:
    """Every fact there is. ``workers``, ``templates`` and ``switchboards`` are ordered by age."""

    target: int
    stage: Stage = Stage.BOOTING
    workers: dict[int, Worker] = field(default_factory=dict)
    templates: dict[int, Template] = field(default_factory=dict)
    switchboards: dict[int, Switchboard] = field(default_factory=dict)
    backoff: Backoff = field(default_factory=Backoff)
    template_backoff: Backoff = field(default_factory=Backoff)
    switchboard_backoff: Backoff = field(default_factory=Backoff)

    direct: frozenset[int] = frozenset()
    """The generations whose workers the master forks itself."""

    current: int = 0
    """The generation that serves; 0 until a worker of the first one was ready."""

    trial: int | None = None
    """The generation that is being tried with a canary, if any."""

    newest: int = 0
    """The highest generation number given so far."""

    proposed: Policy | None = None
    """What to decide by once the generation on trial is accepted."""

    deaths_in_trial: int = 0
    """Processes of the trial that something killed before they were ready."""

    last_id: int = 0
    last_template: int = 0
    last_switchboard: int = 0
    last_successor: int = 0

    upgrade_wanted: bool = False
    """... and not begun yet."""

    successor: Successor | None = None
    succeeded_by: int | None = None
    """The pid of the new master that has taken over; the stop is for its sake."""

    has_onward_way: bool = False
    """Its switchboard takes what ours holds."""

    waiting_policy: Policy | None = None
    """What the reload that waits brings."""

    reload_waits: bool = False
    """One was asked for while the new master was starting."""

    predecessor: int | None = None
    """The pid of the old master, until it is gone."""

    replaced: int | None = None
    """... and for ever."""

    borrowed: bool = False
    """It has not left the service to us yet: its workers accept too."""

    parking: bool = False
    """Some worker is slow, so that idle connections wait at the switchboard."""

    started_at: float = 0.0
    all_ready_once: bool = False
    reload_began: float | None = None
    stop_began: float | None = None
    interrupts: int = 0
    exit_code: int = 0

    @property
    def stopping(self) -> bool:
        return self.stage in (Stage.STOPPING, Stage.STOPPED)

    @property
    def others_accept(self) -> bool:
        """Whether another master's workers go on with the same listen queue."""
        return self.borrowed or self.succeeded_by is not None

    @property
    def wanted_generation(self) -> int:
        """The generation that ordinary workers should be of."""
        return self.current or self.newest

    def staying(self) -> list[Worker]:
        return [w for w in self.workers.values() if w.staying]

    def processes(self) -> list[Process]:
        """Everybody, workers first."""
        successors = [self.successor] if self.successor else []
        return [
            *self.workers.values(),
            *self.templates.values(),
            *self.switchboards.values(),
            *successors,
        ]

    def serving(self) -> list[Worker]:
        """The workers that accept."""
        return [w for w in self.workers.values() if w.phase is Phase.READY and not w.spare]

    def template_of(self, generation: int) -> Template | None:
        """The template that forks, or will fork, workers of ``generation``."""
        made = [t for t in self.templates.values() if t.staying and t.generation == generation]
        return made[0] if made else None

    def in_phase(self, phase: Phase) -> list[Worker]:
        return [w for w in self.workers.values() if w.phase is phase]

    def leaving(self) -> int:
        return sum(not w.staying for w in self.workers.values())

    def free_slots(self) -> Iterator[int]:
        """Slots nobody uses, the lowest first."""
        taken = {w.slot for w in self.workers.values()}
        return (slot for slot in range(len(taken) + 1) if slot not in taken)

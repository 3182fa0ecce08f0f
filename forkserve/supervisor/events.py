"""What can happen to the master. Every event carries the time it was seen.

``now`` is always ``time.monotonic()`` of the master, in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from forkserve.supervisor.failures import BootFailure

if TYPE_CHECKING:
    from forkserve.supervisor.state import Policy


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at ``now`` (monotonic seconds)."""

    now: float


# What the user or the operating system asks of the master.


@dataclass(frozen=True, slots=True)
class Started(Event):
    """The master has its listeners and begins.

    ``predecessor``: the pid of the master that it is to replace, in an upgrade. The listeners
    are that one's too, until ``TakenOver``.
    """

    predecessor: int | None = None


@dataclass(frozen=True, slots=True)
class ReloadRequested(Event):
    """Replace every worker by one with the code that is on disk now (SIGHUP)."""

    policy: Policy | None = None
    """What to decide by from then on, if the new generation can serve; None: as before."""


@dataclass(frozen=True, slots=True)
class SettingsRejected(Event):
    """A reload was asked for, and the settings cannot be used."""

    failure: BootFailure


@dataclass(frozen=True, slots=True)
class UpgradeRequested(Event):
    """Replace the master itself, and so everybody, by one that is started anew (SIGUSR2)."""


@dataclass(frozen=True, slots=True)
class ScaleRequested(Event):
    """So many workers more or, below zero, fewer (SIGTTIN, SIGTTOU)."""

    by: int


@dataclass(frozen=True, slots=True)
class TargetRequested(Event):
    """So many workers, however many are wanted now."""

    workers: int


@dataclass(frozen=True, slots=True)
class RecycleRequested(Event):
    """Replace this worker, or all that there are, by others of the same generation."""

    worker_id: int | None = None
    """None: all."""


@dataclass(frozen=True, slots=True)
class TerminateRequested(Event):
    """Stop gracefully (SIGTERM); ``because`` names who asked, for the log."""

    because: str = "SIGTERM"


@dataclass(frozen=True, slots=True)
class InterruptRequested(Event):
    """Ctrl-C (SIGINT): stop gracefully the first time, at once the second."""


@dataclass(frozen=True, slots=True)
class QuitRequested(Event):
    """Stop at once (SIGQUIT)."""


@dataclass(frozen=True, slots=True)
class Resumed(Event):
    """The master itself had been stopped and goes on (SIGCONT)."""


@dataclass(frozen=True, slots=True)
class Alarm(Event):
    """A deadline has passed.

    ``beats`` holds the last heartbeat of each worker, by worker id, as the
    scoreboard showed it at ``now``; workers that have not beaten, or that have no loop any
    more, are left out.
    ``switchboard_beat`` is the switchboard's; 0.0: none beats.
    """

    beats: Mapping[int, float] = field(default_factory=dict)
    switchboard_beat: float = 0.0


# What came of a Fork action.


@dataclass(frozen=True, slots=True)
class Forked(Event):
    """The worker exists, as this process."""

    worker_id: int
    pid: int


@dataclass(frozen=True, slots=True)
class ForkFailed(Event):
    """The operating system refused the fork (EAGAIN, ENOMEM, EMFILE)."""

    worker_id: int
    error: str


@dataclass(frozen=True, slots=True)
class ForkLost(Event):
    """The template ended before it had forked the worker."""

    worker_id: int


@dataclass(frozen=True, slots=True)
class TemplateForked(Event):
    """The template exists, as this process."""

    template_id: int
    pid: int


@dataclass(frozen=True, slots=True)
class TemplateForkFailed(Event):
    """The operating system refused the template's fork."""

    template_id: int
    error: str


# What a worker says, and how it ends.


@dataclass(frozen=True, slots=True)
class WorkerReady(Event):
    """Lifespan startup is complete and the worker accepts connections."""

    worker_id: int


@dataclass(frozen=True, slots=True)
class WorkerBootFailed(Event):
    """The worker's app could not be imported or started; the worker will exit."""

    worker_id: int
    failure: BootFailure


@dataclass(frozen=True, slots=True)
class WorkerBootExtended(Event):
    """The worker needs up to ``seconds`` more, from now, until it is ready."""

    worker_id: int
    seconds: float


@dataclass(frozen=True, slots=True)
class WorkerSpent(Event):
    """The worker serves on and wants to be recycled."""

    worker_id: int
    because: str


@dataclass(frozen=True, slots=True)
class WorkerSlow(Event):
    """The worker's handlers hold its loop up, or do not any more."""

    worker_id: int
    slow: bool


@dataclass(frozen=True, slots=True)
class StacksRead(Event):
    """What came of a ``ReadStacks``: what the worker's fault handler has written since
    ``DumpStacks``, or empty."""

    worker_id: int
    stack: str


@dataclass(frozen=True, slots=True)
class WorkerUnblocked(Event):
    """The worker's loop turns again; it was blocked for at least ``seconds``."""

    worker_id: int
    seconds: float


@dataclass(frozen=True, slots=True)
class WorkerLeaving(Event):
    """The worker drains without having been asked by the master (TERM by hand)."""

    worker_id: int


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: its exit code or, negative, the signal that killed it.

    The convention of :attr:`subprocess.Popen.returncode`.
    """

    code: int

    oom: bool | None = None
    """Of a SIGKILL that the master has not sent: whether it was the kernel's OOM killer's, as
    far as can be told. None: of another end, or where there is no telling."""

    peak: int = 0
    """The most memory that the process ever had resident, in bytes, if that was the reason."""

    limit: int = 0
    """... and the limit of its cgroup; 0: none, or unknown."""

    @property
    def signal(self) -> int | None:
        """The number of the signal that killed the process, if one did."""
        return -self.code if self.code < 0 else None


@dataclass(frozen=True, slots=True)
class WorkerExited(Event):
    """The worker is gone and has been waited for: before anybody has said its pid, perhaps."""

    worker_id: int
    exit: Exit
    stack: str = ""
    """What the worker's fault handler wrote before the end, if anything."""


# What a template says, and how it ends.


@dataclass(frozen=True, slots=True)
class TemplateReady(Event):
    """The app is imported; workers can be forked from it."""

    template_id: int


@dataclass(frozen=True, slots=True)
class TemplateUnfit(Event):
    """The app is imported, holds what cannot be shared, and the template will exit."""

    template_id: int
    findings: str


@dataclass(frozen=True, slots=True)
class TemplateBootFailed(Event):
    """The app could not be imported; the template will exit."""

    template_id: int
    failure: BootFailure


@dataclass(frozen=True, slots=True)
class TemplateBootExtended(Event):
    """The template needs up to ``seconds`` more, from now, until it is ready."""

    template_id: int
    seconds: float


@dataclass(frozen=True, slots=True)
class TemplateExited(Event):
    """The template is gone and has been waited for. Its workers live on."""

    template_id: int
    exit: Exit
    stack: str = ""


# What a switchboard says, and how it ends.


@dataclass(frozen=True, slots=True)
class SwitchboardForked(Event):
    """The switchboard exists, as this process."""

    switchboard_id: int
    pid: int


@dataclass(frozen=True, slots=True)
class SwitchboardForkFailed(Event):
    """The operating system refused the switchboard's fork."""

    switchboard_id: int
    error: str


@dataclass(frozen=True, slots=True)
class SwitchboardReady(Event):
    """It takes connections."""

    switchboard_id: int


@dataclass(frozen=True, slots=True)
class SwitchboardLeaving(Event):
    """It waits for a successor, to give back what it holds, without having been asked by
    the master (TERM by hand)."""

    switchboard_id: int


@dataclass(frozen=True, slots=True)
class SwitchboardExited(Event):
    """It is gone and has been waited for. What was in the queues is still there."""

    switchboard_id: int
    exit: Exit
    stack: str = ""


# What the new master of an upgrade says, and how it ends.


@dataclass(frozen=True, slots=True)
class SuccessorForked(Event):
    """It exists, as this process, and is still to be executed."""

    successor_id: int
    pid: int


@dataclass(frozen=True, slots=True)
class SuccessorForkFailed(Event):
    """The operating system refused its fork."""

    successor_id: int
    error: str


@dataclass(frozen=True, slots=True)
class SuccessorReady(Event):
    """All its workers are ready. ``switchboard``: it has one, which takes connections."""

    successor_id: int
    switchboard: bool


@dataclass(frozen=True, slots=True)
class SuccessorExtended(Event):
    """It needs up to ``seconds`` more, from now, until it is ready."""

    successor_id: int
    seconds: float


@dataclass(frozen=True, slots=True)
class SuccessorFailed(Event):
    """It cannot be executed or cannot start; it will exit."""

    successor_id: int
    failure: BootFailure


@dataclass(frozen=True, slots=True)
class SuccessorExited(Event):
    """It is gone and has been waited for."""

    successor_id: int
    exit: Exit


# What the old master says to the new one.


@dataclass(frozen=True, slots=True)
class TakenOver(Event):
    """The old master leaves: the listeners are ours alone."""


@dataclass(frozen=True, slots=True)
class PredecessorGone(Event):
    """The old master has exited or, if it had not left the service to us, died."""

"""What the supervisor can want done.

*Deeds* change the world; *notes* are facts for the log. Both are returned in the
order in which they are to be performed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from forkserve.supervisor.events import Exit
from forkserve.supervisor.failures import BootFailure


@dataclass(frozen=True, slots=True)
class Action:
    """Something for the master to do."""


# Deeds.


@dataclass(frozen=True, slots=True)
class Fork(Action):
    """Make a worker. The result is ``Forked``, ``ForkFailed`` or ``ForkLost``.

    ``template``: the one that forks it; None: the master does. ``spare``: it shall not
    accept before it is promoted.
    """

    worker_id: int
    generation: int
    slot: int
    template: int | None = None
    spare: bool = False


@dataclass(frozen=True, slots=True)
class Promote(Action):
    """Have a spare accept from now on."""

    worker_id: int
    pid: int


@dataclass(frozen=True, slots=True)
class ForkTemplate(Action):
    """Make a template. The result is ``TemplateForked`` or ``TemplateForkFailed``."""

    template_id: int
    generation: int


@dataclass(frozen=True, slots=True)
class DismissTemplate(Action):
    """Ask a template to leave: it serves nobody, so it need not finish anything."""

    template_id: int
    pid: int


@dataclass(frozen=True, slots=True)
class DumpTemplate(Action):
    """Have a template's fault handler write its Python stacks."""

    template_id: int
    pid: int


@dataclass(frozen=True, slots=True)
class KillTemplate(Action):
    """SIGKILL."""

    template_id: int
    pid: int


@dataclass(frozen=True, slots=True)
class ForkSwitchboard(Action):
    """Make a switchboard. The result is ``SwitchboardForked`` or ``SwitchboardForkFailed``."""

    switchboard_id: int


@dataclass(frozen=True, slots=True)
class DismissSwitchboard(Action):
    """The service stops: have a switchboard give the workers what it holds, and leave."""

    switchboard_id: int
    pid: int


@dataclass(frozen=True, slots=True)
class DumpSwitchboard(Action):
    """Have a switchboard's fault handler write its Python stacks."""

    switchboard_id: int
    pid: int


@dataclass(frozen=True, slots=True)
class KillSwitchboard(Action):
    """SIGKILL."""

    switchboard_id: int
    pid: int


@dataclass(frozen=True, slots=True)
class ForwardSwitchboard(Action):
    """Have a switchboard pass all that it holds on to the new master's, until it is dismissed."""

    switchboard_id: int
    pid: int


@dataclass(frozen=True, slots=True)
class ForkMaster(Action):
    """Start the new master of an upgrade. The result is ``SuccessorForked`` or
    ``SuccessorForkFailed``."""

    successor_id: int


@dataclass(frozen=True, slots=True)
class DismissMaster(Action):
    """Have a new master that has not taken over stop, gracefully or ``at_once``."""

    successor_id: int
    pid: int
    at_once: bool = False


@dataclass(frozen=True, slots=True)
class KillMaster(Action):
    """SIGKILL, for a new master that has not taken over."""

    successor_id: int
    pid: int


@dataclass(frozen=True, slots=True)
class HandOver(Action):
    """Leave the service to the new master."""

    successor_id: int
    pid: int


@dataclass(frozen=True, slots=True)
class PassReloadOn(Action):
    """The new master shall reload: that was asked for while it was starting."""

    pid: int


@dataclass(frozen=True, slots=True)
class ReportReady(Action):
    """Tell the old master that this one can take over."""


@dataclass(frozen=True, slots=True)
class Drain(Action):
    """Ask a worker to finish what it has accepted and to leave.

    ``patient``: idle keep-alive connections stay open for the keep-alive time, so
    that a request already on its way is answered. Otherwise they close at once.
    """

    worker_id: int
    pid: int
    patient: bool = True


@dataclass(frozen=True, slots=True)
class DumpStacks(Action):
    """Have a worker's fault handler write its Python stacks."""

    worker_id: int
    pid: int


@dataclass(frozen=True, slots=True)
class ReadStacks(Action):
    """Take what a worker's fault handler has written. The result is ``StacksRead``."""

    worker_id: int


@dataclass(frozen=True, slots=True)
class Kill(Action):
    """SIGKILL."""

    worker_id: int
    pid: int


@dataclass(frozen=True, slots=True)
class CloseListeners(Action):
    """The master lets go of its listening sockets; the workers keep theirs.

    ``others_accept``: another master's workers go on with the same queue. Otherwise nobody
    is let in any more, and those who wait there are for the workers that leave.
    """

    others_accept: bool = False


@dataclass(frozen=True, slots=True)
class Leave(Action):
    """The master exits: nobody is left."""

    code: int


# Notes.


@dataclass(frozen=True, slots=True)
class Note(Action):
    """A fact for the log."""


class Departure(Enum):
    """Why a worker went."""

    CRASHED = "crashed"
    FAILED_TO_BOOT = "failed to boot"
    BOOT_TIMED_OUT = "was not ready in time"
    HUNG = "hung"
    DRAINED = "drained"
    CUT_OFF = "did not drain in time"
    LEFT = "left by itself"
    NOT_NEEDED = "not needed any more"
    UNFIT = "the app cannot be shared"


@dataclass(frozen=True, slots=True)
class WorkerServes(Note):
    """A worker became ready, ``after`` seconds from its fork."""

    worker_id: int
    after: float
    ready: int
    target: int


@dataclass(frozen=True, slots=True)
class SpareReady(Note):
    """A spare became ready, ``after`` seconds from its fork; it does not accept yet."""

    worker_id: int
    after: float


@dataclass(frozen=True, slots=True)
class SparePromoted(Note):
    """A spare accepts from now on, in the place of one that is gone."""

    worker_id: int
    ready: int
    target: int


@dataclass(frozen=True, slots=True)
class WorkerWorn(Note):
    """A worker will be recycled: its replacement is made first."""

    worker_id: int
    because: str


@dataclass(frozen=True, slots=True)
class BootExtended(Note):
    """A worker or, if ``worker_id`` is None, a template says that it needs longer."""

    worker_id: int | None
    template_id: int | None
    seconds: float


@dataclass(frozen=True, slots=True)
class WorkerOverdue(Note):
    """A worker will be killed: hung, not ready in time, or not drained in time."""

    worker_id: int
    departure: Departure
    limit: float


@dataclass(frozen=True, slots=True)
class LoopBlocked(Note):
    """A worker's loop had not turned for ``seconds``, when its stacks were asked for. Nothing
    is done to the worker."""

    worker_id: int
    seconds: float
    stack: str
    """Empty if it could not be had."""


@dataclass(frozen=True, slots=True)
class LoopTurns(Note):
    """... and now it turns again: it was blocked for at least ``seconds`` altogether."""

    worker_id: int
    seconds: float


@dataclass(frozen=True, slots=True)
class WorkerImmortal(Note):
    """SIGKILL was sent a while ago and the process is still there."""

    worker_id: int


@dataclass(frozen=True, slots=True)
class WorkerLeaves(Note):
    """A worker was asked to leave, or leaves by itself."""

    worker_id: int
    because: str


@dataclass(frozen=True, slots=True)
class WorkerGone(Note):
    """A worker's end, and what happens next."""

    worker_id: int
    departure: Departure
    exit: Exit
    age: float
    planned: bool
    stack: str = ""
    failure: BootFailure | None = None
    next: str = ""


@dataclass(frozen=True, slots=True)
class TemplateServes(Note):
    """A template can fork workers, ``after`` seconds from its own fork."""

    template_id: int
    after: float


@dataclass(frozen=True, slots=True)
class TemplateRejected(Note):
    """The app cannot be shared: each worker of the generation imports it by itself."""

    template_id: int
    generation: int
    findings: str


@dataclass(frozen=True, slots=True)
class TemplateOverdue(Note):
    """A template will be killed: not ready in time, or it does not fork."""

    template_id: int
    departure: Departure
    limit: float


@dataclass(frozen=True, slots=True)
class TemplateGone(Note):
    """A template's end, and what happens next. Its workers live on."""

    template_id: int
    departure: Departure
    exit: Exit
    age: float
    planned: bool
    stack: str = ""
    failure: BootFailure | None = None
    next: str = ""


@dataclass(frozen=True, slots=True)
class SwitchboardServes(Note):
    """A switchboard takes connections, ``after`` seconds from its fork."""

    switchboard_id: int
    after: float


@dataclass(frozen=True, slots=True)
class SwitchboardLeaves(Note):
    """A switchboard leaves by itself; its successor is being made."""

    switchboard_id: int


@dataclass(frozen=True, slots=True)
class SwitchboardOverdue(Note):
    """A switchboard will be killed: hung, not ready in time, or not gone in time."""

    switchboard_id: int
    departure: Departure
    limit: float


@dataclass(frozen=True, slots=True)
class SwitchboardGone(Note):
    """A switchboard's end, and what happens next."""

    switchboard_id: int
    departure: Departure
    exit: Exit
    age: float
    planned: bool
    stack: str = ""
    next: str = ""


@dataclass(frozen=True, slots=True)
class ParkingBegins(Note):
    """Handlers of this worker are slow, the first that are: idle connections of all workers
    wait at the switchboard from now on."""

    worker_id: int


@dataclass(frozen=True, slots=True)
class ParkingEnds(Note):
    """No worker's handlers are slow any more: connections stay with their worker."""


@dataclass(frozen=True, slots=True)
class ForkRefused(Note):
    """The operating system refused a fork; it is tried again in ``delay`` seconds."""

    error: str
    delay: float


@dataclass(frozen=True, slots=True)
class BackingOff(Note):
    """Workers die young again and again, or there is too little memory for them; the next
    one waits ``delay`` seconds."""

    delay: float
    rounds: int
    out_of_memory: bool = False


@dataclass(frozen=True, slots=True)
class AllReady(Note):
    """Every wanted worker is ready for the first time."""

    workers: int
    after: float


@dataclass(frozen=True, slots=True)
class ReloadBegins(Note):
    """A new generation is tried with one worker; the old one keeps serving."""

    generation: int
    serving: int | None
    superseded: int | None


@dataclass(frozen=True, slots=True)
class GenerationAccepted(Note):
    """The canary is ready: the generation counts from now on."""

    generation: int
    canary: int
    to_replace: int
    surge: int


@dataclass(frozen=True, slots=True)
class ReloadDone(Note):
    """Every worker is of the new generation."""

    generation: int
    workers: int
    after: float


@dataclass(frozen=True, slots=True)
class GenerationDropped(Note):
    """The new generation cannot boot; the old one keeps serving."""

    generation: int
    serving: int
    failure: BootFailure


@dataclass(frozen=True, slots=True)
class ReloadRefused(Note):
    """A reload was asked for, and there is nothing to be tried: the settings are wrong."""

    serving: int
    failure: BootFailure


@dataclass(frozen=True, slots=True)
class FirstBootFailed(Note):
    """No worker was ever ready and the app cannot boot: the master gives up."""

    failure: BootFailure


@dataclass(frozen=True, slots=True)
class Scaled(Note):
    """Another number of workers is wanted."""

    target: int
    before: int


@dataclass(frozen=True, slots=True)
class ScaleRefused(Note):
    """The wanted number of workers is out of bounds; nothing changed."""

    target: int
    lowest: int
    highest: int


@dataclass(frozen=True, slots=True)
class Ignored(Note):
    """A request that makes no sense now, and why."""

    request: str
    because: str


@dataclass(frozen=True, slots=True)
class Waits(Note):
    """A request is remembered and cannot be met yet, and why."""

    request: str
    because: str


@dataclass(frozen=True, slots=True)
class UpgradeBegins(Note):
    """A new master is started, as this process; this one serves on."""

    pid: int


@dataclass(frozen=True, slots=True)
class UpgradeFailed(Note):
    """The new master cannot take over, and this one serves on. ``pid``: None if there never
    was one."""

    pid: int | None
    failure: BootFailure


@dataclass(frozen=True, slots=True)
class UpgradeDone(Note):
    """The new master has taken over, and this one leaves. ``limit``: seconds until what is
    left here is killed."""

    pid: int
    after: float
    workers: int
    limit: float


@dataclass(frozen=True, slots=True)
class MasterOverdue(Note):
    """A new master that was told to leave will be killed."""

    successor_id: int
    departure: Departure
    limit: float


@dataclass(frozen=True, slots=True)
class MasterGone(Note):
    """The end of a new master. ``served``: it had taken over, and nobody comes after it."""

    pid: int
    exit: Exit
    served: bool


@dataclass(frozen=True, slots=True)
class TookOver(Note):
    """The old master, of pid ``predecessor``, has left the service to this one."""

    predecessor: int
    workers: int


@dataclass(frozen=True, slots=True)
class PredecessorLeft(Note):
    """The old master is gone; ``died``: before it had left the service to this one."""

    predecessor: int
    died: bool


@dataclass(frozen=True, slots=True)
class Stopping(Note):
    """The master stops. ``limit``: seconds until what is left is killed."""

    because: str
    workers: int
    limit: float


@dataclass(frozen=True, slots=True)
class LivenessExcused(Note):
    """The master was not running itself, so nobody is judged by missing beats this round."""

    late: float


@dataclass(frozen=True, slots=True)
class Stopped(Note):
    """Everyone has left."""

    code: int
    after: float

"""What children say, as the events that the supervisor hears of.

One message, one event. What is not for the supervisor, or not for it alone, is in the master's
loop.
"""

from __future__ import annotations

from forkserve.channel import (
    BootExtended,
    BootFailed,
    CanTakeOver,
    Leaving,
    Message,
    Ready,
    Slow,
    Spent,
    Unblocked,
    Unfit,
)
from forkserve.master.family import (
    Child,
    MasterChild,
    SwitchboardChild,
    TemplateChild,
    WorkerChild,
)
from forkserve.supervisor import events as on
from forkserve.supervisor.events import Event
from forkserve.supervisor.failures import BootFailure


def event_of(child: Child, message: Message, now: float) -> Event | None:
    """None: the supervisor is not to hear that ``child`` has said this."""
    match child:
        case WorkerChild(id=id):
            return _of_worker(id, message, now)
        case TemplateChild(id=id):
            return _of_template(id, message, now)
        case SwitchboardChild(id=id):
            return _of_switchboard(id, message, now)
        case MasterChild(id=id):
            return _of_successor(id, message, now)
    return None


def _of_worker(id: int, message: Message, now: float) -> Event | None:
    match message:
        case Ready():
            return on.WorkerReady(now, id)
        case Leaving():
            return on.WorkerLeaving(now, id)
        case Spent(because):
            return on.WorkerSpent(now, id, because)
        case Slow(slow):
            return on.WorkerSlow(now, id, bool(slow))
        case Unblocked(seconds):
            return on.WorkerUnblocked(now, id, seconds)
        case BootExtended(seconds):
            return on.WorkerBootExtended(now, id, seconds)
        case BootFailed():
            return on.WorkerBootFailed(now, id, failure_of(message))
    return None


def _of_template(id: int, message: Message, now: float) -> Event | None:
    match message:
        case Ready():
            return on.TemplateReady(now, id)
        case Unfit(findings):
            return on.TemplateUnfit(now, id, findings)
        case BootExtended(seconds):
            return on.TemplateBootExtended(now, id, seconds)
        case BootFailed():
            return on.TemplateBootFailed(now, id, failure_of(message))
    return None


def _of_switchboard(id: int, message: Message, now: float) -> Event | None:
    match message:
        case Ready():
            return on.SwitchboardReady(now, id)
        case Leaving():
            return on.SwitchboardLeaving(now, id)
    return None


def _of_successor(id: int, message: Message, now: float) -> Event | None:
    match message:
        case CanTakeOver(switchboard):
            return on.SuccessorReady(now, id, bool(switchboard))
        case BootExtended(seconds):
            return on.SuccessorExtended(now, id, seconds)
        case BootFailed():
            return on.SuccessorFailed(now, id, failure_of(message))
    return None


def failure_of(said: BootFailed) -> BootFailure:
    return BootFailure(said.headline, said.where, said.details)

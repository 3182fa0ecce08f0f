"""The vocabulary of the stories: events in, actions out, one row each.

A row reads ``at(when, what happens, *what the supervisor does)``. Deeds are given
as they must be, notes by their type, both in the order in which they come. The
process of worker 7 is always pid 1007, that of template 7 pid 2007, that of switchboard 7
pid 3007, that of the seventh new master 4007.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from forkserve.supervisor import actions as do
from forkserve.supervisor import events as on
from forkserve.supervisor.actions import Action, Note
from forkserve.supervisor.brain import Supervisor
from forkserve.supervisor.events import Event, Exit
from forkserve.supervisor.failures import BootFailure
from forkserve.supervisor.state import FOREVER, Policy, Preload

Happening = Callable[[float], Event]
Expected = Action | type[Note]
N = TypeVar("N", bound=Note)

OOM_KILLED = Exit(-9, oom=True)

FAILURE = BootFailure("ImportError: no module named 'demo'", "demo_app.py:3")


def pid_of(worker_id: int) -> int:
    return 1000 + worker_id


def template_pid_of(template_id: int) -> int:
    return 2000 + template_id


def board_pid_of(switchboard_id: int) -> int:
    return 3000 + switchboard_id


def successor_pid_of(successor_id: int) -> int:
    return 4000 + successor_id


PREDECESSOR = 5000
"""The pid of the master that one which has just been started is to replace."""

# What happens. Those without arguments are used as they stand: ``at(0, start, ...)``.


def start(now: float) -> Event:
    return on.Started(now)


def reload(now: float) -> Event:
    return on.ReloadRequested(now)


def reload_with(policy: Policy) -> Happening:
    return lambda now: on.ReloadRequested(now, policy)


def ttin(now: float) -> Event:
    return on.ScaleRequested(now, +1)


def ttou(now: float) -> Event:
    return on.ScaleRequested(now, -1)


def wants(workers: int) -> Happening:
    return lambda now: on.TargetRequested(now, workers)


def recycle(worker_id: int | None = None) -> Happening:
    return lambda now: on.RecycleRequested(now, worker_id)


def term(now: float) -> Event:
    return on.TerminateRequested(now)


def interrupt(now: float) -> Event:
    return on.InterruptRequested(now)


def quit_(now: float) -> Event:
    return on.QuitRequested(now)


def resumed(now: float) -> Event:
    return on.Resumed(now)


def alarm(*beating: int, board: bool = False) -> Happening:
    """A deadline has passed; the loops of these workers have just turned, and with
    ``board`` that of the switchboard."""
    return lambda now: on.Alarm(now, dict.fromkeys(beating, now), now if board else 0.0)


def beats(last: Mapping[int, float]) -> Happening:
    """A deadline has passed; these workers' loops turned last at those times."""
    return lambda now: on.Alarm(now, last)


def stacks_read(worker_id: int, stack: str = "in crunch") -> Happening:
    return lambda now: on.StacksRead(now, worker_id, stack)


def unblocked(worker_id: int, seconds: float = 2.0) -> Happening:
    return lambda now: on.WorkerUnblocked(now, worker_id, seconds)


def born(worker_id: int) -> Happening:
    return lambda now: on.Forked(now, worker_id, pid_of(worker_id))


def refused(worker_id: int) -> Happening:
    return lambda now: on.ForkFailed(now, worker_id, "EAGAIN")


def ready(worker_id: int) -> Happening:
    return lambda now: on.WorkerReady(now, worker_id)


def boot_fails(worker_id: int) -> Happening:
    return lambda now: on.WorkerBootFailed(now, worker_id, FAILURE)


def leaving(worker_id: int) -> Happening:
    return lambda now: on.WorkerLeaving(now, worker_id)


def exits(worker_id: int, code: int = 0) -> Happening:
    """An exit code or, negative, a signal."""
    return lambda now: on.WorkerExited(now, worker_id, Exit(code))


def is_oom_killed(worker_id: int) -> Happening:
    """... by the OOM killer."""
    return lambda now: on.WorkerExited(now, worker_id, OOM_KILLED)


def lost(worker_id: int) -> Happening:
    return lambda now: on.ForkLost(now, worker_id)


def spent(worker_id: int) -> Happening:
    return lambda now: on.WorkerSpent(now, worker_id, "it has answered 1000 requests")


def extended(worker_id: int, seconds: float) -> Happening:
    return lambda now: on.WorkerBootExtended(now, worker_id, seconds)


def template_born(template_id: int) -> Happening:
    return lambda now: on.TemplateForked(now, template_id, template_pid_of(template_id))


def template_refused(template_id: int) -> Happening:
    return lambda now: on.TemplateForkFailed(now, template_id, "EAGAIN")


def template_ready(template_id: int) -> Happening:
    return lambda now: on.TemplateReady(now, template_id)


def template_extended(template_id: int, seconds: float) -> Happening:
    return lambda now: on.TemplateBootExtended(now, template_id, seconds)


def unfit(template_id: int) -> Happening:
    return lambda now: on.TemplateUnfit(now, template_id, "the thread loader")


def template_boot_fails(template_id: int) -> Happening:
    return lambda now: on.TemplateBootFailed(now, template_id, FAILURE)


def template_exits(template_id: int, code: int = 0) -> Happening:
    return lambda now: on.TemplateExited(now, template_id, Exit(code))


def template_is_oom_killed(template_id: int) -> Happening:
    return lambda now: on.TemplateExited(now, template_id, OOM_KILLED)


def slow(worker_id: int) -> Happening:
    return lambda now: on.WorkerSlow(now, worker_id, slow=True)


def fast(worker_id: int) -> Happening:
    return lambda now: on.WorkerSlow(now, worker_id, slow=False)


def board_born(switchboard_id: int) -> Happening:
    return lambda now: on.SwitchboardForked(now, switchboard_id, board_pid_of(switchboard_id))


def board_refused(switchboard_id: int) -> Happening:
    return lambda now: on.SwitchboardForkFailed(now, switchboard_id, "EAGAIN")


def board_ready(switchboard_id: int) -> Happening:
    return lambda now: on.SwitchboardReady(now, switchboard_id)


def board_leaving(switchboard_id: int) -> Happening:
    return lambda now: on.SwitchboardLeaving(now, switchboard_id)


def board_exits(switchboard_id: int, code: int = 0) -> Happening:
    return lambda now: on.SwitchboardExited(now, switchboard_id, Exit(code))


def upgrade(now: float) -> Event:
    return on.UpgradeRequested(now)


def start_beside(now: float) -> Event:
    """Like ``start``, to replace another master."""
    return on.Started(now, PREDECESSOR)


def taken_over(now: float) -> Event:
    return on.TakenOver(now)


def predecessor_gone(now: float) -> Event:
    return on.PredecessorGone(now)


def successor_born(successor_id: int) -> Happening:
    return lambda now: on.SuccessorForked(now, successor_id, successor_pid_of(successor_id))


def successor_refused(successor_id: int) -> Happening:
    return lambda now: on.SuccessorForkFailed(now, successor_id, "EAGAIN")


def successor_ready(successor_id: int, *, switchboard: bool = True) -> Happening:
    return lambda now: on.SuccessorReady(now, successor_id, switchboard)


def successor_extended(successor_id: int, seconds: float) -> Happening:
    return lambda now: on.SuccessorExtended(now, successor_id, seconds)


def successor_fails(successor_id: int) -> Happening:
    return lambda now: on.SuccessorFailed(now, successor_id, FAILURE)


def successor_exits(successor_id: int, code: int = 0) -> Happening:
    return lambda now: on.SuccessorExited(now, successor_id, Exit(code))


# What the supervisor does.


def fork(
    worker_id: int,
    generation: int = 1,
    slot: int | None = None,
    *,
    by: int | None = None,
    spare: bool = False,
) -> Action:
    """A slot that is not given is the one that worker has if nobody ever left.

    ``by``: the template that forks it.
    """
    return do.Fork(worker_id, generation, worker_id - 1 if slot is None else slot, by, spare)


def promote(worker_id: int) -> Action:
    return do.Promote(worker_id, pid_of(worker_id))


def fork_template(template_id: int, generation: int) -> Action:
    return do.ForkTemplate(template_id, generation)


def dismiss(template_id: int) -> Action:
    return do.DismissTemplate(template_id, template_pid_of(template_id))


def dump_template(template_id: int) -> Action:
    return do.DumpTemplate(template_id, template_pid_of(template_id))


def kill_template(template_id: int) -> Action:
    return do.KillTemplate(template_id, template_pid_of(template_id))


def fork_board(switchboard_id: int) -> Action:
    return do.ForkSwitchboard(switchboard_id)


def dismiss_board(switchboard_id: int) -> Action:
    return do.DismissSwitchboard(switchboard_id, board_pid_of(switchboard_id))


def dump_board(switchboard_id: int) -> Action:
    return do.DumpSwitchboard(switchboard_id, board_pid_of(switchboard_id))


def kill_board(switchboard_id: int) -> Action:
    return do.KillSwitchboard(switchboard_id, board_pid_of(switchboard_id))


def drain(worker_id: int, *, patient: bool = True) -> Action:
    return do.Drain(worker_id, pid_of(worker_id), patient)


def dump(worker_id: int) -> Action:
    return do.DumpStacks(worker_id, pid_of(worker_id))


def read_stacks(worker_id: int) -> Action:
    return do.ReadStacks(worker_id)


def kill(worker_id: int) -> Action:
    return do.Kill(worker_id, pid_of(worker_id))


def forward_board(switchboard_id: int) -> Action:
    return do.ForwardSwitchboard(switchboard_id, board_pid_of(switchboard_id))


def fork_master(successor_id: int) -> Action:
    return do.ForkMaster(successor_id)


def dismiss_master(successor_id: int, *, at_once: bool = False) -> Action:
    return do.DismissMaster(successor_id, successor_pid_of(successor_id), at_once)


def kill_master(successor_id: int) -> Action:
    return do.KillMaster(successor_id, successor_pid_of(successor_id))


def hand_over(successor_id: int) -> Action:
    return do.HandOver(successor_id, successor_pid_of(successor_id))


def pass_reload_on(successor_id: int) -> Action:
    return do.PassReloadOn(successor_pid_of(successor_id))


report_ready = do.ReportReady()
close = do.CloseListeners()
close_for_others = do.CloseListeners(others_accept=True)


def leave(code: int = 0) -> Action:
    return do.Leave(code)


# The teller.


@dataclass(frozen=True)
class Row:
    when: float
    happening: Happening
    expected: tuple[Expected, ...]


def at(when: float, happening: Happening, *expected: Expected) -> Row:
    return Row(when, happening, expected)


class Story:
    """A supervisor and what has happened to it so far."""

    def __init__(self, policy: Policy) -> None:
        self.brain = Supervisor(policy)
        self.said: list[Action] = []
        """What it did at the last event."""

    def tell(self, *rows: Row) -> Story:
        for row in rows:
            event = row.happening(row.when)
            if isinstance(event, on.Alarm):
                assert self.brain.next_deadline() <= row.when, f"no alarm is due at {row.when}"
            self.said = self.brain.handle(event)
            got = [type(a) if isinstance(a, Note) else a for a in self.said]
            assert got == list(row.expected), f"at {row.when}: {event}"
        return self

    def last(self, kind: type[N]) -> N:
        """The one note of that kind in the last answer."""
        (note,) = [a for a in self.said if isinstance(a, kind)]
        return note

    @property
    def next_alarm(self) -> float:
        return self.brain.next_deadline()

    @property
    def sleeps(self) -> bool:
        """Whether nothing is due ever."""
        return self.next_alarm == FOREVER


def new(workers: int, **policy: Any) -> Story:
    """A master that has not begun."""
    return Story(Policy(workers=workers, **policy))


def templated(workers: int, **policy: Any) -> Story:
    """A master whose workers were forked by template 1, and were all ready at second 1."""
    story = new(workers, **{"preload": Preload.AUTO, **policy})
    story.brain.handle(on.Started(0.0))
    story.brain.handle(on.TemplateForked(0.1, 1, template_pid_of(1)))
    story.brain.handle(on.TemplateReady(0.5, 1))
    for worker_id in range(1, workers + 1):
        story.brain.handle(on.Forked(0.6, worker_id, pid_of(worker_id)))
    for worker_id in range(1, workers + 1):
        story.brain.handle(on.WorkerReady(1.0, worker_id))
    return story


def serving(workers: int, **policy: float) -> Story:
    """A master whose workers 1, 2, ... were all ready at second 1."""
    story = new(workers, **policy)
    story.brain.handle(on.Started(0.0))
    for worker_id in range(1, workers + 1):
        story.brain.handle(on.Forked(0.1, worker_id, pid_of(worker_id)))
    for worker_id in range(1, workers + 1):
        story.brain.handle(on.WorkerReady(1.0, worker_id))
    return story


def switched(workers: int, **policy: Any) -> Story:
    """... and so was their switchboard, whose id is 1."""
    story = new(workers, **{"switchboard": True, **policy})
    story.brain.handle(on.Started(0.0))
    story.brain.handle(on.SwitchboardForked(0.1, 1, board_pid_of(1)))
    for worker_id in range(1, workers + 1):
        story.brain.handle(on.Forked(0.1, worker_id, pid_of(worker_id)))
    for worker_id in range(1, workers + 1):
        story.brain.handle(on.WorkerReady(1.0, worker_id))
    story.brain.handle(on.SwitchboardReady(1.0, 1))
    return story

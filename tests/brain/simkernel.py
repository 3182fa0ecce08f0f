"""An operating system that is not there: processes as entries in a calendar.

Whatever the supervisor asks for takes its time. A fork is born later or refused; a
worker boots, fails, hangs or dies; a drain or a kill takes effect after a while. How
long, and which of these, a :class:`random.Random` decides, so that hypothesis can
shrink it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from forkserve.supervisor import actions as do
from forkserve.supervisor import events as on
from forkserve.supervisor.actions import Action
from forkserve.supervisor.brain import Supervisor
from forkserve.supervisor.events import Event, Exit
from forkserve.supervisor.failures import BootFailure
from forkserve.supervisor.state import FOREVER, Policy
from tests.brain.invariants import Witness
from tests.brain.story import OOM_KILLED


@dataclass(slots=True)
class Process:
    """A child as the kernel knows it."""

    pid: int
    alive: bool = True
    beats: bool = False
    beat: float = 0.0
    """When its loop turned last, if it does not now; 0.0: it has none, or does."""
    deaf: bool = False
    """It does not react to a request to drain."""


class SimKernel:
    """Runs a supervisor and its workers on a clock of its own."""

    def __init__(self, policy: Policy, random: Random) -> None:
        self.brain = Supervisor(policy)
        self.witness = Witness(policy.workers)
        self.random = random
        self.now = 0.0
        self.kind = False
        """Everything goes well from now on."""
        self.processes: dict[int, Process] = {}
        self.templates: dict[int, Process] = {}
        self.boards: dict[int, Process] = {}
        self.successor: tuple[int, Process] | None = None
        """A new master that has not taken over, and its id."""
        self.tickets: dict[int, int] = {}
        """Which template has been asked for each worker that is not born yet."""
        self._calendar: list[tuple[float, int, Callable[[], None]]] = []
        self._entries = 0
        self._last_pid = 1000

    # -- time -----------------------------------------------------------------------------

    def tell(self, event: Event) -> None:
        """An event for the supervisor, and what it wants done about it."""
        for action in self.witness.watch(self.brain, event):
            self._perform(action)

    def run(self, seconds: float) -> None:
        """Let time pass, and whatever happens in it."""
        until = self.now + seconds
        while True:
            entry = self._calendar[0][0] if self._calendar else FOREVER
            due = max(self.now, self.brain.next_deadline())
            if min(entry, due) > until:
                break
            if entry <= due:
                when, _, happens = heapq.heappop(self._calendar)
                self.now = max(self.now, when)  # what came while the master was late is heard now
                happens()
            else:
                # The master may be late, as on a busy machine.
                self.now = due if self.kind else due + self._often(0.1, 0.7)
                beats = {
                    i: self.now if p.beats else p.beat
                    for i, p in self.processes.items()
                    if p.alive and (p.beats or p.beat)
                }
                hums = any(b.beats for b in self.boards.values())
                self.tell(on.Alarm(self.now, beats, self.now if hums else 0.0))
        self.now = max(self.now, until)

    def _often(self, chance: float, value: float) -> float:
        return value if self.random.random() < chance else 0.0

    def _later(self, longest: float, happens: Callable[[], None]) -> None:
        self._entries += 1
        when = self.now + self.random.uniform(0.001, longest)
        heapq.heappush(self._calendar, (when, self._entries, happens))

    # -- deeds ----------------------------------------------------------------------------

    def _perform(self, action: Action) -> None:
        match action:
            case do.Fork(worker_id, template=None):
                self._later(0.5, lambda: self._birth(worker_id))
            case do.Fork(worker_id, template=int(template_id)):
                self.tickets[worker_id] = template_id
                if not self.templates[template_id].deaf:
                    self._later(0.5, lambda: self._ticket(worker_id))
            case do.ForkTemplate(template_id):
                self._later(0.5, lambda: self._birth_of_template(template_id))
            case do.DismissTemplate(template_id):
                if not self.templates[template_id].deaf:
                    self._later(0.7, lambda: self.end_template(template_id, -15))
            case do.KillTemplate(template_id):
                self._later(7.0, lambda: self.end_template(template_id, -9))
            case do.ForkSwitchboard(board_id):
                self._later(0.5, lambda: self._birth_of_board(board_id))
            case do.DismissSwitchboard(board_id):
                if not self.boards[board_id].deaf:
                    self._later(1.0, lambda: self.end_board(board_id, 0))
            case do.KillSwitchboard(board_id):
                self._later(7.0, lambda: self.end_board(board_id, -9))
            case do.ForkMaster(successor_id):
                self._later(0.5, lambda: self._birth_of_master(successor_id))
            case do.DismissMaster(successor_id):
                if not self._is_deaf(successor_id):
                    self._later(9.0, lambda: self.end_master(successor_id, 0))
            case do.KillMaster(successor_id):
                self._later(7.0, lambda: self.end_master(successor_id, -9))
            case do.HandOver():
                self.successor = None
            case do.ReportReady():
                self._later(1.0, self._is_left_the_service)
            case do.ReadStacks(worker_id):
                stack = "" if self.random.random() < 0.3 else "in crunch"
                self.tell(on.StacksRead(self.now, worker_id, stack))
            case do.Drain(worker_id):
                process = self.processes[worker_id]
                if not process.deaf or self.kind:
                    self._later(15.0, lambda: self.end(worker_id, 0))
            case do.Kill(worker_id):
                self._later(7.0, lambda: self.end(worker_id, -9))

    def _ticket(self, worker_id: int) -> None:
        """The template gets round to forking the worker, if it still lives."""
        if self.tickets.get(worker_id) in self.templates:
            del self.tickets[worker_id]
            self._birth(worker_id)

    def _birth_of_template(self, template_id: int) -> None:
        if not self.kind and self.random.random() < 0.1:
            self.tell(on.TemplateForkFailed(self.now, template_id, "EAGAIN"))
            return
        self._last_pid += 1
        self.templates[template_id] = Process(self._last_pid)
        self.tell(on.TemplateForked(self.now, template_id, self._last_pid))
        fate = "ready" if self.kind else self.random.choice(_TEMPLATE_FATES)
        self._later(4.0, lambda: self._import(template_id, fate))

    def _import(self, template_id: int, fate: str) -> None:
        if template_id not in self.templates:
            return
        if fate == "ready" or (self.kind and fate == "hang"):
            self.tell(on.TemplateReady(self.now, template_id))
        elif fate == "unfit":
            self.tell(on.TemplateUnfit(self.now, template_id, "a thread"))
            self._later(0.5, lambda: self.end_template(template_id, 0))
        elif fate == "fail":
            self.tell(on.TemplateBootFailed(self.now, template_id, BootFailure("ImportError")))
            self._later(0.5, lambda: self.end_template(template_id, 3))
        elif fate != "hang":
            self.end_template(template_id, int(fate))

    def end_template(self, template_id: int, code: int | Exit) -> None:
        """It ends, and with it what it was asked for, unless that was born just before."""
        if not self.templates.pop(template_id, None):
            return
        exit = Exit(code) if isinstance(code, int) else code
        self.tell(on.TemplateExited(self.now, template_id, exit))
        for worker_id in [w for w, t in self.tickets.items() if t == template_id]:
            del self.tickets[worker_id]
            if self.random.random() < 0.5:
                self._birth(worker_id)
            else:
                self.tell(on.ForkLost(self.now, worker_id))

    def _birth_of_master(self, successor_id: int) -> None:
        if not self.kind and self.random.random() < 0.1:
            self.tell(on.SuccessorForkFailed(self.now, successor_id, "EAGAIN"))
            return
        self._last_pid += 1
        fate = "ready" if self.kind else self.random.choice(_MASTER_FATES)
        self.successor = successor_id, Process(self._last_pid, deaf=fate == "hang")
        self.tell(on.SuccessorForked(self.now, successor_id, self._last_pid))
        self._later(20.0, lambda: self._master_begins(successor_id, fate))

    def _master_begins(self, successor_id: int, fate: str) -> None:
        if self.successor is None or self.successor[0] != successor_id:
            return
        if fate == "ready":
            with_a_switchboard = self.random.random() < 0.7
            self.tell(on.SuccessorReady(self.now, successor_id, with_a_switchboard))
        elif fate == "fail":
            self.tell(on.SuccessorFailed(self.now, successor_id, BootFailure("ImportError")))
            self._later(14.0, lambda: self.end_master(successor_id, 3))
        elif fate != "hang":
            self.end_master(successor_id, int(fate))

    def _is_deaf(self, successor_id: int) -> bool:
        return self.successor is not None and self.successor[1].deaf

    def end_master(self, successor_id: int, code: int) -> None:
        """A new master that has not taken over ends, unless it already has."""
        if self.successor is not None and self.successor[0] == successor_id:
            self.successor = None
            self.tell(on.SuccessorExited(self.now, successor_id, Exit(code)))

    def _is_left_the_service(self) -> None:
        """By the master before this one, which then leaves."""
        if self.witness.borrowed:
            self.tell(on.TakenOver(self.now))
            self._later(15.0, self.predecessor_goes)

    def predecessor_goes(self) -> None:
        """The master before this one ends, or dies before it has left the service."""
        if self.witness.predecessor is not None:
            self.tell(on.PredecessorGone(self.now))

    def _birth_of_board(self, board_id: int) -> None:
        if not self.kind and self.random.random() < 0.1:
            self.tell(on.SwitchboardForkFailed(self.now, board_id, "EAGAIN"))
            return
        self._last_pid += 1
        self.boards[board_id] = Process(self._last_pid)
        self.tell(on.SwitchboardForked(self.now, board_id, self._last_pid))
        fate = "ready" if self.kind else self.random.choice(_BOARD_FATES)
        self._later(0.5, lambda: self._board_begins(board_id, fate))

    def _board_begins(self, board_id: int, fate: str) -> None:
        board = self.boards.get(board_id)
        if board is None or (fate == "hang" and not self.kind):
            return
        if fate == "dies":
            self.end_board(board_id, 1)
            return
        board.beats = not board.deaf
        self.tell(on.SwitchboardReady(self.now, board_id))

    def end_board(self, board_id: int, code: int) -> None:
        """The process ends, unless it already has."""
        if self.boards.pop(board_id, None):
            self.tell(on.SwitchboardExited(self.now, board_id, Exit(code)))

    def board_leaves(self, board_id: int) -> None:
        """Somebody sent it a TERM by hand. It may take longer than it is given."""
        self.boards[board_id].beats = False
        self.tell(on.SwitchboardLeaving(self.now, board_id))
        self._later(14.0, lambda: self.end_board(board_id, 0))

    def board_hangs(self, board_id: int) -> None:
        """Its loop does not turn any more."""
        self.boards[board_id].beats = False
        self.boards[board_id].deaf = True

    def _birth(self, worker_id: int) -> None:
        if not self.kind and self.random.random() < 0.1:
            self.tell(on.ForkFailed(self.now, worker_id, "EAGAIN"))
            return
        self._last_pid += 1
        self.processes[worker_id] = Process(self._last_pid)
        self.tell(on.Forked(self.now, worker_id, self._last_pid))
        fate = "ready" if self.kind else self.random.choice(_FATES)
        self._later(4.0, lambda: self._boot(worker_id, fate))

    def _boot(self, worker_id: int, fate: str) -> None:
        process = self.processes.get(worker_id)
        if process is None:
            return
        if fate == "ready" or (self.kind and fate == "hang"):
            process.beats = True
            self.tell(on.WorkerReady(self.now, worker_id))
        elif fate == "fail":
            self.tell(on.WorkerBootFailed(self.now, worker_id, BootFailure("ImportError")))
            self._later(2.0, lambda: self.end(worker_id, 1))
        elif fate != "hang":
            self.end(worker_id, int(fate))

    # -- what befalls workers ---------------------------------------------------------------

    def lacks_memory(self) -> None:
        """The OOM killer takes somebody."""
        template = self.random.random() < 0.2
        taken = sorted(self.templates if template else self.processes)
        if not taken:
            return
        number = self.random.choice(taken)
        if not template:
            del self.processes[number]
            self.tell(on.WorkerExited(self.now, number, OOM_KILLED))
        else:
            self.end_template(number, OOM_KILLED)

    def end(self, worker_id: int, code: int) -> None:
        """The process ends, unless it already has."""
        if self.processes.pop(worker_id, None):
            self.tell(on.WorkerExited(self.now, worker_id, Exit(code)))

    def leaves(self, worker_id: int) -> None:
        """Somebody sent it a TERM by hand."""
        self.tell(on.WorkerLeaving(self.now, worker_id))
        self._later(15.0, lambda: self.end(worker_id, 0))

    def is_spent(self, worker_id: int) -> None:
        """It has answered enough requests."""
        self.tell(on.WorkerSpent(self.now, worker_id, "it has answered 1000 requests"))

    def is_slow(self, worker_id: int, slow: bool) -> None:
        """Its handlers block, or do not any more."""
        self.tell(on.WorkerSlow(self.now, worker_id, slow))

    def hangs(self, worker_id: int) -> None:
        """Its loop does not turn any more."""
        process = self.processes[worker_id]
        if process.beats:
            process.beats, process.beat = False, self.now
        process.deaf = True

    def is_blocked(self, worker_id: int) -> None:
        """Its loop does not turn for a while."""
        process = self.processes[worker_id]
        if process.beats:
            process.beats, process.beat = False, self.now
            self._later(8.0, lambda: self._turns(worker_id, process.beat))

    def _turns(self, worker_id: int, since: float) -> None:
        process = self.processes.get(worker_id)
        if process is not None and not process.deaf and not process.beats:
            process.beats, process.beat = True, 0.0
            self.tell(on.WorkerUnblocked(self.now, worker_id, self.now - since))


_TEMPLATE_FATES = ("ready",) * 7 + ("fail", "hang", "unfit", "1", "-9")
_FATES = ("ready",) * 6 + ("fail", "hang", "1", "-9", "-9")
_MASTER_FATES = ("ready",) * 2 + ("fail",) * 3 + ("hang", "1", "-9")
_BOARD_FATES = ("ready",) * 5 + ("hang", "dies")

"""The master process: the one loop.

    signal ─► wake-up descriptor ─┐
    a child's message, its end ───┼─► select() ─► event ─► supervisor ─► actions
    next deadline ────────────────┘                 ▲                      │
                                                    └── what came of it ◄──┘

Nothing else in the master waits. It imports no app code and runs no asyncio.
"""

from __future__ import annotations

import os
import selectors
import signal
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import singledispatchmethod
from time import monotonic

from forkserve.channel import (
    BootExtended,
    BootFailed,
    CanTakeOver,
    Drain,
    Encrypted,
    Hello,
    LastCall,
    LogSwitched,
    Message,
    PassOn,
    Promote,
    Ready,
    Spawned,
    SpawnFailed,
    Trouble,
)
from forkserve.config.reading import Reading
from forkserve.config.settings import Settings, with_what_is_fixed
from forkserve.hooks.views import Worker
from forkserve.logs.files import LogFiles
from forkserve.master import logbook
from forkserve.master.capacity import Room
from forkserve.master.cgroups import Cgroups
from forkserve.master.children import Nursery, drain_signal
from forkserve.master.chronicle import Chronicle
from forkserve.master.control import Access, Control
from forkserve.master.door import Door
from forkserve.master.family import (
    Child,
    Family,
    HookChild,
    MasterChild,
    MonitorChild,
    SwitchboardChild,
    TemplateChild,
    WorkerChild,
)
from forkserve.master.heard import event_of, failure_of
from forkserve.master.hooks import HookCalls
from forkserve.master.inheritance import Inheritance
from forkserve.master.keeper import MonitorKeeper
from forkserve.master.kernel import Death, Kernel
from forkserve.master.listeners import Listener
from forkserve.master.lives import Means
from forkserve.master.logbook import Logbook
from forkserve.master.notify import ServiceManager
from forkserve.master.oom import OomEvidence
from forkserve.master.origin import Origin
from forkserve.master.persons import Persons
from forkserve.master.pidfile import PidFile
from forkserve.master.reloads import Reloads
from forkserve.master.reporter import Reporter
from forkserve.master.rereading import Reread
from forkserve.master.rotation import Rotation
from forkserve.master.rows import Rows
from forkserve.master.signals import SignalQueue, Terminal
from forkserve.master.status import Status
from forkserve.master.succession import Succession
from forkserve.place import Place
from forkserve.scoreboard import Scoreboard
from forkserve.supervisor import actions as do
from forkserve.supervisor import events as on
from forkserve.supervisor.brain import Supervisor
from forkserve.supervisor.events import Event
from forkserve.supervisor.failures import BootFailure
from forkserve.supervisor.state import Policy
from forkserve.supervisor.verdicts import LONGEST_EXTENSION
from forkserve.switchboard.queues import Exchange
from forkserve.trace.recorded import Recorded
from forkserve.trace.recorder import Recorder
from forkserve.worker.lifeline import STACK_SIGNAL

START_FAILED = 3
"""The exit code if the hook on_starting has failed, as if the app cannot start."""

LONGEST_WAIT = 3600.0
"""Seconds. Some selectors refuse an endless float."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the master finds, or what was opened for it, before it begins."""

    listeners: list[Listener]
    kernel: Kernel
    log_files: LogFiles
    cgroups: Cgroups
    place: Place
    origin: Origin
    door: Door
    inheritance: Inheritance | None = None
    pidfile: PidFile | None = None
    recorder: Recorder | None = None
    monitor: Listener | None = None
    """Where the monitor is to be seen, if there is to be one."""

    remarks: Sequence[tuple[int, str]] = ()
    """What is to be said of all that in the log, each with its level."""


class Master:
    """Turns what happens into events and performs the supervisor's actions."""

    def __init__(
        self,
        settings: Settings,
        policy_of: Callable[[Settings], Policy],
        found: Surroundings,
        reread: Reread | None = None,
    ) -> None:
        self._settings = settings
        self._policy_of = policy_of
        policy = policy_of(settings)
        self._found = found
        self._listeners = listeners = found.listeners
        self._kernel = kernel = found.kernel
        self._supervisor = (
            Recorded(policy, found.recorder) if found.recorder else Supervisor(policy)
        )
        self._rows = policy.slots
        self._scoreboard = Scoreboard(self._rows)
        self._entries = Rows(self._scoreboard)
        # Made once and kept: what is in the queues survives whoever dies.
        self._exchange: Exchange | None = None
        inbox = found.inheritance.inbox if found.inheritance else None
        if policy.switchboard:
            self._exchange = Exchange.make(self._scoreboard.switchboard(), inbox)
        elif inbox is not None:
            inbox.close()
        self._nursery = Nursery(
            settings,
            kernel,
            self._scoreboard,
            listeners,
            self._exchange,
            found.log_files.fds,
            found.place,
        )
        self._family = Family()
        means = Means(self._signal, self._let_go_of)
        self._hooks = HookCalls(self._settings_in_force, self._fork_hook, means)
        self._rotation = Rotation(found.log_files)
        self._oom = OomEvidence(found.cgroups)
        self._weighed = False
        self._selector = selectors.DefaultSelector()
        self._reloads = Reloads(kernel, self._selector, reread, self._reload_with)
        self._signals = SignalQueue()
        self._terminal = Terminal()
        self._persons = Persons(self._family, self._exchange.row if self._exchange else None)
        self._logbook = Logbook(self._persons, [ln.url for ln in listeners], settings.app)
        self._chronicle = Chronicle(logbook.log)
        self._reporter = Reporter(ServiceManager(os.environ), lambda: self._supervisor.policy)
        lent = [*listeners, found.monitor] if found.monitor else listeners
        self._succession = Succession(
            found.inheritance, lent, found.pidfile, self._scoreboard, self._reporter
        )
        self._keeper = MonitorKeeper(
            found.monitor.url if found.monitor else None,
            self._fork_monitor,
            lambda: not self._succession.is_lent,
            means,
        )
        self._control = Control(
            found.door,
            self._selector,
            Access(
                self._handle,
                self._reload_asked,
                self._reopen_logs,
                self._supervisor.state,
                self._family,
                kernel,
            ),
            self._status().document,
        )
        self._chronicle.heard = self._control.hear_line
        self._events: deque[Event] = deque()
        self._exit_code: int | None = None
        self.faults = 0
        """Errors in the master's own code that it has survived."""

    def run(self) -> int:
        self._selector.register(self._signals.fileno(), selectors.EVENT_READ, self._hear_signals)
        self._signals.open()
        self._succession.begin(self._selector, self._handle)
        self._succession.takes_longer(self._patience())
        predecessor = self._succession.predecessor_pid
        self._logbook.opening(self._supervisor.policy.workers, predecessor)
        for level, remark in (self._found.place.remark(), *self._found.remarks):
            logbook.log.log(level, "%s", remark)
        if predecessor is None:
            self._control.open()
        if self._settings.reload:
            self._reloads.watch(self._settings, self._reload_asked)
        if self._may_start():
            self._handle(on.Started(monotonic(), predecessor))
            while self._exit_code is None:
                self._turn()
            self._hooks.say_goodbye()
        else:
            self._hooks.end_at_once()
        while self._hooks.busy:
            self._turn()
        self._keeper.leave(monotonic())
        while not self._keeper.is_gone:
            self._turn()
        self._close()
        assert self._exit_code is not None
        return self._exit_code

    def _may_start(self) -> bool:
        """Wait for the hook that comes before all else. Not, if that has failed, or if we
        were told to stop meanwhile."""
        self._hooks.call("on_starting")
        while self._hooks.busy and self._exit_code is None:
            self._turn()
        if self._exit_code is None and self._hooks.start_failure:
            self._logbook.cannot_start(self._hooks.start_failure)
            self._succession.confess(self._hooks.start_failure)
            self._exit_code = START_FAILED
        return self._exit_code is None

    def _turn(self) -> None:
        """Wait for the next thing to happen, and see to it."""
        due = min(
            self._supervisor.next_deadline(),
            self._hooks.next_deadline(),
            self._keeper.next_deadline(),
            self._reporter.due(),
            self._control.due(),
        )
        wait = min(max(0.0, due - monotonic()), LONGEST_WAIT)
        try:
            ready = self._selector.select(wait)
            # Signals first: what they say explains what the workers say.
            for key, _ in sorted(ready, key=lambda r: r[0].fileobj != self._signals.fileno()):
                key.data()
            if monotonic() >= self._supervisor.next_deadline():
                self._oom.look(monotonic())
                self._handle(on.Alarm(monotonic(), *self._beats()))
            self._hooks.alarm(monotonic())
            self._keeper.alarm(monotonic())
            self._reporter.turn(monotonic())
            self._control.turn(monotonic())
        except Exception:
            # A bug of ours. It is loud, but it does not take healthy workers down.
            self.faults += 1
            logbook.log.exception("a fault in forkserve itself, please report it")
            if self.faults > 100:
                raise

    # -- what happens -----------------------------------------------------------------

    def _handle(self, event: Event) -> None:
        """Have the supervisor decide, do what it says, and tell it what came of it."""
        self._events.append(event)
        while self._events:
            for action in self._supervisor.handle(self._events.popleft()):
                self._perform(action)
        self._entries.follow(self._supervisor.state)
        self._reporter.follow(event, self._supervisor.state)
        self._control.follow(event, self._supervisor.state)

    def _hear_signals(self) -> None:
        for number in self._signals.take():
            self._on_signal(number)

    def _on_signal(self, number: signal.Signals) -> None:
        now = monotonic()
        match number:
            case signal.SIGCHLD:
                for death in self._kernel.reap():
                    self._bury(death)
            case signal.SIGTERM:
                self._handle(on.TerminateRequested(now))
            case signal.SIGINT:
                self._handle(on.InterruptRequested(now))
            case signal.SIGQUIT:
                self._handle(on.QuitRequested(now))
            case signal.SIGHUP if self._terminal.gone:
                self._handle(on.TerminateRequested(now, "SIGHUP: the terminal was closed"))
            case signal.SIGHUP:
                self._reload_asked()
            case signal.SIGUSR2:
                self._handle(on.UpgradeRequested(now))
            case signal.SIGTTIN:
                self._handle(on.ScaleRequested(now, +1))
            case signal.SIGTTOU:
                self._handle(on.ScaleRequested(now, -1))
            case signal.SIGUSR1:
                self._reopen_logs("SIGUSR1")
            case signal.SIGCONT:
                self._handle(on.Resumed(now))

    def _reopen_logs(self, because: str) -> bool:
        return self._rotation.reopen(self._family.who_log(), because)

    def _status(self) -> Status:
        return Status(
            self._settings_in_force,
            self._supervisor,
            self._entries,
            self._listeners,
            self._chronicle,
            self._exchange.row if self._exchange else None,
            lambda: self.faults,
        )

    # -- a reload ---------------------------------------------------------------------

    def _reload_asked(self) -> None:
        self._reporter.reload_asked(monotonic())
        self._reloads.begin()

    def _reload_with(self, read: Reading | BootFailure | None) -> None:
        """The settings have been read again: have the supervisor bring the new code."""
        match read:
            case Reading():
                policy = self._reload_by(read)
                self._handle(on.ReloadRequested(monotonic(), policy))
            case None:
                self._handle(on.ReloadRequested(monotonic()))
            case failure:
                self._handle(on.SettingsRejected(monotonic(), failure))

    def _reload_by(self, reading: Reading) -> Policy:
        self._logbook.read_anew(reading, self._settings)
        settings = with_what_is_fixed(reading.settings, self._settings)
        policy = self._policy_of(settings)
        # The rows of the scoreboard have been counted at the start.
        surge = policy.surge - max(0, policy.slots - self._rows)
        policy = replace(policy, surge=surge, seed=self._supervisor.policy.seed)
        supervisor = self._supervisor
        self._nursery.use(settings, supervisor.next_generation(), supervisor.state.current)
        return policy

    # -- what the children say --------------------------------------------------------

    def _hear(self, child: Child) -> None:
        """A child has said something, or its end of the channel is closed."""
        if not self._family.holds(child) or child.channel.closed:
            return  # buried a moment ago, by a signal of the same turn
        for message in child.channel.receive():
            self._on_message(child, message)
        if self._family.holds(child) and child.channel.closed:
            # It has gone, or soon will be; SIGCHLD tells how.
            self._selector.unregister(child.channel)
            if isinstance(child, WorkerChild):
                self._settle(child)

    def _on_message(self, child: Child, message: Message) -> None:
        now = monotonic()
        match child, message:
            case _, LogSwitched():
                self._rotation.switched(child)
            case SwitchboardChild() | MonitorChild(), Trouble(what):
                self._logbook.trouble(self._persons.describe(child), what)
            case WorkerChild() as worker, Hello(pid):
                self._is_born(worker, pid)
            case WorkerChild(), Encrypted():
                self._logbook.connections_are_encrypted()
            case TemplateChild() as template, Spawned(worker_id, pid):
                if asked := self._asked_of(template, worker_id):
                    self._is_born(asked, pid)
            case TemplateChild() as template, SpawnFailed(worker_id, error):
                if asked := self._asked_of(template, worker_id):
                    self._let_go_of(asked)
                    self._handle(on.ForkFailed(now, worker_id, error))
            case HookChild() as hook, BootFailed() as said:
                self._hooks.has_failed(hook, failure_of(said))
            case HookChild() as hook, BootExtended(seconds):
                self._hooks.extend(hook, seconds)
            case MonitorChild() as monitor, _:
                self._keeper.hear(monitor, message, now)
            case _:
                self._pass_on(child, message, now)

    def _pass_on(self, child: Child, message: Message, now: float) -> None:
        """The supervisor is to hear of it, and what depends on it happens before or after."""
        lacks = ""
        match child, message:
            case WorkerChild() as worker, Ready():
                lacks = self._lacks_memory(worker)
            case MasterChild() as master, CanTakeOver(pidfile=pidfile):
                master.takes_the_pidfile = bool(pidfile)
        if event := event_of(child, message, now):
            self._handle(event)
        if lacks:
            logbook.log.warning("%s", lacks)

    def _lacks_memory(self, worker: WorkerChild) -> str:
        """By the first worker that is ready: will all of them fit into memory? If not, why."""
        if self._weighed or worker.pid is None:
            return ""
        self._weighed = True
        policy = self._supervisor.policy
        workers = policy.workers + policy.spares
        template = self._family.templates.get(worker.template or 0)
        beside = template.pid if template else None
        return Room.look(self._found.cgroups).lacks(workers, worker.pid, beside)

    # -- births and deaths ------------------------------------------------------------

    def _asked_of(self, template: TemplateChild, worker_id: int) -> WorkerChild | None:
        """The worker, if it was asked of this template and its pid is not known yet."""
        worker = self._family.workers.get(worker_id)
        return worker if worker in self._family.unborn(template.id) else None

    def _is_born(self, worker: WorkerChild, pid: int) -> None:
        """Somebody says that ``worker`` is the process ``pid``. Believed if it is ours."""
        if worker.pid is not None or self._family.by_pid(pid):
            return
        death = self._family.recall_stranger(pid)
        if death is None and not self._kernel.is_child(pid):
            return
        worker.pid = pid
        if death is None:
            self._handle(on.Forked(monotonic(), worker.id, pid))
        else:
            # Nobody is to act upon a pid that has been waited for: it may be another's by now.
            self._bury(death)

    def _settle(self, worker: WorkerChild) -> None:
        """No word will come from an unborn worker: nor will one, if its template is gone."""
        if worker in self._family.unborn() and worker.template not in self._family.templates:
            self._let_go_of(worker)
            self._handle(on.ForkLost(monotonic(), worker.id))

    def _bury(self, death: Death) -> None:
        """A child has been reaped: hear its last messages, then say that it is gone."""
        child = self._family.by_pid(death.pid)
        if child is None:
            # As a subreaper, or as PID 1, we inherit orphans.
            self._family.remember_stranger(death)
            return
        was_open = not child.channel.closed
        for message in child.channel.receive_rest():
            self._on_message(child, message)
        if was_open and child.channel.closed:
            self._selector.unregister(child.channel)
        self._persons.dies(child, death)
        stack = child.stack()
        ours = child.condemned
        self._let_go_of(child)
        exit = on.Exit(death.code) if ours else self._oom.explain(death, monotonic())
        if isinstance(child, TemplateChild):
            self._bury_template(child, exit, stack)
        elif isinstance(child, SwitchboardChild):
            self._handle(on.SwitchboardExited(monotonic(), child.id, exit, stack))
        elif isinstance(child, HookChild):
            self._hooks.has_ended(child, on.Exit(death.code), stack)
        elif isinstance(child, MonitorChild):
            self._keeper.has_ended(child, on.Exit(death.code), stack, monotonic())
        elif isinstance(child, MasterChild):
            self._bury_successor(child, exit)
        elif isinstance(child, WorkerChild):
            self._handle(on.WorkerExited(monotonic(), child.id, exit, stack))
            self._hooks.call("child_exit", _as_shown(child, death))
        self._persons.dying = None

    def _bury_template(self, template: TemplateChild, exit: on.Exit, stack: str) -> None:
        self._handle(on.TemplateExited(monotonic(), template.id, exit, stack))
        for worker in self._family.unborn(template.id):
            self._hear_or_settle(worker)

    def _bury_successor(self, master: MasterChild, exit: on.Exit) -> None:
        # Its workers, should any be left, know from their own master that the queue is not theirs.
        self._scoreboard.share_the_queue(False)
        self._handle(on.SuccessorExited(monotonic(), master.id, exit))

    def _hear_or_settle(self, worker: WorkerChild) -> None:
        self._hear(worker)
        if worker.channel.closed:
            self._settle(worker)

    def _take_in(self, child: Child) -> None:
        self._family.add(child)
        self._selector.register(child.channel, selectors.EVENT_READ, lambda: self._hear(child))

    def _let_go_of(self, child: Child) -> None:
        """It is no child of ours any more, as far as we are concerned."""
        self._family.remove(child)
        if not child.channel.closed:
            self._selector.unregister(child.channel)
        self._rotation.gone(child)
        child.close()

    def _beats(self) -> tuple[dict[int, float], float]:
        """The last heartbeat of each worker, and the switchboard's."""
        workers = self._family.workers.values()
        beats = {worker.id: beat for worker in workers if (beat := worker.row.last_beat())}
        return beats, self._exchange.row.last_beat() if self._exchange else 0.0

    # -- what is done -----------------------------------------------------------------

    @singledispatchmethod
    def _perform(self, action: do.Action) -> None:
        raise TypeError(f"the master does not know the action {action!r}")

    @_perform.register
    def _fork(self, action: do.Fork) -> None:
        try:
            if action.template is None:
                worker = self._nursery.fork(action)
            else:
                worker = self._nursery.ask(self._family.templates[action.template], action)
        except OSError as exc:
            failed = on.ForkFailed(monotonic(), action.worker_id, exc.strerror or str(exc))
            self._events.append(failed)
            return
        self._take_in(worker)
        if worker.pid is not None:
            self._events.append(on.Forked(monotonic(), worker.id, worker.pid))

    @_perform.register
    def _fork_template(self, action: do.ForkTemplate) -> None:
        try:
            template = self._nursery.fork_template(action)
        except OSError as exc:
            error = exc.strerror or str(exc)
            self._events.append(on.TemplateForkFailed(monotonic(), action.template_id, error))
            return
        self._take_in(template)
        assert template.pid is not None
        self._events.append(on.TemplateForked(monotonic(), template.id, template.pid))

    @_perform.register
    def _fork_switchboard(self, action: do.ForkSwitchboard) -> None:
        try:
            board = self._nursery.fork_switchboard(action)
        except OSError as exc:
            error = exc.strerror or str(exc)
            failed = on.SwitchboardForkFailed(monotonic(), action.switchboard_id, error)
            self._events.append(failed)
            return
        self._take_in(board)
        assert board.pid is not None
        self._events.append(on.SwitchboardForked(monotonic(), board.id, board.pid))

    def _settings_in_force(self) -> Settings:
        """Those of the generation that serves."""
        return self._nursery.settings_of(self._supervisor.state.current)

    @_perform.register
    def _fork_master(self, action: do.ForkMaster) -> None:
        self._scoreboard.share_the_queue(True)
        lent = self._succession.pidfile
        try:
            monitor = self._found.monitor
            master = self._nursery.fork_master(action, self._found.origin, lent, monitor)
        except OSError as exc:
            self._scoreboard.share_the_queue(False)
            error = exc.strerror or str(exc)
            self._events.append(on.SuccessorForkFailed(monotonic(), action.successor_id, error))
            return
        self._take_in(master)
        assert master.pid is not None
        self._events.append(on.SuccessorForked(monotonic(), master.id, master.pid))

    @_perform.register
    def _hand_over(self, action: do.HandOver) -> None:
        self._control.give_up()  # before the new master makes its own
        self._succession.hand_over(self._family.masters[action.successor_id])
        self._keeper.leave(monotonic())

    @_perform.register
    def _pass_reload_on(self, action: do.PassReloadOn) -> None:
        self._kernel.signal(action.pid, signal.SIGHUP)

    @_perform.register
    def _dismiss_master(self, action: do.DismissMaster) -> None:
        self._kernel.signal(action.pid, signal.SIGQUIT if action.at_once else signal.SIGTERM)

    @_perform.register
    def _report_ready(self, action: do.ReportReady) -> None:
        self._succession.can_take_over(self._exchange is not None)

    @_perform.register
    def _give_up(self, action: do.FirstBootFailed) -> None:
        if self._succession.predecessor is None:
            self._tell(action)
        else:
            self._succession.confess(action.failure)

    @_perform.register
    def _note_extension(self, action: do.BootExtended) -> None:
        self._tell(action)
        self._succession.takes_longer(action.seconds + self._patience())

    def _patience(self) -> float:
        """Seconds that the old master must be prepared to wait for this one."""
        return 2 * self._settings.boot_timeout or LONGEST_EXTENSION

    @_perform.register
    def _forward_switchboard(self, action: do.ForwardSwitchboard) -> None:
        board = self._family.switchboards[action.switchboard_id]
        for master in self._family.masters.values():
            if master.inbox is not None:
                board.channel.offer(PassOn(), [master.inbox.entrance.fileno()])

    @_perform.register
    def _promote(self, action: do.Promote) -> None:
        self._family.workers[action.worker_id].channel.offer(Promote())

    @_perform.register
    def _dismiss(self, action: do.DismissTemplate) -> None:
        self._kernel.signal(action.pid, signal.SIGTERM)

    @_perform.register
    def _dismiss_switchboard(self, action: do.DismissSwitchboard) -> None:
        self._family.switchboards[action.switchboard_id].channel.offer(LastCall())

    @_perform.register
    def _drain(self, action: do.Drain) -> None:
        self._family.workers[action.worker_id].channel.offer(Drain())
        self._kernel.signal(action.pid, drain_signal(action.patient))

    @_perform.register(do.DumpStacks)
    @_perform.register(do.DumpTemplate)
    @_perform.register(do.DumpSwitchboard)
    def _dump(self, action: do.DumpStacks | do.DumpTemplate | do.DumpSwitchboard) -> None:
        if child := self._family.by_pid(action.pid):
            child.expect_stack()
        self._kernel.signal(action.pid, STACK_SIGNAL)

    @_perform.register
    def _read_stacks(self, action: do.ReadStacks) -> None:
        stack = self._family.workers[action.worker_id].take_stack()
        self._events.append(on.StacksRead(monotonic(), action.worker_id, stack))

    @_perform.register(do.Kill)
    @_perform.register(do.KillTemplate)
    @_perform.register(do.KillSwitchboard)
    @_perform.register(do.KillMaster)
    def _kill(self, action: do.Kill | do.KillTemplate | do.KillSwitchboard | do.KillMaster) -> None:
        if child := self._family.by_pid(action.pid):
            child.condemned = True
        self._kernel.signal(action.pid, signal.SIGKILL)

    @_perform.register
    def _close_listeners(self, action: do.CloseListeners) -> None:
        # The queue is for the workers that leave now, and must end some time; unless others
        # serve who waits in it.
        if not action.others_accept:
            self._scoreboard.share_the_queue(False)
        for listener in self._listeners:
            listener.close(action.others_accept)
        for worker in self._family.workers.values():
            if not action.others_accept:
                worker.channel.offer(LastCall())

    @_perform.register
    def _leave(self, action: do.Leave) -> None:
        self._exit_code = action.code

    @_perform.register
    def _tell(self, action: do.Note) -> None:
        state = self._supervisor.state
        with self._chronicle.of(action, state):
            self._logbook.tell(action)
        self._control.tell(action, self._chronicle.said, state)
        self._hooks.hear(action)
        self._reporter.tell(action)

    # -- the children that the supervisor knows nothing of ----------------------------

    def _fork_hook(self, hook: str, workers: Sequence[Worker]) -> HookChild:
        child = self._nursery.fork_hook(hook, workers, self._settings_in_force())
        self._take_in(child)
        return child

    def _fork_monitor(self) -> MonitorChild:
        assert self._found.monitor is not None
        child, control = self._nursery.fork_monitor(self._found.monitor)
        self._take_in(child)
        self._control.adopt(control)
        return child

    def _signal(self, child: Child, number: int) -> None:
        assert child.pid is not None
        self._kernel.signal(child.pid, number)

    def _close(self) -> None:
        self._control.close()
        self._reloads.close()
        self._selector.close()
        self._signals.close()
        self._terminal.close()
        self._oom.close()
        self._reporter.close()


def _as_shown(worker: WorkerChild, death: Death) -> Worker:
    """As the hook child_exit is to see it."""
    return Worker(
        worker.id,
        worker.generation,
        worker.slot,
        os.getpid(),
        pid=death.pid,
        exit_code=death.code,
    )

"""How the master makes a process, or has one made: the two ways to a worker, and others."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NoReturn

from forkserve import monitor
from forkserve.channel import BootFailed, Channel, Spawn
from forkserve.config.monitor import TokenError
from forkserve.config.settings import Settings
from forkserve.hooks.views import Worker
from forkserve.logs.files import STANDARD_STREAMS, LogFds
from forkserve.master.family import (
    HookChild,
    MasterChild,
    MonitorChild,
    SwitchboardChild,
    TemplateChild,
    WorkerChild,
)
from forkserve.master.inheritance import Bequest
from forkserve.master.kernel import Kernel
from forkserve.master.listeners import Listener
from forkserve.master.origin import Origin
from forkserve.place import Place, PlaceError
from forkserve.scoreboard import Row, Scoreboard
from forkserve.supervisor.actions import Fork, ForkMaster, ForkSwitchboard, ForkTemplate
from forkserve.switchboard.queues import Exchange, Queue
from forkserve.worker import birth

BOOT_FAILED = 3
"""The exit code of a child that cannot even begin, as of one that cannot import the app."""


class Nursery:
    """Makes workers, templates, switchboards, hook runners, monitors and, in an upgrade, the next
    master."""

    def __init__(
        self,
        settings: Settings,
        kernel: Kernel,
        scoreboard: Scoreboard,
        listeners: Sequence[Listener],
        exchange: Exchange | None = None,
        log: LogFds = STANDARD_STREAMS,
        place: Place = Place(),
    ) -> None:
        self._settings = {0: settings}
        self._kernel = kernel
        self._scoreboard = scoreboard
        self._listeners = listeners
        self._exchange = exchange
        self._place = place
        self._log = log
        self._hooks_made = 0
        self._monitors_made = 0

    def use(self, settings: Settings, since: int, serving: int) -> None:
        """Make what belongs to the generation ``since``, or a later one, by these settings.

        Besides, only the generation ``serving`` is made of any more.
        """
        self._settings = {serving: self.settings_of(serving), since: settings}

    def settings_of(self, generation: int) -> Settings:
        """What is, or would be, made of that generation is made by these."""
        return self._settings[max(since for since in self._settings if since <= generation)]

    def fork(self, wanted: Fork) -> WorkerChild:
        """A new worker, which will import the app itself.

        Raises OSError (EAGAIN, ENOMEM, EMFILE) and leaves nothing behind, like the
        other ways.
        """
        with self._ends() as (ours, theirs, last_words):
            row = self._clean_row(wanted.slot)
            job = self._job(wanted, theirs, row, last_words)
            pid = self._fork(partial(birth.run, job), theirs)
        return WorkerChild(
            wanted.worker_id, wanted.generation, pid, ours, last_words, row, slot=wanted.slot
        )

    def ask(self, template: TemplateChild, wanted: Fork) -> WorkerChild:
        """A worker that ``template`` has been asked to fork; its pid is not known yet.

        A template that does not take the message is dead or hung, and its end will
        settle what becomes of this worker.
        """
        with self._ends() as (ours, theirs, last_words):
            row = self._clean_row(wanted.slot)
            spawn = Spawn(wanted.worker_id, wanted.slot, int(wanted.spare))
            template.channel.offer(spawn, (theirs.fileno(), last_words))
        return WorkerChild(
            wanted.worker_id,
            wanted.generation,
            None,
            ours,
            last_words,
            row,
            template.id,
            wanted.slot,
        )

    def fork_template(self, wanted: ForkTemplate) -> TemplateChild:
        """A new template, which will import the app."""
        with self._ends() as (ours, theirs, last_words):
            pid = self._fork(self._template_life(wanted, theirs, last_words), theirs)
        return TemplateChild(wanted.template_id, wanted.generation, pid, ours, last_words)

    def fork_switchboard(self, wanted: ForkSwitchboard) -> SwitchboardChild:
        """A new switchboard, for the queues that there have been from the start."""
        assert self._exchange is not None
        with self._ends() as (ours, theirs, last_words):
            life = self._switchboard_life(self._exchange, theirs, last_words)
            pid = self._fork(life, theirs)
        return SwitchboardChild(wanted.switchboard_id, 0, pid, ours, last_words)

    def fork_hook(self, hook: str, workers: Sequence[Worker], settings: Settings) -> HookChild:
        """A process that calls this hook, for each of ``workers`` if there are any, and exits."""
        self._hooks_made += 1
        with self._ends() as (ours, theirs, last_words):
            pid = self._fork(self._hook_life(hook, workers, settings, theirs, last_words), theirs)
        return HookChild(self._hooks_made, 0, pid, ours, last_words, hook)

    def fork_monitor(self, listener: Listener) -> tuple[MonitorChild, socket.socket]:
        """A new monitor, which serves what connects to ``listener``, and our end of its
        control connection."""
        self._monitors_made += 1
        with self._ends() as (ours, theirs, last_words):
            control, of_the_monitor = socket.socketpair()
            with of_the_monitor:
                newest = self._settings[max(self._settings)]
                errand = monitor.Errand(
                    newest, listener.socket, of_the_monitor, theirs, last_words, os.getpid()
                )
                try:
                    pid = self._fork(errand.run, theirs, errand.take_the_token)
                except OSError:
                    control.close()
                    raise
        return MonitorChild(self._monitors_made, 0, pid, ours, last_words), control

    def _fork(
        self,
        life: Callable[[], NoReturn],
        channel: Channel,
        first: Callable[[], None] | None = None,
    ) -> int:
        """Fork a child that gives up the master's rights, then lives. ``first`` is what it
        still does with them."""

        def whole_life() -> NoReturn:
            try:
                if first is not None:
                    first()
                self._place.take()
            except (PlaceError, TokenError) as exc:
                channel.send(BootFailed(str(exc), "", ""))
                raise SystemExit(BOOT_FAILED) from exc
            life()

        return self._kernel.fork(partial(birth.live_and_leave, whole_life))

    def fork_master(
        self,
        wanted: ForkMaster,
        origin: Origin,
        pidfile: int | None,
        monitor: Listener | None = None,
    ) -> MasterChild:
        """A new master, which is started like this one was, and gets its listeners.
        ``monitor``: that of the monitor, if there is one."""
        with self._ends() as (ours, theirs, last_words):
            inbox = Queue.make() if self._exchange else None
            try:
                left = [ln.as_left() for ln in self._listeners]
                if monitor is not None:
                    left.append(monitor.as_left())
                bequest = Bequest(theirs, left, inbox, pidfile)
                pid = self._kernel.fork(partial(bequest.live, origin, os.getpid()))
            except OSError:
                if inbox is not None:
                    inbox.close()
                raise
        return MasterChild(wanted.successor_id, 0, pid, ours, last_words, inbox)

    @contextlib.contextmanager
    def _ends(self) -> Iterator[tuple[Channel, Channel, int]]:
        """Both ends of a channel and a file for last words. Theirs is closed at the end;
        all are if something goes wrong."""
        with contextlib.ExitStack() as undo:
            ours, theirs = Channel.pair()
            undo.callback(ours.close)
            with contextlib.closing(theirs):
                last_words = nameless_file()
                undo.callback(os.close, last_words)
                yield ours, theirs, last_words
            undo.pop_all()

    def _clean_row(self, slot: int) -> Row:
        row = self._scoreboard.row(slot)
        row.clear()
        return row

    def _job(self, wanted: Fork, channel: Channel, row: Row, last_words: int) -> birth.Job:
        return birth.Job(
            wanted.worker_id,
            wanted.generation,
            wanted.slot,
            self.settings_of(wanted.generation),
            [listener.socket for listener in self._listeners],
            channel,
            row,
            last_words,
            os.getpid(),
            wanted.spare,
            exchange=self._exchange,
            log=self._log,
        )

    def _template_life(
        self, wanted: ForkTemplate, channel: Channel, last_words: int
    ) -> Callable[[], NoReturn]:
        master_pid = os.getpid()

        def life() -> NoReturn:
            # In the child only: the master has no use for any of it.
            from forkserve.template import main

            errand = main.Errand(
                wanted.generation,
                self.settings_of(wanted.generation),
                [listener.socket for listener in self._listeners],
                channel,
                self._scoreboard,
                last_words,
                master_pid,
                self._exchange,
                self._log,
            )
            main.run(errand)

        return life

    def _switchboard_life(
        self, exchange: Exchange, channel: Channel, last_words: int
    ) -> Callable[[], NoReturn]:
        master_pid = os.getpid()

        def life() -> NoReturn:
            from forkserve.switchboard import main

            newest = self._settings[max(self._settings)]
            graceful, name = newest.graceful_timeout, newest.name
            main.run(main.Errand(exchange, channel, last_words, master_pid, graceful, name))

        return life

    def _hook_life(
        self,
        hook: str,
        workers: Sequence[Worker],
        settings: Settings,
        channel: Channel,
        last_words: int,
    ) -> Callable[[], NoReturn]:
        master_pid = os.getpid()

        def life() -> NoReturn:
            # In the child only, since it runs the user's code.
            from forkserve.hooks import runner

            errand = runner.Errand(
                hook, workers, settings, channel, last_words, master_pid, self._log
            )
            runner.run(errand)

        return life


def nameless_file() -> int:
    """A close-on-exec file without a name (memfd_create(2), or an unlinked one).

    It is written at its end, wherever that is after it has been emptied.
    """
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("forkserve-last-words")
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_APPEND)
    return fd


def drain_signal(patient: bool) -> int:
    """The signal by which the master asks a worker to leave."""
    return signal.SIGTERM if patient else signal.SIGINT

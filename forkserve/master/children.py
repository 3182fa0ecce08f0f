"""How the master makes a process, or has one made: the two ways to a worker, and others."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NoReturn

from forkserve.channel import Channel, Spawn
from forkserve.config.settings import Settings
from forkserve.master.family import MasterChild, SwitchboardChild, TemplateChild, WorkerChild
from forkserve.master.inheritance import Bequest
from forkserve.master.kernel import Kernel
from forkserve.master.listeners import Listener
from forkserve.master.origin import Origin
from forkserve.scoreboard import Row, Scoreboard
from forkserve.supervisor.actions import Fork, ForkMaster, ForkSwitchboard, ForkTemplate
from forkserve.switchboard.queues import Exchange, Queue
from forkserve.worker import birth


class Nursery:
    """Makes workers, templates, switchboards and, in an upgrade, the next master."""

    def __init__(
        self,
        settings: Settings,
        kernel: Kernel,
        scoreboard: Scoreboard,
        listeners: Sequence[Listener],
        exchange: Exchange | None = None,
    ) -> None:
        self._settings = settings
        self._kernel = kernel
        self._scoreboard = scoreboard
        self._listeners = listeners
        self._exchange = exchange

    def fork(self, wanted: Fork) -> WorkerChild:
        """A new worker, which will import the app itself.

        Raises OSError (EAGAIN, ENOMEM, EMFILE) and leaves nothing behind, like the
        other ways.
        """
        with self._ends() as (ours, theirs, last_words):
            row = self._clean_row(wanted.slot)
            job = self._job(wanted, theirs, row, last_words)
            pid = self._kernel.fork(partial(birth.run, job))
        return WorkerChild(wanted.worker_id, wanted.generation, pid, ours, last_words, row)

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
            wanted.worker_id, wanted.generation, None, ours, last_words, row, template.id
        )

    def fork_template(self, wanted: ForkTemplate) -> TemplateChild:
        """A new template, which will import the app."""
        with self._ends() as (ours, theirs, last_words):
            pid = self._kernel.fork(self._template_life(wanted, theirs, last_words))
        return TemplateChild(wanted.template_id, wanted.generation, pid, ours, last_words)

    def fork_switchboard(self, wanted: ForkSwitchboard) -> SwitchboardChild:
        """A new switchboard, for the queues that there have been from the start."""
        assert self._exchange is not None
        with self._ends() as (ours, theirs, last_words):
            pid = self._kernel.fork(self._switchboard_life(self._exchange, theirs, last_words))
        return SwitchboardChild(wanted.switchboard_id, 0, pid, ours, last_words)

    def fork_master(self, wanted: ForkMaster, origin: Origin) -> MasterChild:
        """A new master, which is started like this one was, and gets its listeners."""
        with self._ends() as (ours, theirs, last_words):
            inbox = Queue.make() if self._exchange else None
            try:
                sockets = [listener.socket for listener in self._listeners]
                bequest = Bequest(theirs, sockets, inbox)
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
                last_words = _nameless_file()
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
            self._settings,
            [listener.socket for listener in self._listeners],
            channel,
            row,
            last_words,
            os.getpid(),
            wanted.spare,
            exchange=self._exchange,
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
                self._settings,
                [listener.socket for listener in self._listeners],
                channel,
                self._scoreboard,
                last_words,
                master_pid,
                self._exchange,
            )
            main.run(errand)

        return life

    def _switchboard_life(
        self, exchange: Exchange, channel: Channel, last_words: int
    ) -> Callable[[], NoReturn]:
        master_pid = os.getpid()

        def life() -> NoReturn:
            from forkserve.switchboard import main

            graceful = self._settings.graceful_timeout
            main.run(main.Errand(exchange, channel, last_words, master_pid, graceful))

        return life


def _nameless_file() -> int:
    """A close-on-exec file without a name (memfd_create(2), or an unlinked one)."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("forkserve-last-words")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def drain_signal(patient: bool) -> int:
    """The signal by which the master asks a worker to leave."""
    return signal.SIGTERM if patient else signal.SIGINT

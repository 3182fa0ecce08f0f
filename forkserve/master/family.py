"""The processes that the master has made, and by which name or pid each is known."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from forkserve.channel import Channel
from forkserve.master import stacks
from forkserve.master.kernel import Death
from forkserve.readings import Snapshot
from forkserve.scoreboard import Row
from forkserve.switchboard.queues import Queue

MOST_STRANGERS = 1024


@dataclass(slots=True)
class Child:
    """The master's end of one process."""

    id: int
    generation: int
    pid: int | None
    """None while a template has been asked for it and nobody has said its pid."""

    channel: Channel
    last_words: int
    condemned: bool = field(default=False, kw_only=True)
    """We have sent it SIGKILL."""

    def stack(self) -> str:
        """What its fault handler has written: of a fatal error, or when it was asked last."""
        return stacks.readable(self._written())

    def expect_stack(self) -> None:
        """It is about to be asked for its stacks."""
        self._forget_stack()

    def _forget_stack(self) -> None:
        """What it has written so far is not what it will be asked for."""
        if not stacks.is_fatal(self._written()):  # else it is dying, and these are its last words
            with contextlib.suppress(OSError):
                os.ftruncate(self.last_words, 0)

    def take_stack(self) -> str:
        """Like ``stack``, of one that lives: they are not its last words."""
        if stacks.is_fatal(self._written()):
            return ""
        stack = self.stack()
        self._forget_stack()
        return stack

    def _written(self) -> str:
        with contextlib.suppress(OSError):
            return os.pread(self.last_words, stacks.LONGEST_DUMP, 0).decode("utf-8", "replace")
        return ""

    def words(self) -> int:
        """Bytes that its fault handler has written."""
        with contextlib.suppress(OSError):
            return os.fstat(self.last_words).st_size
        return 0

    def close(self) -> None:
        self.channel.close()
        os.close(self.last_words)


@dataclass(slots=True)
class WorkerChild(Child):
    """The master's end of a worker."""

    row: Row
    template: int | None = None
    """The template that was asked to fork it, if one was."""

    slot: int = 0

    asked_while: Snapshot | None = None
    """Its row when it was asked for its stacks: what it was doing then."""

    def expect_stack(self) -> None:
        self.asked_while = self.row.snapshot()
        Child.expect_stack(self)

    def close(self) -> None:
        # Its siblings compare their connections with those that it does not have any more.
        self.row.clear()
        Child.close(self)


@dataclass(slots=True)
class TemplateChild(Child):
    """The master's end of a template."""


@dataclass(slots=True)
class SwitchboardChild(Child):
    """The master's end of a switchboard. It belongs to no generation."""


@dataclass(slots=True)
class HookChild(Child):
    """The master's end of a process that calls a hook. It belongs to no generation."""

    hook: str


@dataclass(slots=True)
class MonitorChild(Child):
    """The master's end of a monitor. It belongs to no generation."""


@dataclass(slots=True)
class MasterChild(Child):
    """The old master's end of the new one."""

    inbox: Queue | None
    """Where its switchboard takes connections from."""

    takes_the_pidfile: bool = False

    def close(self) -> None:
        if self.inbox is not None:
            self.inbox.close()
        Child.close(self)


class Family:
    """Everybody who is not buried yet."""

    def __init__(self) -> None:
        self.workers: dict[int, WorkerChild] = {}
        self.templates: dict[int, TemplateChild] = {}
        self.switchboards: dict[int, SwitchboardChild] = {}
        self.hooks: dict[int, HookChild] = {}
        self.monitors: dict[int, MonitorChild] = {}
        self.masters: dict[int, MasterChild] = {}
        self._kinds: dict[type[Child], dict[int, Any]] = {
            WorkerChild: self.workers,
            TemplateChild: self.templates,
            SwitchboardChild: self.switchboards,
            HookChild: self.hooks,
            MonitorChild: self.monitors,
            MasterChild: self.masters,
        }
        self._strangers: dict[int, Death] = {}

    def add(self, child: Child) -> None:
        self._kinds[type(child)][child.id] = child

    def remove(self, child: Child) -> None:
        del self._kinds[type(child)][child.id]

    def holds(self, child: Child) -> bool:
        return any(child is one for one in self._everybody())

    def by_pid(self, pid: int) -> Child | None:
        return next((child for child in self._everybody() if child.pid == pid), None)

    def _everybody(self) -> Iterator[Child]:
        for kind in self._kinds.values():
            yield from kind.values()

    def who_log(self) -> list[Child]:
        """Those who write to the log by themselves; the master does it for the others."""
        return [*self.workers.values(), *self.templates.values()]

    def unborn(self, template: int | None = None) -> list[WorkerChild]:
        """Workers whose pid nobody has said yet: all, or those asked of one template."""
        return [
            w
            for w in self.workers.values()
            if w.pid is None and (template is None or w.template == template)
        ]

    # A worker may die before anybody has said that its pid is its own.

    def remember_stranger(self, death: Death) -> None:
        """Somebody we do not know has been waited for; it may yet turn out who it was."""
        if not self.unborn():
            self._strangers.clear()
        elif len(self._strangers) < MOST_STRANGERS:
            self._strangers[death.pid] = death

    def recall_stranger(self, pid: int) -> Death | None:
        """How that pid ended, if it has."""
        return self._strangers.pop(pid, None)

"""What happened, and what was decided, in plain words.

Notes are told by the master's own logbook, so the story reads as the log did. Whatever has no
words here is named as it is called in the code, with its fields.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from forkserve.master.family import Family
from forkserve.master.logbook import Logbook
from forkserve.master.persons import Person, Persons
from forkserve.supervisor import actions as do
from forkserve.supervisor import events as on
from forkserve.supervisor.actions import Action, Note
from forkserve.supervisor.deeds import signal_name
from forkserve.supervisor.events import Event, Exit
from forkserve.trace.codec import encode
from forkserve.trace.replaying import Cast, Seen, Who

_KINDS = ("worker", "template", "switchboard", "successor")


class Narrator:
    """Tells the story of one master. It remembers who has been there."""

    def __init__(self, app: str, urls: tuple[str, ...]) -> None:
        self._known: dict[Who, Seen] = {}
        self._logbook = Logbook(_Recalled(self.name), list(urls), app)

    def meet(self, cast: Cast) -> None:
        self._known.update(cast)

    def name(self, who: Who) -> str:
        """As in the log."""
        seen = self._known.get(who)
        one_of_many = who.kind in ("worker", "new master")
        name = f"worker {who.id}" if who.kind == "worker" else f"the {who.kind}"
        if seen is None:
            return name if one_of_many else f"{name} {who.id}"
        facts = [f"pid {seen.pid}"] if seen.pid else []
        facts += [f"generation {seen.generation}"] if seen.generation else []
        return f"{name} ({', '.join(facts)})" if facts else name

    def tell(self, what: Event | Action) -> str:
        """One line, or more: the details below it."""
        try:
            said = _WORDS.get(type(what))
            if callable(said):
                said = said(what)
            if said is not None:
                return said.format(it=what, **self._names(what))
            if isinstance(what, Note):
                return _as_logged(self._logbook, what)
        except (ArithmeticError, LookupError, ValueError):
            pass  # values that never occur, from a file that somebody has changed
        return self._plain(what)

    def _names(self, what: Event | Action) -> Mapping[str, str]:
        """The processes that it names, and how one of them has ended."""
        names = {}
        for field in fields(what):
            value = getattr(what, field.name)
            kind = field.name.removesuffix("_id")
            if field.name.endswith("_id") and kind in _KINDS and value is not None:
                names[kind] = self.name(Who("new master" if kind == "successor" else kind, value))
            if isinstance(value, Exit):
                names["exit"] = _ending(value)
        return names

    def _plain(self, what: Event | Action) -> str:
        name = re.sub(r"(?<!^)(?=[A-Z])", " ", type(what).__name__).lower()
        given = [f for f in fields(what) if f.name != "now"]
        return name + "".join(f", {f.name} {encode(getattr(what, f.name))}" for f in given)


_WORDS: Mapping[type[Event | Action], str | Callable[[Any], str]] = {
    # What happened.
    on.Started: "the master begins",
    on.ReloadRequested: "a reload is asked for",
    on.SettingsRejected: "a reload is asked for, and the settings cannot be used: {it.failure}",
    on.UpgradeRequested: "an upgrade is asked for (SIGUSR2)",
    on.ScaleRequested: "a scaling by {it.by:+d} is asked for",
    on.TargetRequested: "{it.workers} workers are asked for",
    on.RecycleRequested: lambda it: (
        "recycling of all workers is asked for"
        if it.worker_id is None
        else "recycling of {worker} is asked for"
    ),
    on.TerminateRequested: "a stop is asked for ({it.because})",
    on.InterruptRequested: "a stop is asked for (SIGINT)",
    on.QuitRequested: "a stop at once is asked for (SIGQUIT)",
    on.Resumed: "the master had been stopped and goes on (SIGCONT)",
    on.Alarm: "a deadline has passed",
    on.Forked: "{worker} is born as pid {it.pid}",
    on.ForkFailed: "the system refuses to fork {worker}: {it.error}",
    on.ForkLost: "the template of {worker} ended before it had forked it",
    on.TemplateForked: "{template} is born as pid {it.pid}",
    on.TemplateForkFailed: "the system refuses to fork {template}: {it.error}",
    on.WorkerReady: "{worker} says that it is ready",
    on.WorkerBootFailed: "{worker} cannot start: {it.failure}",
    on.WorkerBootExtended: "{worker} needs up to {it.seconds:g} s more to become ready",
    on.WorkerSpent: "{worker} wants to be recycled: {it.because}",
    on.WorkerSlow: lambda it: (
        "{worker} says that its handlers hold others up"
        if it.slow
        else "{worker} says that its handlers do not hold others up any more"
    ),
    on.StacksRead: "the stacks of {worker} are read",
    on.WorkerUnblocked: "{worker} says that its loop turns again, after {it.seconds:g} s",
    on.WorkerLeaving: "{worker} says that it drains",
    on.WorkerExited: "{worker} {exit}",
    on.TemplateReady: "{template} has imported the app",
    on.TemplateUnfit: "{template} holds what cannot be shared: {it.findings}",
    on.TemplateBootFailed: "{template} cannot import the app: {it.failure}",
    on.TemplateBootExtended: "{template} needs up to {it.seconds:g} s more to become ready",
    on.TemplateExited: "{template} {exit}",
    on.SwitchboardForked: "{switchboard} is born as pid {it.pid}",
    on.SwitchboardForkFailed: "the system refuses to fork {switchboard}: {it.error}",
    on.SwitchboardReady: "{switchboard} says that it is ready",
    on.SwitchboardLeaving: "{switchboard} says that it leaves",
    on.SwitchboardExited: "{switchboard} {exit}",
    on.SuccessorForked: "{successor} is born as pid {it.pid}",
    on.SuccessorForkFailed: "the system refuses to fork {successor}: {it.error}",
    on.SuccessorReady: "{successor} says that all its workers are ready",
    on.SuccessorExtended: "{successor} needs up to {it.seconds:g} s more to become ready",
    on.SuccessorFailed: "{successor} cannot start: {it.failure}",
    on.SuccessorExited: "{successor} {exit}",
    on.TakenOver: "the old master leaves the service to this one",
    on.PredecessorGone: "the old master is gone",
    # What is to be done.
    do.Fork: "make worker {it.worker_id} of generation {it.generation}, in slot {it.slot}",
    do.Promote: "have {worker} accept",
    do.ForkTemplate: "make a template of generation {it.generation}",
    do.DismissTemplate: "tell {template} to leave",
    do.DumpTemplate: "have {template} write its stacks",
    do.KillTemplate: "kill {template}",
    do.ForkSwitchboard: "make a switchboard",
    do.DismissSwitchboard: "have {switchboard} hand back what it holds, and leave",
    do.DumpSwitchboard: "have {switchboard} write its stacks",
    do.KillSwitchboard: "kill {switchboard}",
    do.ForwardSwitchboard: "have {switchboard} pass all it holds on to the new master's",
    do.ForkMaster: "start a new master",
    do.DismissMaster: "tell {successor} to stop",
    do.KillMaster: "kill {successor}",
    do.HandOver: "leave the service to {successor}",
    do.PassReloadOn: "have the new master (pid {it.pid}) reload",
    do.ReportReady: "tell the old master that this one can take over",
    do.Drain: "have {worker} drain",
    do.DumpStacks: "have {worker} write its stacks",
    do.ReadStacks: "read the stacks of {worker}",
    do.Kill: "kill {worker}",
    do.CloseListeners: "close the listeners",
    do.Leave: "leave, with exit code {it.code}",
    # These two the logbook tells with the pid of the process that it is in.
    do.TookOver: "upgrade done: this master has taken over from pid {it.predecessor}",
    do.PredecessorLeft: "the old master (pid {it.predecessor}) is gone",
}


def _ending(exit: Exit) -> str:
    if exit.signal is None:
        return f"has exited with {exit.code}"
    memory = " (out of memory)" if exit.oom else ""
    return f"was ended by {signal_name(exit.signal)}{memory}"


class _Recalled(Persons):
    """Who was who. Their processes are gone, or are others' by now: no pid is looked at."""

    def __init__(self, name: Callable[[Who], str]) -> None:
        super().__init__(Family())
        self._name = name

    def worker(self, number: int) -> Person:
        return Person(self._name(Who("worker", number)))

    def template(self, number: int) -> Person:
        return Person(self._name(Who("template", number)))

    def switchboard(self, number: int) -> Person:
        return Person(self._name(Who("switchboard", number)))


class _Ear(logging.Handler):
    """Hears what the logbook says."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        details: Any = getattr(record, "details", "")
        self.heard.append("\n".join([record.getMessage(), *str(details).splitlines()]))


def _as_logged(logbook: Logbook, note: Note) -> str:
    log = logging.getLogger("forkserve")
    before = log.handlers, log.level, log.propagate
    ear = _Ear()
    log.handlers, log.propagate = [ear], False
    log.setLevel(logging.DEBUG)
    try:
        logbook.tell(note)
    finally:
        log.handlers, log.propagate = before[0], before[2]
        log.setLevel(before[1])
    return "\n".join(ear.heard)

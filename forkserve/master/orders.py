"""What a client has told the master to do, until it is known what has come of it.

An order asks the supervisor by an event, and follows what that notes and does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, ClassVar

from forkserve.control.protocol import Id
from forkserve.master.connection import FOREVER, Connection
from forkserve.master.family import WorkerChild
from forkserve.master.kernel import process_state
from forkserve.supervisor import actions as note
from forkserve.supervisor import events as on
from forkserve.supervisor.actions import Departure
from forkserve.supervisor.events import Event
from forkserve.supervisor.failures import BootFailure
from forkserve.supervisor.phases import Phase
from forkserve.supervisor.state import State

COULD_NOT_START = (Departure.FAILED_TO_BOOT, Departure.BOOT_TIMED_OUT)

LOOK = 0.02
"""Seconds between two looks at what a worker does."""

LAST_ACCEPTS = 2.0
"""Seconds that workers may take to accept no more, once they have been told to leave. One that
takes longer is blocked, and so does not accept either."""

QUIET = 0.1
"""Seconds without a further word of a worker, after which its stacks are all there."""

LONGEST_DUMP = 3.0
"""Seconds that a worker may take to write its stacks: the handler needs a moment of the CPU
and nothing else of the worker."""


@dataclass(slots=True)
class Caller:
    """Who asked, and is to be answered."""

    connection: Connection
    id: Id
    answered: bool = False

    def progress(self, stage: str, text: str) -> None:
        self.connection.send({"id": self.id, "progress": {"stage": stage, "text": text}})

    def done(self, **more: Any) -> None:
        self._answer({"id": self.id, "ok": True, **more})

    def fail(self, error: str, details: str = "") -> None:
        more = {"details": details} if details else {}
        self._answer({"id": self.id, "ok": False, "error": error, **more})

    def _answer(self, message: dict[str, Any]) -> None:
        if not self.answered:
            self.answered = True
            self.connection.under_way -= 1
            self.connection.send(message)


@dataclass(slots=True)
class Order:
    """Under way as long as its caller has not been answered."""

    caller: Caller

    @property
    def over(self) -> bool:
        return self.caller.answered or self.caller.connection.closed

    def hear(self, what: note.Note, text: str, state: State) -> None:
        """The supervisor has noted something, which the log tells as ``text``."""

    def follow(self, event: Event, state: State) -> None:
        """``event`` has happened, and ``state`` is what came of it."""

    def due(self) -> float:
        return FOREVER

    def look(self, now: float) -> None:
        """It is due."""


@dataclass(slots=True)
class Reload(Order):
    """Done when everybody is of the new generation, and nobody else accepts any more: whoever
    connects then is served by the new code. Failed when that was dropped."""

    others_accept: Callable[[int], bool]
    """Whether anybody of an older generation than this still accepts."""

    generation: int | None = None
    """The first that holds what was asked for; a later one does too. None: not known yet."""

    _serves: int = 0
    """The generation that everybody is of, and ..."""

    _text: str = ""
    _next: float = FOREVER
    _until: float = FOREVER

    def hear(self, what: note.Note, text: str, state: State) -> None:
        match what:
            case _ if self._serves:
                pass
            case note.ReloadBegins():
                self.caller.progress("tried", text)
                if self.generation is None and not state.reload_waits:
                    self.generation = what.generation
            case note.GenerationAccepted():
                self.caller.progress("accepted", text)
            case note.WorkerServes() | note.TemplateServes():
                self.caller.progress("replacing" if self._is_accepted(state) else "starting", text)
            case note.Waits("reload"):
                self.caller.progress("waiting", text)
            case note.Ignored("reload") if self.generation is None:
                self.caller.fail(text)
            case note.ReloadRefused() if self.generation is None:
                self._failed(text, what.failure)
            case note.GenerationDropped() if self._is_ours(what.generation):
                self._failed(text, what.failure)
            case note.FirstBootFailed():
                self._failed(text, what.failure)
            case note.ReloadDone() | note.AllReady() if self._is_accepted(state):
                self._serves, self._text = state.current, text
                self._next = monotonic()
                self._until = self._next + LAST_ACCEPTS
            case note.UpgradeDone() | note.Stopping():
                self.caller.fail(text)

    def due(self) -> float:
        return self._next

    def look(self, now: float) -> None:
        self._next = now + LOOK
        if now >= self._until or not self.others_accept(self._serves):
            self.caller.done(generation=self._serves, text=self._text)

    def follow(self, event: Event, state: State) -> None:
        asked = isinstance(event, on.ReloadRequested) and not state.reload_waits
        if asked and self.generation is None:
            self.generation = state.trial or max(1, state.newest)

    def _is_ours(self, generation: int) -> bool:
        return self.generation is not None and generation >= self.generation

    def _is_accepted(self, state: State) -> bool:
        return self._is_ours(state.current)

    def _failed(self, text: str, failure: BootFailure) -> None:
        self.caller.fail(text, failure.details)


@dataclass(slots=True)
class Change(Order):
    """Of the workers. Fails if one that is made for it cannot start, or if the master stops."""

    STAGE: ClassVar = "changing"

    def hear(self, what: note.Note, text: str, state: State) -> None:
        match what:
            case note.WorkerServes() | note.WorkerLeaves():
                self.caller.progress(self.STAGE, text)
            case note.WorkerGone() if what.departure in COULD_NOT_START:
                self.caller.fail(text, what.failure.details if what.failure else what.stack)
            case note.WorkerGone():
                self.caller.progress("leaving", text)
            case note.Stopping():
                self.caller.fail(text)

    def follow(self, event: Event, state: State) -> None:
        ready = len(state.serving())
        if self.is_done(ready, state):
            self.caller.done(workers=ready, text=f"{ready} ready, {state.target} wanted")

    def is_done(self, ready: int, state: State) -> bool:
        """With so many workers ready."""
        raise NotImplementedError


@dataclass(slots=True)
class Scale(Change):
    """Done when so many workers are ready."""

    target: int | None = None

    def hear(self, what: note.Note, text: str, state: State) -> None:
        match what:
            case note.Scaled() if self.target is None:
                self.target = what.target
                self.caller.progress("wanted", text)
            case note.Scaled() if what.target != self.target:
                self.caller.fail(f"Something else was asked for meanwhile: {text}.")
            case note.ScaleRefused() | note.Ignored("scale") if self.target is None:
                self.caller.fail(text)
            case _:
                Change.hear(self, what, text, state)

    def is_done(self, ready: int, state: State) -> bool:
        return self.target is not None and ready >= self.target


@dataclass(slots=True)
class Recycle(Change):
    """Done when those who were to be replaced have gone, and as many as are wanted are ready."""

    STAGE: ClassVar = "replacing"

    number: int | None
    """The id of one worker; None: all."""

    left: set[int] = field(default_factory=set)
    """Those that have not gone yet."""

    def begin(self, state: State) -> None:
        """Before it is asked for: who is worn already goes too."""
        self.left = {w.id for w in state.in_phase(Phase.READY) if self.number in (None, w.id)}

    def hear(self, what: note.Note, text: str, state: State) -> None:
        match what:
            case note.Ignored("recycle"):
                self.caller.fail(text)
            case note.WorkerWorn(worker_id) if worker_id in self.left:
                self.caller.progress("worn", text)
            case _:
                if isinstance(what, note.WorkerGone):
                    self.left.discard(what.worker_id)
                Change.hear(self, what, text, state)

    def is_done(self, ready: int, state: State) -> bool:
        return not self.left and ready >= state.target


@dataclass(slots=True)
class Stop(Order):
    """Done when nobody is left but the master, which ends then."""

    def hear(self, what: note.Note, text: str, state: State) -> None:
        match what:
            case note.Stopping():
                self.caller.progress("stopping", text)
            case note.WorkerGone():
                self.caller.progress("leaving", text)
            case note.Stopped():
                self.caller.done(code=what.code, text=text)


@dataclass(slots=True)
class Dump(Order):
    """Done when the worker has written the stacks of all its threads."""

    worker: WorkerChild
    ask: Callable[[], None]
    """Have it write."""

    _seen: int = 0
    _changed: float = 0.0
    _next: float = 0.0
    _until: float = 0.0

    def begin(self) -> None:
        self._changed = monotonic()
        self._next, self._until = self._changed + LOOK, self._changed + LONGEST_DUMP
        self._ask()

    def _ask(self) -> None:
        self.worker.expect_stack()
        self._seen = self.worker.words()
        self.ask()

    def due(self) -> float:
        return self._next

    def look(self, now: float) -> None:
        self._next = now + LOOK
        size = self.worker.words()
        if size < self._seen:
            self._ask()  # somebody else has asked, too, and was quicker
        elif size > self._seen:
            self._seen, self._changed = size, now
        elif size and now - self._changed >= QUIET:
            stack = self.worker.stack() if self.worker.condemned else self.worker.take_stack()
            self.caller.done(worker=self.worker.id, stack=stack)
        elif now >= self._until:
            who = f"Worker {self.worker.id} (pid {self.worker.pid})"
            state = process_state(self.worker.pid) if self.worker.pid else ""
            why = f" (it is {state})" if state else ""
            self.caller.fail(f"{who} has written no stack within {LONGEST_DUMP:g} s{why}.")

    def hear(self, what: note.Note, text: str, state: State) -> None:
        if isinstance(what, note.WorkerGone) and what.worker_id == self.worker.id:
            self.caller.fail(text, what.stack)

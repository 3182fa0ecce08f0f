"""What the master remembers of what it has said, for whoever asks later: the last lines of its
log, the last deaths, the last failure, and how often things have come to pass.

It keeps the lines as the logbook words them. So it is a handler of the master's log.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from forkserve.supervisor import actions as note
from forkserve.supervisor.actions import Departure
from forkserve.supervisor.state import State

MOST = 50
"""So many lines, and so many deaths."""

Line = Mapping[str, Any]

_Gone = note.WorkerGone | note.TemplateGone | note.SwitchboardGone


class Chronicle(logging.Handler):
    """Remembers."""

    def __init__(self, log: logging.Logger) -> None:
        """Hears all, while the other handlers of ``log`` go on with what its level lets
        through."""
        super().__init__()
        self._owner = os.getpid()
        self._log_level = log.level
        for handler in log.handlers:
            handler.setLevel(log.level)
        log.setLevel(min(logging.DEBUG, log.level))
        log.addHandler(self)
        self.heard: Callable[[Line], None] = lambda line: None
        """Is told each line of the log."""

        self.said = ""
        """In which words the log tells of the note that was told last."""

        self._telling: note.Note | None = None
        self._leavers: dict[int, str] = {}
        self.lines: deque[Line] = deque(maxlen=MOST)
        self.deaths: list[Line] = []
        self.restarts: Counter[str] = Counter()
        """How often a worker was made in place of another, by what has become of that."""

        self.reloads_done = 0
        self.reloads_failed = 0
        self.last_failure: Line | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if record.process != self._owner:
            return  # a child has a copy of us
        details = getattr(record, "details", "")
        if record.exc_info:
            details = logging.Formatter().formatException(record.exc_info)
        line = {
            "at": round(record.created, 3),
            "level": record.levelname.lower(),
            "text": record.getMessage(),
            "details": details,
        }
        if self._telling is not None and not self.said:
            self.said = record.getMessage()
        if isinstance(self._telling, _Gone) and _is_told(self._telling):
            self._remember_death(self._telling, line)
        if record.levelno >= logging.ERROR:
            self.last_failure = {key: line[key] for key in ("at", "text", "details")}
        if record.levelno >= self._log_level:
            self.lines.append(line)
            self.heard(line)

    @contextlib.contextmanager
    def of(self, what: note.Note, state: State) -> Iterator[None]:
        """What is said meanwhile is said of ``what``."""
        self._count(what, state)
        self._telling, self.said = what, ""
        try:
            yield
        finally:
            self._telling = None

    def _remember_death(self, what: _Gone, line: Line) -> None:
        failure = getattr(what, "failure", None)
        details = line["details"] or (failure.details if failure else "")
        who = _who(what)
        text, at = line["text"], line["at"]
        self.deaths.append(
            {"at": at, "who": who, "text": text, "details": details, "planned": what.planned}
        )
        if len(self.deaths) > MOST:
            # A reload of many workers shall not make the one forgotten that has crashed.
            planned = (i for i, death in enumerate(self.deaths) if death["planned"])
            del self.deaths[next(planned, 0)]

    def _count(self, what: note.Note, state: State) -> None:
        match what:
            case note.WorkerLeaves(worker_id):
                self._leavers[worker_id] = _why_it_leaves(worker_id, state)
            case note.WorkerGone(worker_id):
                why = self._leavers.pop(worker_id, "")
                if cause := _cause(what, why, state):
                    self.restarts[cause] += 1
            case note.ReloadDone():
                self.reloads_done += 1
                self.last_failure = None  # it was of code that is gone
            case note.GenerationDropped() | note.ReloadRefused():
                self.reloads_failed += 1


def _is_told(what: _Gone) -> bool:
    """A template or a switchboard that is not needed any more is no news."""
    return isinstance(what, note.WorkerGone) or not what.planned


def _who(what: _Gone) -> str:
    match what:
        case note.WorkerGone(worker_id):
            return f"worker {worker_id}"
        case note.TemplateGone():
            return "template"
        case note.SwitchboardGone():
            return "switchboard"


def _why_it_leaves(worker_id: int, state: State) -> str:
    worker = state.workers.get(worker_id)
    if worker is None:
        return ""
    if worker.spent:
        return "recycled"
    return "reloaded" if worker.generation != state.wanted_generation else ""


def _cause(what: note.WorkerGone, why_it_left: str, state: State) -> str:
    """Empty if nobody comes in its place, or for that it was only late in leaving."""
    if state.stopping:
        return ""
    match what.departure:
        case Departure.CRASHED:
            return "out_of_memory" if what.exit.oom else "crashed"
        case Departure.FAILED_TO_BOOT:
            return "failed_to_boot"
        case Departure.BOOT_TIMED_OUT:
            return "boot_timed_out"
        case Departure.HUNG:
            return "hung"
        case Departure.LEFT:
            return "left"
        case _:
            return why_it_left

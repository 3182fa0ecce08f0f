"""How a log line looks: as text, or as one JSON object."""

from __future__ import annotations

import json
import logging
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

STAMP = "%(asctime)s.%(msecs)03d [%(process)d] %(levelname)-8s "
DATE = "%Y-%m-%d %H:%M:%S"

TRACE = 5
"""uvicorn's level below debug."""

logging.addLevelName(TRACE, "TRACE")

_COLOURS = {"WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[31;1m"}


@dataclass(frozen=True, slots=True)
class Lines:
    """How one log's lines look."""

    formatter: logging.Formatter
    lost: Callable[[int], str]
    """The line that says how many could not be written."""


def text_lines(formatter: logging.Formatter) -> Lines:
    return Lines(formatter, lambda number: f"({lost_in_words(number)})")


def json_lines(message: logging.Formatter | None = None) -> Lines:
    """``message``, if given, puts the message into words."""
    formatter = JsonFormatter(message)
    return Lines(formatter, lambda number: formatter.format(_loss(number)))


def lost_in_words(number: int) -> str:
    noun = "log line" if number == 1 else "log lines"
    return f"{number} {noun} before this could not be written"


class TextFormatter(logging.Formatter):
    """A line for people; a block, such as a stack, follows it with an indent."""

    def __init__(self, colours: bool = False, stamp: str = STAMP) -> None:
        super().__init__(f"{stamp}%(message)s", DATE)
        self._colours = colours
        self._second = -1
        self._said = ""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        """Put together once a second: it is what takes longest of a line."""
        if (second := int(record.created)) != self._second:
            self._said = super().formatTime(record, datefmt)
            self._second = second
        return self._said

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if block := getattr(record, "details", ""):
            text += "\n" + textwrap.indent(block, "    ")
        if self._colours and record.levelname in _COLOURS:
            return f"{_COLOURS[record.levelname]}{text}\x1b[0m"
        return text


class JsonFormatter(logging.Formatter):
    """One object a record, on one line, with keys that stay.

    Always ``time`` (ISO 8601 with its offset), ``level``, ``pid``, ``logger`` and
    ``message``. With an exception ``traceback``, with a block of the master's ``details``,
    with a line of the access log what :meth:`forkserve.logs.atoms.Answered.facts` tells.
    """

    def __init__(self, message: logging.Formatter | None = None) -> None:
        super().__init__()
        self._message = message

    def format(self, record: logging.LogRecord) -> str:
        message = self._message.format(record) if self._message else record.getMessage()
        told = {
            "time": _iso_8601(record.created),
            "level": record.levelname,
            "pid": record.process,
            "logger": record.name,
            "message": message.strip(),
        }
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        if record.stack_info:
            told["stack"] = record.stack_info
        if block := getattr(record, "details", ""):
            told["details"] = block
        if (answered := getattr(record, "answered", None)) is not None:
            told |= answered.facts()
        if lost := getattr(record, "lost", 0):
            told["lost"] = lost
        return json.dumps(told, ensure_ascii=False, default=str)


def _iso_8601(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="milliseconds")


def _loss(number: int) -> logging.LogRecord:
    text = lost_in_words(number)
    record = logging.LogRecord("forkserve", logging.WARNING, "", 0, text, None, None)
    record.lost = number
    return record

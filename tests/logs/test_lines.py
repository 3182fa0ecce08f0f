"""Log lines, as text and as JSON."""

from __future__ import annotations

import json
import logging
import sys
from datetime import datetime

from forkserve.logs.lines import JsonFormatter, TextFormatter


def record(text: str, level: int = logging.ERROR, **more: object) -> logging.LogRecord:
    made = logging.LogRecord("forkserve", level, "", 0, text, None, None)
    vars(made).update(more)
    return made


def test_a_block_stands_below_its_line() -> None:
    shown = TextFormatter(stamp="").format(record("it died", details="one\n  two"))
    assert shown == "it died\n    one\n      two"


def test_and_is_a_key_in_json() -> None:
    shown = JsonFormatter().format(record("it died", details="one\n  two"))
    assert "\n" not in shown
    told = json.loads(shown)
    assert list(told) == ["time", "level", "pid", "logger", "message", "details"]
    assert told["details"] == "one\n  two"
    assert datetime.fromisoformat(told["time"]).utcoffset() is not None


def test_an_exception_is_its_traceback() -> None:
    try:
        raise ValueError("no\nluck")
    except ValueError:
        seen = record("it failed\n", exc_info=sys.exc_info())
    told = json.loads(JsonFormatter().format(seen))
    assert told["message"] == "it failed"
    assert told["traceback"].endswith("ValueError: no\nluck")


def test_colours_are_for_terminals() -> None:
    assert TextFormatter(colours=True).format(record("x")).endswith("x\x1b[0m")
    assert "\x1b" not in TextFormatter().format(record("x"))

"""The kinds of values that a setting may have: how each is written, read and shown.

A value comes as text, from the command line or the environment, or as what it is, from a
file. Both are read by the same function, which says in one sentence what is wrong.
"""

from __future__ import annotations

import difflib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from forkserve.config.values import parse_size

_YES = ("1", "true", "yes", "on")
_NO = ("0", "false", "no", "off")


@dataclass(frozen=True, slots=True)
class Kind:
    """How a value is written, read and shown."""

    read: Callable[[object], Any]
    """From text, or from a value of a file. Raises ValueError with a sentence for the user."""

    metavar: str = ""
    """What stands for a value in ``--help``; empty for a switch, which needs none."""

    show: Callable[[Any], object] = lambda value: value
    """To what a file would hold."""

    many: bool = False
    """It is a tuple: on the command line the option may be given several times."""


def switch() -> Kind:
    """On or off."""
    return Kind(_read_switch)


def _read_switch(value: object) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in _YES or text in _NO:
        return text in _YES
    raise ValueError(f"{_quoted(value)} is neither true nor false; write one of them.")


def whole(low: int | None = 0, high: int | None = None) -> Kind:
    """A whole number within bounds, both included."""
    wanted = ""
    if low is not None:
        wanted = f" from {low} to {high}" if high is not None else f" of {low} or more"

    def read(value: object) -> int:
        number = value if isinstance(value, int) and not isinstance(value, bool) else None
        text = str(value).strip()
        # int() would take "1_0" too, and refuses thousands of digits in words of its own.
        if number is None and text.removeprefix("-").isdecimal() and len(text) < 20:
            number = int(text)
        too_low = number is not None and low is not None and number < low
        too_high = number is not None and high is not None and number > high
        if number is None or too_low or too_high:
            raise ValueError(f"{_quoted(value)} is no whole number{wanted}.")
        return number

    return Kind(read, "NUMBER")


def seconds(*, none: bool = False) -> Kind:
    """A time in seconds, from 0; as text with its unit too, s or ms.

    ``none``: that word means 0.
    """

    def read(value: object) -> float:
        if none and value == "none":
            return 0.0
        number = _number_of_seconds(value)
        if number is None or number < 0:
            raise ValueError(f"{_quoted(value)} is no number of seconds; write for example 30.")
        return number

    return Kind(read, "SECONDS")


def number() -> Kind:
    """Any number."""

    def read(value: object) -> float:
        if (found := _number(value)) is None:
            raise ValueError(f"{_quoted(value)} is no number.")
        return found

    return Kind(read, "NUMBER")


def _number_of_seconds(value: object) -> float | None:
    text = value.strip() if isinstance(value, str) else ""
    if text.endswith("ms"):
        number = _number(text[:-2])
        return None if number is None else number / 1000
    return _number(text[:-1] if text.endswith("s") else value)


def _number(value: object) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        found = float(str(value))
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def size() -> Kind:
    """Bytes, with K, M, G or T for powers of 1024."""
    return Kind(lambda value: parse_size(str(value)), "SIZE")


def choice(*words: str, open_to: str = "") -> Kind:
    """One of ``words``; or anything that contains ``open_to``, if that is given."""

    def read(value: object) -> str:
        text = str(value).strip()
        if text in words or (open_to and open_to in text):
            return text
        near = difflib.get_close_matches(text, words, n=1)
        hint = f'did you mean "{near[0]}"?' if near else f"write one of {', '.join(words)}."
        raise ValueError(f"{_quoted(value)} is not possible; {hint}")

    return Kind(read, f"[{'|'.join(words)}]")


def text(metavar: str, parse: Callable[[str], Any] = str, show: Callable[[Any], str] = str) -> Kind:
    """What ``parse`` makes of text; it raises ValueError with a sentence."""

    def read(value: object) -> Any:
        if not isinstance(value, str | os.PathLike):
            raise ValueError(f"{_quoted(value)} is no text; write it in quotes.")
        if "\0" in str(value):  # no path, and nothing in an environment, can have one
            raise ValueError("there is a null byte in it; leave that out.")
        return parse(str(value))

    return Kind(read, metavar, show)


def named(metavar: str) -> Kind:
    """A name, or the number that stands for it."""
    read = text(metavar).read
    return Kind(lambda v: read(str(v) if isinstance(v, int) else v), metavar)


def existing() -> Kind:
    """The path of something that exists."""

    def parse(text: str) -> str:
        if not os.path.exists(text):
            raise ValueError(f"there is no {_quoted(text)}.")
        return text

    return text("PATH", parse)


def logging_config() -> Kind:
    """A file that exists; or, from a file, a table as logging.config.dictConfig takes it."""
    path = existing()
    return Kind(lambda v: v if isinstance(v, Mapping) else path.read(v), path.metavar)


def octal(metavar: str, parse: Callable[[str], int]) -> Kind:
    """Permissions, or a mask of them: text is octal, a number is what it is."""

    def read(value: object) -> int:
        if not isinstance(value, int):
            return parse(str(value))
        try:
            return parse(f"{value:03o}")
        except ValueError as exc:
            wrong = f"the decimal number {value} is {value:o} in octal, which is too much"
            raise ValueError(f'{wrong}; write "{value}" or 0o{value} if that is meant.') from exc

    return Kind(read, metavar, lambda value: f"{value:03o}")


def many(kind: Kind, split: str = "") -> Kind:
    """Several of ``kind``. ``split`` is what may stand between them in one text.

    A file may hold one or a list, and for ``NAME=VALUE`` a table.
    """

    def read(value: object) -> tuple[Any, ...]:
        return tuple(kind.read(item) for item in _items(value, split))

    return Kind(read, kind.metavar, lambda values: [kind.show(v) for v in values], many=True)


def _items(value: object, split: str) -> Sequence[object]:
    if isinstance(value, Mapping):
        return [f"{name}={item}" for name, item in value.items()]
    if isinstance(value, list | tuple):
        return [item for one in value for item in _items(one, split)]
    if split and isinstance(value, str):
        return [part for part in value.split(split) if part.strip()]
    return [value]


def _quoted(value: object) -> str:
    """As the user wrote it, with a limit."""
    shown = json.dumps(value, default=repr, ensure_ascii=False)
    return shown if len(shown) <= 80 else shown[:77] + '..."'

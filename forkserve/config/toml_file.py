"""Settings from a TOML file: one of their own, or a table of pyproject.toml."""

from __future__ import annotations

import difflib
import re
import tomllib
from typing import Any

from forkserve.config.given import Found, Given
from forkserve.config.hooks import ARGUMENTS, Hook
from forkserve.config.values import parse_function

TABLE = ("tool", "forkserve")
"""Where they stand in pyproject.toml."""

BROKEN = (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError)
"""What is raised if a file is none."""


def has_settings(path: str) -> bool:
    """Whether ``path``, a pyproject.toml, has a table for us; one that is broken may have."""
    try:
        with open(path, "rb") as file:
            return _inside(tomllib.load(file), TABLE) is not None
    except OSError:
        return False
    except BROKEN:
        with open(path, errors="replace") as lines:
            return any(re.match(r"\s*\[\s*tool\.forkserve\b", line) for line in lines)


def from_toml(path: str, shown: str) -> Found:
    """``shown`` is how the user calls ``path``."""
    found = Found()
    try:
        with open(path, "rb") as file:
            text = file.read().decode()
        content: Any = tomllib.loads(text)
    except OSError as exc:
        found.problems.append(f"{shown}: cannot be read ({exc.strerror}).")
        return found
    except BROKEN as exc:
        found.problems.append(f"{shown}: is no valid TOML: {exc}.")
        return found
    table: tuple[str, ...] = ()
    if path.endswith("pyproject.toml"):
        table = TABLE
        content = _inside(content, TABLE) or {}
    if not isinstance(content, dict):
        found.problems.append(f"{shown}: {'.'.join(TABLE)} is no table of settings.")
        return found
    _take_hooks(content.pop("hooks", {}), found, shown)
    for key, value in content.items():
        line = _line_of(text, table, key)
        found.given.append(
            Given(key.replace("-", "_"), value, f"{shown}:{line}" if line else shown)
        )
    return found


def _inside(content: Any, path: tuple[str, ...]) -> Any:
    """What stands there; None: nothing."""
    for name in path:
        content = content.get(name) if isinstance(content, dict) else None
    return content


def _take_hooks(table: Any, found: Found, shown: str) -> None:
    """``worker_ready = "module:function"`` and the like, in a table ``hooks``."""
    if not isinstance(table, dict):
        found.problems.append(f"{shown}, hooks: is no table of names and functions.")
        return
    for name, function in table.items():
        if name not in ARGUMENTS:
            near = difflib.get_close_matches(name, ARGUMENTS, n=1)
            hint = f'did you mean "{near[0]}"?' if near else f"there are {', '.join(ARGUMENTS)}."
            found.problems.append(f'{shown}, hooks: there is no hook "{name}"; {hint}')
            continue
        try:
            found.hooks.append(Hook(name, "", parse_function(str(function))))
        except ValueError as exc:
            found.problems.append(f"{shown}, hooks.{name}: {exc}")


def _line_of(text: str, table: tuple[str, ...], key: str) -> int:
    """The line on which a key of that table is given; 0 if it cannot be told.

    tomllib keeps no places; what is looked for is how people write it.
    """
    now: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[([^\[\]]+)\]", line):
            now = tuple(part.strip().strip("\"'") for part in header[1].split("."))
            if now == (*table, key):
                return number
        elif now == table and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[=.]", line):
            return number
    return 0

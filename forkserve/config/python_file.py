"""Settings from a Python file, such as a gunicorn.conf.py.

A child executes it, and says what it has defined: nothing that the file imports gets into the
master. Whether a name is one of forkserve's settings or of Gunicorn's is decided later.
"""

from __future__ import annotations

import ast
import json
import os
import sys
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from types import FunctionType, ModuleType
from typing import Any

from forkserve import apart
from forkserve.config.gunicorn_values import described_worker_class
from forkserve.config.unknown_names import never_read

LONGEST = 30.0
"""Seconds that the file may take."""


@dataclass(slots=True)
class Content:
    """What a Python file defines, by name."""

    values: dict[str, Any] = field(default_factory=dict)
    """What JSON can hold; of a class its name with its module's, of a worker_class more."""

    functions: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    """What it has changed there."""

    not_sent: list[str] = field(default_factory=list)
    """What holds something that only exists in the process that executed the file."""

    never_read: list[str] = field(default_factory=list)
    """The names that the file itself has no use for."""

    lines: dict[str, int] = field(default_factory=dict)
    problem: str = ""
    """Why it could not be executed."""


def execute(path: str, shown: str) -> Content:
    """``shown`` is how the user calls ``path``."""
    answer = apart.ask(partial(_execute, path, shown), LONGEST)
    if isinstance(answer.said, dict):
        return Content(**answer.said)
    if not answer.in_time:
        return Content(problem=f"{shown}: was not executed within {LONGEST:g} s.")
    ending = f"by signal {-answer.code}" if answer.code < 0 else f"with {answer.code}"
    return Content(problem=f"{shown}: the process that executed it ended {ending}.")


# -- in the child -------------------------------------------------------------------------


def _execute(path: str, shown: str) -> dict[str, Any]:
    before = dict(os.environ)
    module = ModuleType("__config__")
    module.__file__ = path
    sys.modules[module.__name__] = module  # dataclasses and pickles look it up
    sys.path.insert(0, os.getcwd())
    try:
        with open(path, "rb") as file:
            source = file.read()
        exec(compile(source, path, "exec"), module.__dict__)
    except OSError as exc:
        if exc.filename == path:
            return {"problem": f"{shown}: cannot be read ({exc.strerror})."}
        return {"problem": _explain(exc, path, shown)}
    except BaseException as exc:  # sys.exit(), too, is no way to leave our process
        return {"problem": _explain(exc, path, shown)}
    values: dict[str, object] = {}
    functions, not_sent = [], []
    for name, value in vars(module).items():
        if name.startswith("_") or isinstance(value, ModuleType) or _is_a_class(value, name):
            continue
        if name == "worker_class":
            value = described_worker_class(value)
        if callable(value) and not isinstance(value, type):
            functions.append(name)
            continue
        try:
            values[name] = _plain(value)
        except (TypeError, ValueError):
            not_sent.append(name)
    changed = {k: v for k, v in os.environ.items() if before.get(k) != v}
    return {
        "values": values,
        "functions": functions,
        "not_sent": not_sent,
        "environment": changed,
        "never_read": sorted(never_read(source)),
        "lines": _lines(source),
    }


def _explain(exc: BaseException, path: str, shown: str) -> str:
    if isinstance(exc, SyntaxError):
        where = shown if exc.filename in (None, path) else exc.filename
        line = f":{exc.lineno}" if exc.lineno else ""
        return f"{where}{line}: {type(exc).__name__}: {exc.msg}."
    frames = [f for f in traceback.extract_tb(exc.__traceback__) if f.filename == path]
    line = f":{frames[-1].lineno}" if frames else ""
    said = f": {exc}" if str(exc) else ""
    return f"{shown}{line}: {type(exc).__name__}{said}."


def _is_a_class(value: object, name: str) -> bool:
    """Whether it was imported or defined for the file's own use, and not given as a value."""
    return isinstance(value, type) and value.__name__ == name


def _plain(value: object) -> object:
    """As it can be sent. Raises TypeError or ValueError if it cannot."""
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    return json.loads(json.dumps(value, default=_as_data))


def _as_data(value: object) -> object:
    """What stands for a value that JSON does not know, as in a dict for logging.config."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)
    for stream in ("stdout", "stderr"):
        if value is getattr(sys, stream):
            return f"ext://sys.{stream}"
    module = getattr(value, "__module__", None)
    name = getattr(value, "__qualname__", "")
    if isinstance(value, type | FunctionType) and module != "__config__" and name.isidentifier():
        return f"{module}.{name}"
    raise TypeError(f"{value!r} cannot be sent")


def _lines(source: bytes) -> dict[str, int]:
    """Where each name was last given, as far as it stands in the file itself."""
    lines: dict[str, int] = {}
    for node in ast.walk(ast.parse(source)):
        for name in _names(node):
            lines[name] = max(lines.get(name, 0), getattr(node, "lineno", 0))
    return lines


def _names(node: ast.AST) -> Iterable[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Assign):
        yield from (t.id for t in node.targets if isinstance(t, ast.Name))
    elif isinstance(node, ast.AnnAssign | ast.AugAssign) and isinstance(node.target, ast.Name):
        yield node.target.id

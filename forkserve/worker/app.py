"""Imports the user's app, and says in one sentence why it cannot be imported."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import sysconfig
import traceback
from types import ModuleType
from typing import Any

from forkserve.supervisor.events import BootFailure

LAST_LINES = 12
"""How much of a traceback is shown."""

_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_LIBRARIES = tuple({sysconfig.get_path(name) + os.sep for name in ("stdlib", "purelib", "platlib")})


class BootError(Exception):
    """The app cannot be loaded, for the reason in ``failure``."""

    def __init__(self, failure: BootFailure) -> None:
        super().__init__(failure.headline)
        self.failure = failure


def load_app(target: str, *, app_dir: str, factory: bool) -> Any:
    """The ASGI app that ``module:attribute`` names. Raises BootError."""
    name, _, attributes = target.partition(":")
    folder = os.path.abspath(app_dir)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    importlib.invalidate_caches()
    module = _import(name, folder)
    app = _attribute(module, attributes)
    if not callable(app):
        raise BootError(
            BootFailure(
                f'"{attributes}" in module "{name}" is a {type(app).__name__} and no ASGI app: '
                "it cannot be called; check APP.",
                _file(module),
            )
        )
    return _made_by(app, target) if factory else app


def explain(exc: BaseException, doing: str) -> BootFailure:
    """What went wrong, where in the user's code, and the end of the traceback."""
    lines = traceback.TracebackException.from_exception(exc)
    lines.stack = traceback.StackSummary.from_list(
        [frame for frame in lines.stack if not _machinery(frame.filename)]
    )
    text = "".join(lines.format()).strip().splitlines()
    message = str(exc).strip().splitlines() or ["(no message)"]
    return BootFailure(
        f"{doing}: {type(exc).__name__}: {message[0]}",
        _place(exc, lines.stack),
        "\n".join(text[-LAST_LINES:]),
    )


def _import(name: str, folder: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as exc:
        missing = exc.name or ""
        if name == missing or name.startswith(missing + "."):
            raise BootError(_no_module(missing, folder)) from exc
        raise BootError(explain(exc, f'module "{name}" cannot be imported')) from exc
    except (Exception, SystemExit) as exc:
        raise BootError(explain(exc, f'module "{name}" cannot be imported')) from exc


def _no_module(name: str, folder: str) -> BootFailure:
    near = difflib.get_close_matches(name, _modules_in(folder), n=1)
    hint = f'did you mean "{near[0]}"?' if near else "check APP and --app-dir."
    return BootFailure(f'there is no module "{name}" in {folder} or on sys.path; {hint}')


def _modules_in(folder: str) -> list[str]:
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return []
    files = [e.name.removesuffix(".py") for e in entries if e.name.endswith(".py")]
    return files + [e.name for e in entries if e.is_dir() and e.name.isidentifier()]


def _attribute(module: ModuleType, path: str) -> Any:
    value: Any = module
    for part in path.split("."):
        try:
            value = getattr(value, part)
        except AttributeError as exc:
            near = difflib.get_close_matches(part, _public_names(value), n=1)
            hint = f'did you mean "{near[0]}"?' if near else "check APP."
            headline = f'module "{module.__name__}" has no attribute "{path}"; {hint}'
            raise BootError(BootFailure(headline, _file(module))) from exc
    return value


def _public_names(value: Any) -> list[str]:
    return [name for name in dir(value) if not name.startswith("_")]


def _made_by(factory: Any, target: str) -> Any:
    try:
        app = factory()
    except (Exception, SystemExit) as exc:
        raise BootError(explain(exc, f"the factory {target} failed")) from exc
    if not callable(app):
        headline = f"the factory {target} returned a {type(app).__name__} and no ASGI app."
        raise BootError(BootFailure(headline))
    return app


def _file(module: ModuleType) -> str:
    return getattr(module, "__file__", None) or ""


def _machinery(filename: str) -> bool:
    return filename.startswith((_OURS, "<frozen importlib")) or "/importlib/" in filename


def _place(exc: BaseException, stack: traceback.StackSummary) -> str:
    if isinstance(exc, SyntaxError) and exc.filename:
        return f"{exc.filename}:{exc.lineno}"
    own = [f for f in stack if not f.filename.startswith((*_LIBRARIES, "<"))]
    last = (own or list(stack))[-1:]
    return f"{last[0].filename}:{last[0].lineno}" if last else ""

"""Imports the user's app, and says in one sentence why it cannot be imported."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import os
import sys
import sysconfig
import traceback
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from forkserve.supervisor.failures import BootFailure

LAST_LINES = 12
"""How much of a traceback is shown."""


def _folder_of(package: str) -> str:
    spec = importlib.util.find_spec(package)  # does not import it
    return os.path.dirname(spec.origin) + os.sep if spec and spec.origin else "<no such folder>"


_STDLIB = sysconfig.get_path("stdlib") + os.sep
_LOADING = (
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep,
    os.path.dirname(os.path.abspath(importlib.__file__)) + os.sep,
    "<frozen importlib",
)
"""Where the frames between us and the user's code come from."""

_MACHINERY = (*_LOADING, _folder_of("uvicorn"))
_LIBRARIES = (_STDLIB, *(sysconfig.get_path(name) + os.sep for name in ("purelib", "platlib")))
_PACKAGE_FOLDERS = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


class BootError(Exception):
    """The app cannot be loaded, for the reason in ``failure``."""

    def __init__(self, failure: BootFailure) -> None:
        super().__init__(failure.headline)
        self.failure = failure


def load_app(target: str, *, app_dir: str, factory: bool) -> Any:
    """The ASGI app that ``module:attribute`` names. Raises BootError.

    A function that may be a factory is returned as it is when ``factory`` is false:
    uvicorn finds out by itself.
    """
    name, _, path = target.partition(":")
    folder = look_first_in(app_dir)
    module = _import(name, folder)
    value = _attribute(module, path)
    if not callable(value):
        raise BootError(_not_callable(value, module, path, factory))
    return _made_by(value, module, path) if factory else value


def look_first_in(app_dir: str) -> str:
    """Have modules looked for in this folder before anywhere else. Returns its whole path."""
    folder = os.path.abspath(app_dir)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    importlib.invalidate_caches()
    return folder


def load_function(target: str) -> Any:
    """The function that ``module:function`` names. Raises BootError."""
    name, _, path = target.partition(":")
    module = _import(name, os.getcwd())
    function = _attribute(module, path)
    if not callable(function):
        kind = type(function).__name__
        headline = f'"{path}" in module "{name}" is of type {kind} and no function.'
        raise BootError(BootFailure(headline, _file(module)))
    return function


def explain(exc: BaseException, doing: str) -> BootFailure:
    """What went wrong, where in the user's code, and the end of the traceback."""
    shown = traceback.TracebackException.from_exception(exc)
    where = _place(exc, shown.stack)
    shown.stack = _without_our_head(shown.stack)
    lines = "".join(shown.format()).strip().splitlines()
    return BootFailure(f"{doing}: {_summary(exc)}", where, "\n".join(lines[-LAST_LINES:]))


# Importing the module.


def _import(name: str, folder: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except BaseException as exc:
        if isinstance(exc, ModuleNotFoundError) and _is_or_holds(exc.name, name):
            raise BootError(_no_module(exc.name or name, folder)) from exc
        raise BootError(explain(exc, f"{name} could not be imported")) from exc


def _is_or_holds(missing: str | None, name: str) -> bool:
    """Whether ``missing`` is the module ``name`` or one of its parents.

    Any other missing module is one that the user's code imports.
    """
    return bool(missing) and f"{name}.".startswith(f"{missing}.")


def _no_module(name: str, folder: str) -> BootFailure:
    parent, _, last = name.rpartition(".")
    near = difflib.get_close_matches(last, _modules_beside(parent, folder), n=1)
    if near:
        hint = f'did you mean "{f"{parent}.{near[0]}" if parent else near[0]}"?'
    else:
        hint = "check APP and --app-dir."
    looked = f"looked in {folder} first, then on sys.path"
    return BootFailure(f'There is no module "{name}" to import ({looked}); {hint}')


def _modules_beside(parent: str, folder: str) -> set[str]:
    """The modules that could be meant: those of the parent package, or in ``folder``."""
    folders = getattr(sys.modules.get(parent), "__path__", ()) if parent else [folder]
    return {name for each in folders for name in _modules_in(each)}


def _modules_in(folder: str) -> Iterable[str]:
    try:
        entries = sorted(os.listdir(folder))
    except OSError:
        return
    for entry in entries:
        name = entry.removesuffix(".py")
        package = os.path.join(folder, entry, "__init__.py")
        if name != "__init__" and (name != entry or os.path.isfile(package)):
            yield name


# Finding the app in it.


def _attribute(module: ModuleType, path: str) -> Any:
    value: Any = module
    found: list[str] = []
    for part in path.split("."):
        try:
            value = getattr(value, part)
        except AttributeError as exc:
            raise BootError(_no_attribute(module, path, value, found)) from exc
        except Exception as exc:  # of a module's __getattr__, or a property
            doing = f'"{path}" in module "{module.__name__}" could not be read'
            raise BootError(explain(exc, doing)) from exc
        found.append(part)
    return value


def _no_attribute(module: ModuleType, path: str, holder: Any, found: list[str]) -> BootFailure:
    """``holder`` is what the first parts of ``path``, those ``found``, have led to."""
    part = path.split(".")[len(found)]
    apps = [] if found else _apps_in(module)
    # An app is a better guess than a name that is merely spelled alike.
    near = _near(part, apps) or _near(part, [n for n in dir(holder) if not n.startswith("_")])
    if near:
        hint = f'did you mean "{".".join([*found, *near])}"?'
    elif apps:
        hint = f"what looks like an app there: {', '.join(apps)}."
    else:
        hint = "check APP."
    headline = f'Module "{module.__name__}" has no attribute "{path}"; {hint}'
    return BootFailure(headline, _file(module))


def _near(name: str, names: list[str]) -> list[str]:
    return difflib.get_close_matches(name, names, n=1)


def _apps_in(module: ModuleType) -> list[str]:
    """The names of instances that can be awaited like an ASGI app."""
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and callable(value)
        and inspect.iscoroutinefunction(type(value).__call__)
    ]


def _not_callable(value: Any, module: ModuleType, path: str, factory: bool) -> BootFailure:
    what = f'"{path}" in module "{module.__name__}" is of type {type(value).__name__}'
    if factory:
        headline = f"{what}, but a factory needs to be callable; check APP and --factory."
    else:
        headline = f"{what} and no ASGI app: it cannot be called; check APP."
    return BootFailure(headline, _file(module))


# Having a factory make it.


def _made_by(factory: Any, module: ModuleType, path: str) -> Any:
    what = f'The factory "{path}" in module "{module.__name__}"'
    try:
        app = factory()
    except KeyboardInterrupt:
        raise
    except BaseException as exc:
        raise BootError(_factory_failed(exc, what, module)) from exc
    if not callable(app):
        raise BootError(_no_app_made(app, what, module))
    return app


def _factory_failed(exc: BaseException, what: str, module: ModuleType) -> BootFailure:
    own_frames = exc.__traceback__.tb_next if exc.__traceback__ else None
    if not isinstance(exc, TypeError) or own_frames:
        return explain(exc, f"{what} failed")
    # The call itself was refused: it takes arguments, so most likely is the app.
    headline = f"{what} cannot be called without arguments ({_summary(exc)}); "
    return BootFailure(headline + "if it is the app itself, leave out --factory.", _file(module))


def _no_app_made(made: Any, what: str, module: ModuleType) -> BootFailure:
    kind = type(made).__name__
    hint = "check what it returns."
    if inspect.iscoroutine(made):
        made.close()  # else Python warns that nobody has awaited it
        hint = "a factory cannot be an async function."
    headline = f"{what} returned something of type {kind}, which is no ASGI app; {hint}"
    return BootFailure(headline, _file(module))


# Reading tracebacks.


def _summary(exc: BaseException) -> str:
    kind = type(exc).__name__
    if isinstance(exc, SystemExit):
        return f"{kind}: sys.exit({exc.code!r}) was called"
    try:
        # str() of a SyntaxError repeats the place.
        message = str(exc.msg if isinstance(exc, SyntaxError) else exc).strip()
    except Exception:
        message = "(its message cannot be shown)"  # the user's __str__ is broken
    return f"{kind}: {message.splitlines()[0]}" if message else kind


def _place(exc: BaseException, stack: traceback.StackSummary) -> str:
    if isinstance(exc, SyntaxError) and exc.filename and not exc.filename.startswith("<"):
        return f"{exc.filename}:{exc.lineno}"
    frames = [f for f in stack if not f.filename.startswith(_MACHINERY)]
    own = [f for f in frames if not _is_library(f.filename)]
    return "".join(f"{f.filename}:{f.lineno}" for f in (own or frames)[-1:])


def _is_library(filename: str) -> bool:
    return filename.startswith((*_LIBRARIES, "<")) or any(p in filename for p in _PACKAGE_FOLDERS)


def _without_our_head(stack: traceback.StackSummary) -> traceback.StackSummary:
    first = 0
    while first < len(stack) and stack[first].filename.startswith(_LOADING):
        first += 1
    return traceback.StackSummary.from_list(list(stack)[first:])


def _file(module: ModuleType) -> str:
    return getattr(module, "__file__", None) or ""

"""Executing the file that a hook is in, once in a process, and calling the hook."""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Callable, Collection, Sequence
from types import ModuleType
from typing import Any

from forkserve.config.hooks import ARGUMENTS, Hook
from forkserve.supervisor.failures import BootFailure
from forkserve.worker.app import BootError, explain, load_function, look_first_in

_executed: dict[str, ModuleType] = {}
"""By path. A fork copies it, so that a worker goes on with what its template has."""


class Hooks:
    """Those with certain names, found and ready to be called."""

    def __init__(self, hooks: Sequence[Hook], app_dir: str, names: Collection[str]) -> None:
        """Raises BootError if one of them cannot be found, or cannot be called."""
        mine = [hook for hook in hooks if hook.name in names]
        if mine:
            look_first_in(app_dir)
        self._found = [(hook, *_find(hook)) for hook in mine]

    def call(self, name: str, *arguments: Any) -> None:
        """Call all of this name, in order, until one fails. Raises BootError."""
        for hook, function, takes in self._found:
            if hook.name != name:
                continue
            try:
                function(*arguments[:takes])
            except BaseException as exc:  # sys.exit(), too, is no way to leave our process
                raise BootError(explain(exc, f"The hook {hook} failed")) from exc


def _find(hook: Hook) -> tuple[Callable[..., Any], int]:
    """The function, and how many arguments it takes of those that there are."""
    function = _in_file(hook) if hook.file else load_function(hook.function)
    place = _place(function, hook)
    if not callable(function):
        kind = type(function).__name__
        raise BootError(BootFailure(f"The hook {hook} is of type {kind} and no function.", place))
    if inspect.iscoroutinefunction(function):
        raise BootError(
            BootFailure(f"The hook {hook} is an async function; a plain one is needed.", place)
        )
    given = ARGUMENTS[hook.name]
    takes = _takes(function, len(given))
    if takes is None:
        wrong = f"is called with ({', '.join(given)}), but takes {inspect.signature(function)}"
        raise BootError(BootFailure(f"The hook {hook} {wrong}.", place))
    return function, takes


def _takes(function: Callable[..., Any], given: int) -> int | None:
    """All that is given, or nothing: anything between would be a guess."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return given  # some that are written in C do not tell
    for count in (given, 0):
        try:
            signature.bind(*[None] * count)
        except TypeError:
            continue
        return count
    return None


def _place(function: Any, hook: Hook) -> str:
    code = getattr(function, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else hook.file


def _in_file(hook: Hook) -> Any:
    module = _execute(hook)
    try:
        return getattr(module, hook.function)
    except AttributeError:
        headline = f'There is no "{hook.function}" in {hook.file}, for the hook {hook.name}.'
        raise BootError(BootFailure(headline)) from None


def _execute(hook: Hook) -> ModuleType:
    if hook.file not in _executed:
        _executed[hook.file] = _anew(hook.file, f"The file of the hook {hook}")
    return _executed[hook.file]


def _anew(path: str, what: str) -> ModuleType:
    """The module that comes of executing a file.

    From its source: the bytecode that Python keeps beside it may be that of an older one
    that is as long and was written in the same second.
    """
    try:
        with open(path, "rb") as file:
            source = file.read()
    except OSError as exc:
        raise BootError(BootFailure(f"{what} cannot be read: {exc.strerror}.", path)) from exc
    module = ModuleType(_name_for(path))
    module.__file__ = path
    sys.modules[module.__name__] = module  # what it defines says that it is from there
    try:
        exec(compile(source, path, "exec"), module.__dict__)
    except BaseException as exc:
        del sys.modules[module.__name__]
        raise BootError(explain(exc, f"{what} failed")) from exc
    return module


def _name_for(path: str) -> str:
    """A name that no module has yet, and that is the same in each process."""
    name = "forkserve_file_" + re.sub(r"\W", "_", os.path.basename(path).removesuffix(".py"))
    return name if name not in sys.modules else f"{name}_{len(_executed)}"

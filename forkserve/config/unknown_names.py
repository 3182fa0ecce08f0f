"""Names in a gunicorn.conf.py that are no settings: which are mistakes, and what to say of them.

gunicorn is silent about them, so ``max_request = 1000`` goes unnoticed for years. But most are
variables that the file needs for itself. Those it reads; a mistyped setting is read by nobody.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable

from forkserve.config.gunicorn import SETTINGS, Called, NotCalled, near

OF_THE_FILE = frozenset(
    {"app", "app_dir", "access_log", "env_file", "fd", "host", "pid", "port", "uds"}
)
"""Names of forkserve's or uvicorn's settings which such files use as variables of their own.
gunicorn has wsgi_app, pythonpath, accesslog, raw_env, bind and pidfile for them."""


def is_a_setting(name: str, also_defined: Collection[str]) -> bool:
    """Whether ``name``, a setting of forkserve's or uvicorn's, is meant as one in such a file.

    Not if the file defines gunicorn's name for it as well: of ``log_level`` and ``loglevel``,
    gunicorn takes the second.
    """
    if name in OF_THE_FILE:
        return False
    gunicorns = [theirs for theirs, entry in SETTINGS.items() if getattr(entry, "to", "") == name]
    gunicorns += ["loglevel"] if name == "log_level" else []
    return not any(theirs in also_defined for theirs in gunicorns if theirs != name)


def never_read(source: str | bytes) -> frozenset[str]:
    """The names that a file defines at its outermost level, and reads nowhere.

    Imports do not count: they often bring more than is needed. Raises SyntaxError.
    """
    tree = ast.parse(source)
    read: set[str] = set()
    written: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            (read if isinstance(node.ctx, ast.Load) else written).add(node.id)
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    return frozenset((written | functions) - read)


def may_be_a_mistake(name: str, *, function: bool) -> bool:
    """Whether a name that is unknown is worth a look: of functions, only what is almost a hook."""
    if function:
        return isinstance(SETTINGS.get(near(name)), Called | NotCalled)
    return not name.startswith("_")


def warning(unknown: Iterable[str], never_read: Collection[str], defined: Collection[str]) -> str:
    """One sentence for all of the ``unknown`` names that are mistakes; empty if none is.

    ``defined`` are all names of the file: what it defines is not what was meant besides.
    """
    mistakes = sorted(name for name in unknown if name in never_read)
    if not mistakes:
        return ""
    words = ", ".join(_with_a_hint(name, defined) for name in mistakes)
    return f"no {'setting' if len(mistakes) == 1 else 'settings'}, so without effect: {words}."


def _with_a_hint(name: str, defined: Collection[str]) -> str:
    meant = near(name)
    return f"{name} (did you mean {meant}?)" if meant and meant not in defined else name

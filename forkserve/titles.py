"""How a process is shown by ps(1), top(1) and the like: what it is, and nothing else.

The title takes the place of the command line, which may hold what others need not see. It
takes the package setproctitle, which need not be there (``forkserve[titles]``). The name of
15 bytes that Linux has for each process besides (PR_SET_NAME of prctl(2)) is always given.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable

from forkserve.prctl import SET_NAME, prctl

NOT_SHOWN = (
    "--name is shown nowhere: process titles need the package setproctitle, which "
    'comes with "forkserve[titles]"'
)


def show(who: str, comm: str, name: str | None) -> None:
    """Be called ``forkserve: who [name]``, and ``comm``, of up to 15 bytes, in short."""
    if change := _change():
        change(f"forkserve: {who}" + (f" [{name}]" if name else ""))
    be_called(comm)  # afterwards: setproctitle gives a short name too, but cuts ours off


def be_called(comm: str) -> None:
    """Have ``comm``, of up to 15 bytes, as the short name (Linux only)."""
    prctl(SET_NAME, comm.encode())


def can_be_shown() -> bool:
    return _change() is not None


def _change() -> Callable[[str], None] | None:
    # macOS kills a forked process that does it: github.com/dvarrazzo/py-setproctitle/issues/113.
    if sys.platform == "darwin":
        return None
    with contextlib.suppress(ImportError):
        # By its name, so that the types are checked alike with it and without.
        change: Callable[[str], None] = importlib.import_module("setproctitle").setproctitle
        return change
    return None

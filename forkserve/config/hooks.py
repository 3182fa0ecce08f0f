"""Functions of the user's that are called at certain moments, and what each is given."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "on_starting": ("server",),
    "when_ready": ("server",),
    "on_reload": ("server",),
    "child_exit": ("server", "worker"),
    "on_exit": ("server",),
    "pre_fork": ("server", "worker"),
    "post_fork": ("server", "worker"),
    "worker_ready": ("worker",),
    "worker_exit": ("server", "worker"),
}
"""Every hook there is, with what it is called with."""

OF_A_WORKER = ("pre_fork", "post_fork", "worker_ready", "worker_exit")
"""Those that run in a worker or its template. The others have a process of their own."""


@dataclass(frozen=True, slots=True)
class Hook:
    """A function to be called at the moment that ``name`` says."""

    name: str
    """One of ARGUMENTS."""

    file: str
    """The absolute path of the Python file that it is in, or empty."""

    function: str
    """Its name in that file; ``module:function`` if there is no file."""

    def __str__(self) -> str:
        if self.file:
            return f"{self.name} of {os.path.basename(self.file)}"
        return f"{self.name} ({self.function})"

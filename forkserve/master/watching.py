"""``--reload``, for development: a child watches the files, and says which has changed."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import NoReturn

from forkserve import titles
from forkserve.config.settings import Settings
from forkserve.master.kernel import Kernel, fork_with_a_pipe
from forkserve.worker import birth, lifeline

INCLUDED = ("*.py",)
EXCLUDED = (".*", ".py[cod]", ".sw.*", "~*")
"""What uvicorn watches if nothing else is said, and what it leaves out."""

GROUPED = 50
"""Milliseconds. An editor or a checkout changes several files at once."""


class Watching:
    """The child that watches, and the pipe on which it names a file that has changed."""

    def __init__(self, kernel: Kernel, settings: Settings) -> None:
        """Raises OSError (EAGAIN, EMFILE)."""
        life = partial(_live, settings=settings, master_pid=os.getpid())
        self._pipe = fork_with_a_pipe(kernel, life)
        self.ended = False

    def fileno(self) -> int:
        return self._pipe

    def changed(self) -> str:
        """The path of a file that has changed since the last call, if any has."""
        paths: list[str] = []
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._pipe, 1 << 16):
                paths += data.decode(errors="replace").splitlines()
            self.ended = True
        return paths[-1] if paths else ""

    def close(self) -> None:
        os.close(self._pipe)


# -- in the child -------------------------------------------------------------------------


def _live(pipe: int, settings: Settings, master_pid: int) -> NoReturn:
    birth.live_and_leave(lambda: _watch(pipe, settings, master_pid))


def _watch(pipe: int, settings: Settings, master_pid: int) -> int:
    birth.forget_the_parent({pipe}, None, master_pid)
    lifeline.die_with_the_master(master_pid, signal.SIGKILL)
    lifeline.take_no_notice_of(signal.SIGINT)  # Ctrl-C is for the master to act on
    titles.show("watches files", "forkserve-watch", settings.name)
    from watchfiles import watch

    wanted = Wanted.by(settings)
    places = [place for place in wanted.places if os.path.exists(place)]
    for changes in watch(*places, watch_filter=None, step=GROUPED, raise_interrupt=False):
        for path in sorted({path for _, path in changes}):
            if wanted.holds(path):
                os.write(pipe, f"{path}\n".encode())
                break
    return 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which files are watched."""

    folders: tuple[str, ...]
    """Absolute, like all paths here."""

    files: tuple[str, ...]
    included: tuple[str, ...]
    excluded: tuple[str, ...]
    excluded_folders: tuple[str, ...]

    @classmethod
    def by(cls, settings: Settings) -> Wanted:
        """As uvicorn takes its options: a pattern that is the name of a directory stands for
        the directory."""
        folders = [*settings.reload_dirs, *filter(os.path.isdir, settings.reload_includes)]
        return cls(
            _absolute(folders or ["."]),
            _absolute(settings.reload_extra_files),
            (*INCLUDED, *settings.reload_includes),
            (
                *(p for p in EXCLUDED if p not in settings.reload_includes),
                *settings.reload_excludes,
            ),
            _absolute(filter(os.path.isdir, settings.reload_excludes)),
        )

    @property
    def places(self) -> tuple[str, ...]:
        return (*self.folders, *self.files)

    def holds(self, path: str) -> bool:
        if path in self.files:
            return True
        if any(Path(folder) in Path(path).parents for folder in self.excluded_folders):
            return False
        return _matches(path, self.included) and not _matches(path, self.excluded)


def _absolute(paths: Iterable[str]) -> tuple[str, ...]:
    return tuple(os.path.realpath(path) for path in paths)


def _matches(path: str, patterns: Iterable[str]) -> bool:
    name = os.path.basename(path)
    return any(fnmatch(name, pattern) or Path(path).match(pattern) for pattern in patterns)

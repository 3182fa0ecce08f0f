"""Where a child of the master begins: in which directory, and with whose rights."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NoReturn

from forkserve.config.settings import Settings
from forkserve.rights import ROOT, Rights, RightsError, rights_of


class PlaceError(Exception):
    """The message is one sentence for the user."""


@dataclass(frozen=True, slots=True)
class Place:
    """What ``--chdir``, ``--user`` and their like come to."""

    folder: str | None = None
    """Absolute. Entered anew by each child that the master forks: ``/srv/current`` may be a
    symbolic link to another release by then."""

    rights: Rights | None = None

    def take(self) -> None:
        """Be there. For a new child, before anything of the app runs in it; after a
        PlaceError it has to exit."""
        try:
            if self.rights:
                self.rights.drop_others()
        except RightsError as exc:
            raise PlaceError(str(exc)) from exc
        if self.folder:
            _enter(self.folder, f" as user {self.rights.user}" if self.rights else "")

    def remark(self) -> tuple[int, str]:
        """With whose rights the app runs, for the log, and the level of that."""
        if self.rights:
            user, uid, gid = self.rights.user, self.rights.uid, self.rights.gid
            return logging.INFO, f"the app runs as user {user} (uid {uid}, gid {gid})"
        if os.geteuid() == ROOT:
            return logging.WARNING, "the app runs as root; --user gives it fewer rights"
        return logging.DEBUG, "the app runs as the user who has started forkserve"


def settle(settings: Settings) -> Place:
    """Have this process where the settings say, with its own rights still, and find out
    whether its children can be there too. Raises PlaceError.

    From here on a relative path is one in ``--chdir``, as if forkserve had been started
    there.
    """
    folder = None
    if settings.chdir is not None:
        folder = os.path.abspath(settings.chdir)
        _enter(folder, "")
    if settings.umask is not None:
        os.umask(settings.umask)
    if not os.path.isdir(settings.app_dir):
        raise PlaceError(f"--app-dir {settings.app_dir}: there is no such directory{_here(folder)}")
    try:
        place = Place(folder, rights_of(settings))
    except RightsError as exc:
        raise PlaceError(str(exc)) from exc
    if place.rights:
        _rehearse(place, settings)
    return place


def _enter(folder: str, who: str) -> None:
    try:
        os.chdir(folder)
    except OSError as exc:
        why = exc.strerror
        raise PlaceError(f"--chdir {folder} cannot be entered{who}: {why}") from exc


def _here(folder: str | None) -> str:
    return f" in {folder} (--chdir)" if folder else ""


# The rehearsal.


def _rehearse(place: Place, settings: Settings) -> None:
    """Have a process that lives for a moment find out what else each worker would, one by
    one and in more words: whether the place can be taken, and what it takes to run the app
    may be read there."""
    needed = list(_what_the_app_needs(settings))
    reader, writer = os.pipe()
    try:
        pid = os.fork()
    except OSError as exc:
        os.close(reader)
        os.close(writer)
        why = exc.strerror
        raise PlaceError(f"the rights of --user and --group could not be tried out: {why}") from exc
    if pid == 0:
        _say(writer, lambda: _difficulty(place, needed))
    os.close(writer)
    with open(reader, errors="replace") as pipe:
        said = pipe.read()
    try:
        os.kill(pid, 0)  # nothing is sent; it has not been waited for, so the pid is its own
    except PermissionError:
        said = said or (
            "the master could neither stop nor reload workers of another user: give it CAP_KILL "
            "(capabilities(7)), or start it as that user and without --user"
        )
    _, status = os.waitpid(pid, 0)
    if said or status:
        raise PlaceError(said or "the rights of --user and --group could not be tried out")


def _say(writer: int, find_out: Callable[[], str]) -> NoReturn:
    code = 1
    try:
        os.write(writer, find_out().encode())
        code = 0
    finally:
        os._exit(code)


def _what_the_app_needs(settings: Settings) -> Iterator[tuple[str, str]]:
    """Directories, each with what is there."""
    yield os.path.dirname(os.__file__), "Python's own modules"
    yield os.path.dirname(os.path.abspath(__file__)), "forkserve"
    uvicorn = importlib.util.find_spec("uvicorn")  # does not import it
    if uvicorn and uvicorn.origin:
        yield os.path.dirname(uvicorn.origin), "uvicorn"
    yield os.path.abspath(settings.app_dir), "the app (--app-dir)"


def _difficulty(place: Place, needed: list[tuple[str, str]]) -> str:
    try:
        place.take()
    except PlaceError as exc:
        return str(exc)
    user = place.rights.user if place.rights else ""
    for path, what in needed:
        if not os.access(path, os.R_OK | os.X_OK):
            return (
                f"user {user} may not read {path}, where {what} can be found: "
                f"{_closed(path)} is closed to it; move that to where it may, "
                "or choose another --user"
            )
    return ""


def _closed(path: str) -> str:
    """The directory at which the way to ``path`` ends for us."""
    parts = os.path.realpath(path).split(os.sep)
    for length in range(2, len(parts)):
        if not os.access(parent := os.sep.join(parts[:length]), os.X_OK):
            return parent
    return path

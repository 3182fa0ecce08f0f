"""Reads the settings from wherever they are given.

    default < file < WEB_CONCURRENCY, PORT < GUNICORN_CMD_ARGS < FORKSERVE_* < command line

What a gunicorn.conf.py says beats WEB_CONCURRENCY and PORT, as it does with Gunicorn. All
mistakes are found at once, in every source, also where another source has the last word.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, chdir, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from forkserve.config import environment, foreign
from forkserve.config.contradictions import contradictions
from forkserve.config.given import Found, Given
from forkserve.config.gunicorn import SETTINGS
from forkserve.config.python_file import execute
from forkserve.config.settings import OPTIONS, Group, Option, Settings
from forkserve.config.toml_file import from_toml, has_settings
from forkserve.config.uvicorn_options import NoUvicornError, uvicorn_options

WITHOUT_ASKING = ("forkserve.toml", "pyproject.toml", "gunicorn.conf.py")
"""The first of these in the current directory is read; pyproject.toml if it has our table."""


class WrongSettingsError(ValueError):
    """The settings cannot be used."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)
        """Sentences that say where, what, and what to do."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The settings, and how they came to be."""

    settings: Settings
    places: Mapping[str, str] = field(default_factory=dict)
    """By a setting's name where its value was given; what is not in it has its default."""

    notes: tuple[str, ...] = ()
    """What was given and has no effect, and why."""

    file: str = ""
    """The file that was read, as the user would call it; empty if none was."""

    def value(self, option: Option) -> Any:
        if option.group is Group.UVICORN:
            return self.settings.uvicorn.get(option.name, option.default)
        return getattr(self.settings, option.name)


@dataclass(slots=True)
class Sources:
    """What there is to read. Kept for the whole life of a master: a reload reads it again."""

    command_line: Sequence[Found] = ()
    file: str = ""
    """As given with ``-c``; empty: look for one."""

    folder: str = field(default_factory=lambda: _here())
    """Where forkserve was started: what ``file`` and ``--chdir`` are relative to."""


def read(sources: Sources, environ: Mapping[str, str], *, without_app: bool = False) -> Reading:
    """Raises WrongSettingsError. ``without_app``: also if nothing says what to serve."""
    _return_to(sources.folder)
    arguments = environ.get(foreign.COMMAND_ARGUMENTS, "")
    from_arguments, file_in_arguments = foreign.from_command_arguments(arguments)
    path = sources.file or file_in_arguments or _find_file()
    file = _read_file(path) if path else Found()
    ecosystem = environment.from_ecosystem(environ)
    as_gunicorn = path.endswith(".py")
    in_order = [
        *((ecosystem, file) if as_gunicorn else (file, ecosystem)),
        from_arguments,
        environment.from_environment(environ),
        *sources.command_line,
    ]
    return _Merge().of(in_order, path, without_app)


def _return_to(folder: str) -> None:
    """A master that reads its settings again may be elsewhere by now."""
    try:
        os.chdir(folder)
    except OSError as exc:
        raise WrongSettingsError(
            [
                f"{folder}, where forkserve was started and looks for its settings, cannot be "
                f"entered: {exc.strerror}; start it anew where they are."
            ]
        ) from exc


def known_options() -> dict[str, Option]:
    """All options by name, uvicorn's too. Raises NoUvicornError."""
    ours = {option.name: option for option in OPTIONS}
    passed_on = uvicorn_options(foreign.NOT_PASSED_ON | frozenset(ours))
    return ours | {option.name: option for option in passed_on}


def _here() -> str:
    try:
        return os.getcwd()
    except OSError:
        return "."  # it has been removed


def _find_file() -> str:
    for name in WITHOUT_ASKING:
        if os.path.isfile(name) and (name != "pyproject.toml" or has_settings(name)):
            return name
    return ""


def _read_file(shown: str) -> Found:
    path = os.path.abspath(shown.removeprefix("file:"))
    if shown.startswith("python:"):
        return Found(problems=[f"-c {shown}: give the path of the file instead of a module."])
    if path.endswith(".toml"):
        return from_toml(path, shown)
    if path.endswith(".py"):
        return _from_python(path, shown)
    return Found(problems=[f"-c {shown}: is neither a .toml nor a .py file."])


def _from_python(path: str, shown: str) -> Found:
    content = execute(path, shown)
    ours = {option.name for option in OPTIONS}
    if any(name not in ours and name not in SETTINGS for name in content.values):
        ours |= _names_of_uvicorns()
    return foreign.from_python(content, path, shown, ours)


def _names_of_uvicorns() -> set[str]:
    try:
        return set(known_options())
    except NoUvicornError:
        return set()  # which is said where one of them is used


def _chdir(sources: Sequence[Found]) -> str:
    """The directory that the settings say to go to; empty if none, or if there is none."""
    said = [str(g.value) for source in sources for g in source.given if g.name == "chdir"]
    return said[-1] if said and os.path.isdir(said[-1]) else ""


def _inside(folder: str) -> AbstractContextManager[None]:
    return chdir(folder) if folder else nullcontext()


class _Merge:
    """Puts the sources' values together, and collects what is wrong with them."""

    def __init__(self) -> None:
        self._options = {option.name: option for option in OPTIONS}
        self._complete = False
        self._problems: list[str] = []
        self._values: dict[str, Any] = {}
        self._places: dict[str, str] = {}
        self._wrong: set[str] = set()

    def of(self, sources: Sequence[Found], file: str, without_app: bool) -> Reading:
        notes: list[str] = []
        with _inside(_chdir(sources)):  # where paths are relative to
            for source in sources:
                self._problems += source.problems
                notes += source.notes
                for given in source.given:
                    self._take(given)
        hooks = [hook for source in sources for hook in source.hooks]
        settings = replace(self._settings(), hooks=tuple(hooks))
        if not settings.app and not without_app and "app" not in self._wrong:
            self._problems.append(
                'there is no APP to serve; write for example "forkserve demo_app:app".'
            )
        self._problems += contradictions(settings)
        if self._problems:
            raise WrongSettingsError(self._problems)
        return Reading(settings, self._places, tuple(notes), file)

    def _take(self, given: Given) -> None:
        option = self._option(given)
        if option is None:
            return
        try:
            self._values[given.name] = option.kind.read(given.value)
        except ValueError as exc:
            self._wrong.add(given.name)
            why = "this value is not possible." if option.secret else str(exc)
            self._problems.append(f"{_where(given)}: {why}")
        else:
            self._places[given.name] = given.place

    def _option(self, given: Given) -> Option | None:
        if given.name not in self._options and not self._complete:
            self._complete = True
            try:
                self._options = known_options()
            except NoUvicornError as exc:
                self._problems.append(f"{exc}.")
        option = self._options.get(given.name)
        if option is None:
            self._problems.append(f"{given.place}: {self._unknown(given.name)}")
        return option

    def _unknown(self, name: str) -> str:
        if instead := foreign.instead_of(name):
            return instead
        near = difflib.get_close_matches(name, self._options, n=1)
        hint = f'did you mean "{near[0]}"?' if near else "forkserve --help shows all."
        return f'there is no setting "{name}"; {hint}'

    def _settings(self) -> Settings:
        ours = {o.name for o in OPTIONS}
        own = {name: value for name, value in self._values.items() if name in ours}
        passed_on = {name: value for name, value in self._values.items() if name not in ours}
        return Settings(**own, uvicorn=passed_on)


def _where(given: Given) -> str:
    """The place, with the setting's name where the place does not say it."""
    flag = given.name.replace("_", "-")
    if given.name in given.place.lower() or flag in given.place:
        return given.place
    return f"{given.place}, {given.name}"

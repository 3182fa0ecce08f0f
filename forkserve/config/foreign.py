"""What is said in gunicorn's words, or in those of uvicorn's command: flags and Python files."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import click

from forkserve.config import gunicorn, gunicorn_flags, uvicorn_names
from forkserve.config.flags import Flag
from forkserve.config.given import Found, Given
from forkserve.config.hooks import Hook
from forkserve.config.outcome import Hook as HookOutcome
from forkserve.config.outcome import (
    Note,
    Outcome,
    Refuse,
    SetEnvironment,
    Unknown,
    Use,
    a_function,
)
from forkserve.config.python_file import Content
from forkserve.config.unknown_names import is_a_setting, may_be_a_mistake, warning

NOT_PASSED_ON = frozenset(uvicorn_names.NAMES) | frozenset(uvicorn_names.ADDRESS)
"""Names of uvicorn's which are forkserve's business."""

NOT_HERE = frozenset({"-c", "--config", "--check-config", "--print-config"})
"""Flags of gunicorn's which are no settings; forkserve has its own."""

COMMAND_ARGUMENTS = "GUNICORN_CMD_ARGS"


def instead_of(name: str) -> str:
    """What to say of a name that is no setting here, but is one elsewhere. May be empty."""
    entry = uvicorn_names.NAMES.get(name)
    if isinstance(entry, uvicorn_names.Renamed):
        return f"uvicorn's {name} is called {entry.to} here."
    if isinstance(entry, uvicorn_names.NotNeeded):
        return f"{name} is not needed: {entry.why}."
    if name in uvicorn_names.ADDRESS:
        return f"uvicorn's {name} is a part of bind here, such as 0.0.0.0:8000."
    theirs = gunicorn.SETTINGS.get(name)
    if isinstance(theirs, gunicorn.Renamed):
        return f"gunicorn's {name} is called {theirs.to} here."
    return ""


class _Taker:
    """Collects what the names of one source come to."""

    def __init__(self, file: str = "") -> None:
        self.found = Found()
        self._file = file
        self._environment: dict[str, str] = {}
        self._environment_place = ""

    def take(self, outcome: Outcome, place: str, name: str = "") -> None:
        """``name`` is that of the function, if the outcome may be a hook of the file's own."""
        match outcome:
            case Use(settings):
                self.found.given += [Given(n, value, place) for n, value in settings.items()]
            case SetEnvironment(variables):
                self.set(variables, place)
            case HookOutcome(moment, function):
                file = "" if function else self._file
                self.found.hooks.append(Hook(moment, file, function or name))
            case Note(sentence):
                self.found.notes.append(f"{place}: {sentence}")
            case Refuse(sentence):
                self.found.problems.append(f"{place}: {sentence}")

    def set(self, variables: Mapping[str, str], place: str) -> None:
        self._environment |= variables
        self._environment_place = place

    def done(self) -> Found:
        if self._environment:
            variables = [f"{name}={value}" for name, value in self._environment.items()]
            self.found.given.append(Given("env", variables, self._environment_place))
        return self.found


# -- a Python file --------------------------------------------------------------------------


def from_python(content: Content, path: str, shown: str, ours: Collection[str]) -> Found:
    """What a file has defined. ``shown`` is how the user calls ``path``; ``ours`` are the names of
    all settings, uvicorn's too."""
    taker = _Taker(path)
    if content.problem:
        taker.found.problems.append(content.problem)
        return taker.done()
    defined: dict[str, object] = {**content.values, **dict.fromkeys(content.functions, a_function)}
    unknown = []
    for name, value in defined.items():
        place = f"{shown}:{content.lines[name]}" if name in content.lines else shown
        outcome = gunicorn.translate(name, value)
        if not isinstance(outcome, Unknown):
            taker.take(outcome, place, name)
        elif name in ours and value is not a_function and is_a_setting(name, defined):
            taker.take(Use({} if value is None else {name: value}), place)
        elif may_be_a_mistake(name, function=value is a_function):
            unknown.append(name)
    for name in set(content.not_sent) & {*gunicorn.SETTINGS, *ours}:
        taker.take(Refuse(f"{name} {NOT_SENT}"), f"{shown}:{content.lines.get(name, 1)}")
    if content.environment:
        taker.set(content.environment, shown)
    if said := warning(unknown, content.never_read, defined):
        taker.found.notes.append(f"{shown}: {said}")
    return _in_effect(taker.done())


def _in_effect(found: Found) -> Found:
    """Without what has no effect beside others, of which gunicorn says nothing: it is noted."""
    values = {given.name: given.value for given in found.given}
    without = {}
    if "log_config" in values:
        without["access_logfile"] = without["access_logformat"] = "the log config says it all"
    if str(values.get("max_requests")) == "0":
        without["max_requests_jitter"] = "max_requests is 0"
    for given in list(found.given):
        if why := without.get(given.name):
            found.given.remove(given)
            found.notes.append(f"{given.place}: {given.name} has no effect: {why}.")
    return found


NOT_SENT = (
    "holds an object that other processes cannot be given: put it into a module, and write its "
    'name, such as "shop.logs.Formatter".'
)

# -- flags ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ForeignFlags:
    """The flags of other servers that this command line takes besides its own."""

    flags: Mapping[str, tuple[str, Flag]]
    """By the name of click's parameter: the flag as it is written, and what it gives."""

    @classmethod
    def besides(cls, own: Collection[str]) -> ForeignFlags:
        every = dict(gunicorn_flags.FLAGS) | dict(uvicorn_names.FLAGS)
        left = [(w, f) for w, f in every.items() if w not in own and w not in NOT_HERE]
        return cls({f"foreign_{number}": pair for number, pair in enumerate(left)})

    def options(self) -> list[click.Parameter]:
        return [_option(name, *pair) for name, pair in self.flags.items()]

    def found(self, params: Mapping[str, object], before: str = "") -> Found:
        """What the user has given of them. ``before`` is said before each flag."""
        taker = _Taker()
        address: dict[str, object] = {}
        for name, (written, flag) in self.flags.items():
            value = params.get(name)
            if value in (None, ()):
                continue
            value = value if flag.takes_value else flag.alone
            value = list(value) if isinstance(value, tuple) else value
            if flag.setting in uvicorn_names.ADDRESS:
                address[flag.setting] = value
            elif written in gunicorn_flags.FLAGS:
                taker.take(gunicorn.translate(flag.setting, value), before + written)
            else:
                taker.take(uvicorn_names.translate(flag.setting, value), before + written)
        together = " and ".join(f"--{name}" for name in address)
        taker.take(uvicorn_names.bind(address), before + together)
        return taker.done()


def _option(name: str, written: str, flag: Flag) -> click.Option:
    if not flag.takes_value:
        return click.Option([written, name], is_flag=True, default=None, hidden=True)
    alone: dict[str, Any] = {}
    if flag.alone is not None:  # the value may be left out
        alone = {"is_flag": False, "flag_value": flag.alone}
    return click.Option(
        [written, name],
        type=click.UNPROCESSED,
        default=None,
        multiple=flag.many,
        hidden=True,
        **alone,
    )


def from_command_arguments(text: str) -> tuple[Found, str]:
    """What gunicorn's variable GUNICORN_CMD_ARGS says, in its flags, and the file that it names,
    if it names one."""
    foreign = ForeignFlags.besides(())
    file = click.Option(["-c", "--config"], default="")
    try:
        params = [*foreign.options(), file]
        command = click.Command("gunicorn", params=params, add_help_option=False)
        ctx = command.make_context("gunicorn", shlex.split(text))
    except ValueError as exc:
        return Found(problems=[f"{COMMAND_ARGUMENTS}: {exc}."]), ""
    except click.UsageError as exc:
        return Found(problems=[f"{COMMAND_ARGUMENTS}: {exc.format_message()}"]), ""
    return foreign.found(ctx.params, f"{COMMAND_ARGUMENTS}, "), ctx.params["config"]

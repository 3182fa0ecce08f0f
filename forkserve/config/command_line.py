"""The options as click needs them, and what of them the user has given."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

from forkserve.config.given import Found, Given
from forkserve.config.settings import Group, Option

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Grouped(click.Command):
    """A command whose ``--help`` shows the options in their groups."""

    def __init__(
        self, options: Iterable[Option], hidden: Iterable[click.Parameter] = (), **more: Any
    ) -> None:
        self._group_of = {option.name: option.group for option in options}
        own = more.pop("params", [])
        params = [*own, *(click_option(option) for option in options), *hidden]
        super().__init__(params=params, **more)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            if record := param.get_help_record(ctx):
                group = self._group_of.get(param.name or "")
                rows.setdefault(group.value if group else "Options", []).append(record)
        for title in ["Options", *(group.value for group in Group)]:
            if title in rows:
                with formatter.section(title):
                    formatter.write_dl(rows[title])


def click_option(option: Option) -> click.Parameter:
    """Takes text only: what it means is decided where all sources are read alike."""
    if not option.flags:
        return click.Argument([option.name], required=False, metavar="[APP]")
    default = default_in_words(option)
    help_ = f"{option.help} [default: {default}]" if default else option.help
    kind = option.kind
    if kind.metavar:
        takes: dict[str, Any] = {"type": click.UNPROCESSED, "metavar": kind.metavar}
        return click.Option(
            [*option.flags, option.name], multiple=kind.many, help=help_, default=None, **takes
        )
    declared = "/".join([option.flags[-1], *option.off[-1:]])
    more = [*option.flags[:-1], declared, option.name]
    return click.Option(more, is_flag=True, help=help_, default=None)


def default_in_words(option: Option) -> str:
    """Empty where there is nothing to say."""
    if option.otherwise or option.default in (None, (), "") or option.default is False:
        return option.otherwise
    if option.default is True:
        return "on" if option.off else "true"
    shown = option.kind.show(option.default)
    if isinstance(shown, list):
        return ", ".join(str(one) for one in shown)
    return f"{shown:g}" if isinstance(shown, float) else str(shown)


def given_of(ctx: click.Context, options: Mapping[str, Option], place: str = "") -> Found:
    """What the user has given of ``options``. ``place`` is said before each flag."""
    found = Found()
    for name, value in ctx.params.items():
        if name in options and value is not None and value != ():
            value = list(value) if isinstance(value, tuple) else value
            found.given.append(Given(name, value, place + _flag(options[name], value)))
    return found


def _flag(option: Option, value: object) -> str:
    if not option.flags:
        return "APP"
    return option.off[-1] if option.off and value is False else option.flags[-1]


def parse(command: click.Command, name: str, args: Sequence[str]) -> click.Context:
    """Raises WrongArguments, with each option that does not exist."""
    left, problems = list(args), []
    while True:
        try:
            ctx = command.make_context(name, list(left))
        except click.NoSuchOption as exc:
            problems.append(_no_such(exc))
            left = _without(left, exc.option_name)
        except click.UsageError as exc:
            # Once an option is missing, its value seems to be an argument too many.
            raise WrongArguments(problems or [exc.format_message()]) from exc
        else:
            if problems:
                raise WrongArguments(problems)
            return ctx


class WrongArguments(Exception):
    """The command line cannot be understood."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


def _no_such(exc: click.NoSuchOption) -> str:
    near = difflib.get_close_matches(exc.option_name, exc.possibilities or (), n=1)
    hint = f"did you mean {near[0]}?" if near else "--help shows all."
    return f"there is no option {exc.option_name}; {hint}"


def _without(args: list[str], option: str) -> list[str]:
    """``args`` without the first use of an option, and as far as possible its value."""
    for index, arg in enumerate(args):
        if arg == option or arg.startswith(f"{option}="):
            return args[:index] + args[index + 1 :]
    return [arg for arg in args if not (arg.startswith("-") and option[1:2] in arg)]

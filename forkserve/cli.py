"""The command line."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import click

from forkserve import __version__
from forkserve.apart import NoChildError
from forkserve.config import command_line
from forkserve.config.command_line import CONTEXT, Grouped, WrongArguments, given_of
from forkserve.config.foreign import ForeignFlags
from forkserve.config.reading import (
    Reading,
    Sources,
    WrongSettingsError,
    known_options,
    read,
)
from forkserve.config.settings import OPTIONS, Option
from forkserve.config.show import as_toml
from forkserve.config.uvicorn_options import NoUvicornError
from forkserve.control import COMMANDS
from forkserve.master.inheritance import Inheritance
from forkserve.master.origin import Origin
from forkserve.printing import UnprintableError, to_standard_output

WRONG = 2
"""The exit code for settings that cannot be used."""

INTERRUPTED = 130
"""... and after Ctrl-C before anything has begun, as shells have it."""

SERVE = """Serve the ASGI app APP (module:attribute) from several worker processes.

`forkserve check APP` says whether an app can be served and shared, and what it takes.
`forkserve replay FILE` tells what a file written by --trace holds.

\b
Commands to a running instance, each with a --help of its own:
  status   how it goes                  recycle      replace workers, one or all
  reload   load the code anew, wait     dump         the stacks of a worker
  scale    more workers, or fewer       logs-reopen  open the log files anew
  stop     stop gracefully, wait        list         which instances there are
  top      how it goes, live

\b
Each option may also be given in the environment (FORKSERVE_WORKERS=4) and in a file
(workers = 4). The command line has the last word, then the environment, then the file.

\b
Signals to the master:
  TERM  stop gracefully          HUP   load the code anew, gracefully
  INT   stop; twice: at once     TTIN  one worker more
  QUIT  stop at once             TTOU  one worker fewer
  USR1  open the log files anew  USR2  replace the master itself, by what is installed now
"""

CHECK = """Import APP as a template would, and report: errors, time, memory, what cannot be shared.

\b
Exit code:
  0  it can be served, and its workers can be forked from a template
  1  it can be served, but each worker has to import it by itself
  2  the settings are wrong
  3  it cannot be imported or started
"""


@dataclass(frozen=True, slots=True)
class _Command:
    """One of the commands: what it is called, says of itself, and takes besides the settings."""

    name: str
    help: str
    own: tuple[click.Parameter, ...]

    def built(self, options: Mapping[str, Option], foreign: ForeignFlags) -> click.Command:
        # What is our own comes first: it is shown in a group without a title of its own.
        own = [*self.own, _CONFIG]
        return Grouped(
            options.values(),
            foreign.options(),
            name=self.name,
            help=self.help,
            params=own,
            context_settings=CONTEXT,
        )


_CONFIG = click.Option(
    ["-c", "--config"],
    metavar="FILE",
    help="Read settings from this file: a .toml, or a Python file such as a gunicorn.conf.py. "
    "[default: the first of forkserve.toml, pyproject.toml with a table tool.forkserve, and "
    "gunicorn.conf.py in the current directory]",
)

_SERVE = _Command(
    "forkserve",
    SERVE,
    (
        click.Option(
            ["--check-config"],
            is_flag=True,
            help="Import the app, report like `forkserve check`, and do not serve.",
        ),
        click.Option(
            ["--print-config"],
            is_flag=True,
            help="Show every setting, and where its value comes from, and do not serve.",
        ),
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            help="Show the version and exit.",
            callback=lambda ctx, param, value: _show_version(ctx) if value else None,
        ),
    ),
)

_CHECK = _Command(
    "forkserve check",
    CHECK,
    (
        click.Option(
            ["--lifespan"], is_flag=True, help="Run the app's lifespan startup and shutdown too."
        ),
    ),
)


def _show_version(ctx: click.Context) -> None:
    click.echo(f"forkserve, version {__version__}")
    ctx.exit()


def main() -> None:
    """The command ``forkserve``."""
    # Before anything else can change the environment.
    origin, inheritance = Origin.of_this_process(), Inheritance.take(os.environ)
    args = sys.argv[1:]
    try:
        code = _run(args, origin, inheritance)
    except click.exceptions.Exit as exc:  # of --help and --version
        code = exc.exit_code
    except UnprintableError as exc:
        complain((str(exc),))
        code = 1
    except NoChildError as exc:
        complain((str(exc),))
        if inheritance is not None:
            inheritance.tell(str(exc))
        code = 1
    except KeyboardInterrupt:  # while the settings are read; later it is a signal like others
        code = INTERRUPTED
    except (WrongArguments, WrongSettingsError, NoUvicornError) as exc:
        problems = getattr(exc, "problems", (f"{exc}.",))
        complain(problems)
        if inheritance is not None:
            inheritance.tell(" ".join(problems))
        code = WRONG
    sys.exit(code)


def _run(args: Sequence[str], origin: Origin, inheritance: Inheritance | None) -> int:
    command = args[0] if args else ""
    if command in COMMANDS:
        from forkserve.control import commands

        return commands.run(command, args[1:])
    if command == "check":
        return _check(args[1:])
    if command == "replay":
        return _replay(args[1:])
    return _serve(args, origin, inheritance)


def complain(problems: Sequence[str]) -> None:
    """Say what is wrong, one sentence a line."""
    if len(problems) == 1:
        click.echo(f"forkserve: {problems[0]}", err=True)
        return
    click.echo(f"forkserve: {len(problems)} things are wrong:", err=True)
    for problem in problems:
        click.echo(f"  {problem}", err=True)


def _serve(args: Sequence[str], origin: Origin, inheritance: Inheritance | None) -> int:
    own, sources = _sources(_SERVE, args)
    reading = read(sources, os.environ, without_app=own["print_config"])
    if own["print_config"]:
        shown = as_toml(reading, known_options())
        with to_standard_output():
            click.echo(shown, nl=False)
        return 0
    if own["check_config"]:
        return _check_only(reading)
    # Only here: --help and a wrong option need nothing of it.
    from forkserve.master.start import run

    return run(reading, partial(read, sources, os.environ), origin, inheritance)


def _check_only(reading: Reading) -> int:
    from forkserve import check as checking

    code = checking.check(reading.settings, lifespan=False)
    # An app that cannot be shared is served all the same.
    return checking.FIT if code == checking.UNFIT else code


def _check(args: Sequence[str]) -> int:
    from forkserve import check as checking

    own, sources = _sources(_CHECK, args)
    return checking.check(read(sources, os.environ).settings, own["lifespan"])


def _replay(args: Sequence[str]) -> int:
    from forkserve.trace import command

    return command.main(args)


def _sources(command: _Command, args: Sequence[str]) -> tuple[Mapping[str, bool], Sources]:
    """The command's own switches, and what there is to read. Raises WrongArguments."""
    options = {option.name: option for option in OPTIONS}
    if not {"-h", "--help"} & set(args):
        try:
            return _understood(command, args, options)
        except WrongArguments:
            pass  # it may be one of uvicorn's
    return _understood(command, args, known_options())


def _understood(
    command: _Command, args: Sequence[str], options: Mapping[str, Option]
) -> tuple[Mapping[str, bool], Sources]:
    # The --lifespan of `check` is its own, and not uvicorn's.
    taken = {param.name for param in command.own}
    options = {name: option for name, option in options.items() if name not in taken}
    own = [flag for option in options.values() for flag in (*option.flags, *option.off)]
    foreign = ForeignFlags.besides(own)
    with to_standard_output():  # of --help and --version
        ctx = command_line.parse(command.built(options, foreign), command.name, args)
    given = [foreign.found(ctx.params), given_of(ctx, options)]
    return ctx.params, Sources(given, ctx.params["config"] or "")

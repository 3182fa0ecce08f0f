"""The commands that talk to a master: ``forkserve status`` and its like."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import click

from forkserve.config.command_line import CONTEXT, WrongArguments, parse
from forkserve.control import COMMANDS
from forkserve.control.client import Client, ControlError
from forkserve.control.instances import Instance, SeveralError, choose, instances
from forkserve.control.protocol import NUMBER_OF_WORKERS
from forkserve.control.table import instances_table, printable, table
from forkserve.printing import UnprintableError, to_standard_output

FAILED = 1
"""The exit code if the master has not done it, or there is none."""

UNCLEAR = 2
"""... if it has to be said which one is meant, as for any wrong use."""

_CODES = """

\b
Exit code:
  0    it is done
  1    it could not be done, or there is no such instance
  2    wrong use, or several instances and none chosen
"""

_WHICH = (
    click.Option(
        ["--pid"], metavar="PID|FILE", help="The instance with this pid, or with this pidfile."
    ),
    click.Option(["--control"], metavar="PATH", help="The instance with its control socket there."),
)


@dataclass(frozen=True, slots=True)
class _Command:
    help: str
    do: Callable[[Client, Mapping[str, Any]], None]
    own: tuple[click.Parameter, ...] = ()
    first: Callable[[], None] = lambda: None
    """Before any master is asked. Raises WrongArguments if it cannot be done here."""

    negative: bool = False
    """An argument may begin with a minus sign."""

    def built(self, name: str) -> click.Command:
        return click.Command(
            f"forkserve {name}",
            help=self.help + _CODES,
            params=[*self.own, *_WHICH],
            context_settings=CONTEXT | {"ignore_unknown_options": self.negative},
        )


def run(name: str, args: Sequence[str]) -> int:
    """One of the commands. Returns the exit code; raises WrongArguments."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # what it has no characters for
    if name == "list":
        return _list(args)
    command = _KNOWN[name]
    given = _understood(command.built(name), args)
    if given["pid"] is not None and given["control"] is not None:
        raise WrongArguments(["--pid and --control both choose an instance; give one of them."])
    command.first()
    try:
        with choose(given["control"], given["pid"]) as client:
            command.do(client, given)
    except SeveralError as exc:
        return _complain(exc, UNCLEAR)
    except ControlError as exc:
        if exc.details:
            click.echo(_block(exc.details), err=True)
        return _complain(exc, FAILED)
    return 0


def _understood(command: click.Command, args: Sequence[str]) -> Mapping[str, Any]:
    """Raises WrongArguments, and UnprintableError for --help."""
    with to_standard_output():
        return parse(command, str(command.name), args).params


def _show(text: str) -> None:
    """Raises UnprintableError, but not if who reads has had enough."""
    try:
        with to_standard_output():
            click.echo(text)
    except UnprintableError as exc:
        if not isinstance(exc.__cause__, BrokenPipeError):
            raise


def _tell(text: str) -> None:
    """Say how it goes on, if that can be said. It goes on all the same."""
    try:
        _show(printable(text))
    except UnprintableError as exc:
        _complain(exc, FAILED)


def _complain(exc: Exception, code: int) -> int:
    click.echo(f"forkserve: {printable(str(exc))}", err=True)
    return code


def _block(text: str) -> str:
    return "\n".join(printable(line) for line in text.splitlines())


def _list(args: Sequence[str]) -> int:
    as_json = click.Option(["--json"], is_flag=True, help="For programs: a list of documents.")
    help_ = "Show the instances of this user on this machine."
    command = click.Command(
        "forkserve list", help=help_, params=[as_json], context_settings=CONTEXT
    )
    given = _understood(command, args)
    found = instances()
    if given["json"]:
        _show(json.dumps([_as_json(one) for one in found]))
    elif found:
        _show(instances_table(found))
    else:
        click.echo("no forkserve of this user can be found on this machine", err=True)
    for one in found:
        if one.why_not:
            click.echo(f"forkserve: {printable(one.why_not)}", err=True)
    return 0


def _as_json(one: Instance) -> dict[str, Any]:
    return {"control": one.path, "pid": one.pid, "status": one.status, "error": one.why_not or None}


# -- what each does -----------------------------------------------------------------------


def _status(client: Client, given: Mapping[str, Any]) -> None:
    status = client.status()
    _show(json.dumps(status, indent=2) if given["json"] else table(status))


def _need_a_terminal() -> None:
    if find_spec("rich") is None:
        brings = "`pip install 'forkserve[monitor]'` brings it"
        raise WrongArguments([f"top needs the package rich, which is missing; {brings}."])
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        instead = "`forkserve status` tells the same once, anywhere"
        raise WrongArguments([f"top needs a terminal; {instead}."])


def _top(client: Client, given: Mapping[str, Any]) -> None:
    from forkserve.control import top  # needs rich, which is an extra

    top.watch(client, given["interval"])


def _watch(client: Client, do: str, **arguments: object) -> None:
    """Have it done, and say how that goes on."""
    _narrate(client.tell(do, **arguments))


def _narrate(answers: Iterator[Mapping[str, Any]]) -> None:
    answer: Mapping[str, Any] = {}
    try:
        for answer in answers:
            if "stage" in answer:
                _tell(f"{answer['stage']}: {answer['text']}")
    except KeyboardInterrupt:
        click.echo("forkserve: not waited for; what was asked for goes on", err=True)
        raise
    if text := answer.get("text"):
        _tell(f"done: {text}")


def _reload(client: Client, given: Mapping[str, Any]) -> None:
    _watch(client, "reload")


def _scale(client: Client, given: Mapping[str, Any]) -> None:
    _watch(client, "scale", to=given["to"])


def _recycle(client: Client, given: Mapping[str, Any]) -> None:
    _watch(client, "recycle", worker=given["worker"])


def _stop(client: Client, given: Mapping[str, Any]) -> None:
    _narrate(client.stop())


def _dump(client: Client, given: Mapping[str, Any]) -> None:
    _show(_block(client.ask("dump", worker=given["worker"])["stack"]))


def _reopen_logs(client: Client, given: Mapping[str, Any]) -> None:
    client.ask("logs-reopen")


# -- what they take -----------------------------------------------------------------------


def _number(ctx: click.Context, param: click.Parameter, value: str) -> str:
    if not NUMBER_OF_WORKERS.fullmatch(value):
        raise click.BadParameter("a number of workers is meant, such as 4, +1 or -1.")
    return value


def _worker_or_all(ctx: click.Context, param: click.Parameter, value: str) -> int | str:
    if value == "all":
        return value
    if not (value.isascii() and value.isdecimal()):
        raise click.BadParameter("the id of a worker is meant, as `forkserve status` shows it.")
    return int(value)


_KNOWN = {
    "status": _Command(
        "Show how it goes: workers, what they serve, the queue, the last failure and deaths.",
        _status,
        (click.Option(["--json"], is_flag=True, help="For programs: the whole document."),),
    ),
    "top": _Command(
        "Show how it goes, live, in all of the terminal: what each worker does, the queue, the "
        "last events. q quits.",
        _top,
        (
            click.Option(
                ["--interval"],
                type=click.FloatRange(0.1, 3600),
                default=1.0,
                show_default=True,
                metavar="SECONDS",
                help="Look again after so long.",
            ),
        ),
        first=_need_a_terminal,
    ),
    "reload": _Command(
        "Load the code and the settings anew, and wait: until all workers are of the new "
        "generation, or until that was dropped and the old one keeps serving.",
        _reload,
    ),
    "scale": _Command(
        "Have N workers, or so many more or fewer, and wait until they are ready.",
        _scale,
        (click.Argument(["to"], metavar="N|+N|-N", callback=_number),),
        negative=True,
    ),
    "recycle": _Command(
        "Replace one worker, by its id, or all, each by another of the same generation that is "
        "ready first; wait until that is done.",
        _recycle,
        (
            click.Argument(
                ["worker"],
                metavar="[ID|all]",
                required=False,
                default="all",
                callback=_worker_or_all,
            ),
        ),
    ),
    "stop": _Command("Stop gracefully, and wait until the master has ended.", _stop),
    "dump": _Command(
        "Show the Python stacks of all threads of a worker, now.",
        _dump,
        (click.Argument(["worker"], metavar="ID", type=int),),
    ),
    "logs-reopen": _Command("Open the log files anew, as SIGUSR1 does.", _reopen_logs),
}
assert {*_KNOWN, "list"} == set(COMMANDS)

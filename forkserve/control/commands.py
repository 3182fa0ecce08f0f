"""The commands that talk to a master: ``forkserve status`` and its like."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from forkserve.config.command_line import CONTEXT, parse
from forkserve.control import COMMANDS
from forkserve.control.client import Client, ControlError
from forkserve.control.instances import SeveralError, choose, instances
from forkserve.control.table import instances_table, printable, table

FAILED = 1
"""The exit code if the master has not done it, or there is none."""

UNCLEAR = 2
"""... if it has to be said which one is meant, as for any wrong use."""

INTERRUPTED = 130

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
    if name == "list":
        return _list(args)
    command = _KNOWN[name]
    given = parse(command.built(name), f"forkserve {name}", args).params
    try:
        with choose(given["control"], given["pid"]) as client:
            command.do(client, given)
    except SeveralError as exc:
        return _complain(exc, UNCLEAR)
    except ControlError as exc:
        if exc.details:
            click.echo(_block(exc.details), err=True)
        return _complain(exc, FAILED)
    except KeyboardInterrupt:
        click.echo("forkserve: not waited for; what was asked for goes on", err=True)
        return INTERRUPTED
    except BrokenPipeError:
        # Who reads has had enough; nothing is to be written at the exit either.
        sys.stdout = sys.stderr
        return FAILED
    return 0


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
    given = parse(command, "forkserve list", args).params
    found = [(one.path, one.status) for one in instances()]
    if given["json"]:
        click.echo(json.dumps([{"control": path, "status": status} for path, status in found]))
    elif found:
        click.echo(instances_table(found))
    else:
        click.echo("no forkserve of this user can be found on this machine", err=True)
    return 0


# -- what each does -----------------------------------------------------------------------


def _status(client: Client, given: Mapping[str, Any]) -> None:
    status = client.status()
    click.echo(json.dumps(status, indent=2) if given["json"] else table(status))


def _watch(client: Client, do: str, **arguments: object) -> Mapping[str, Any]:
    """Have it done, and say how that goes on. Returns what has come of it."""
    return _narrate(client.tell(do, **arguments))


def _narrate(answers: Iterator[Mapping[str, Any]]) -> Mapping[str, Any]:
    answer: Mapping[str, Any] = {}
    for answer in answers:
        if "stage" in answer:
            click.echo(printable(f"{answer['stage']}: {answer['text']}"))
    if text := answer.get("text"):
        click.echo(printable(f"done: {text}"))
    return answer


def _reload(client: Client, given: Mapping[str, Any]) -> None:
    _watch(client, "reload")


def _scale(client: Client, given: Mapping[str, Any]) -> None:
    _watch(client, "scale", to=given["to"])


def _recycle(client: Client, given: Mapping[str, Any]) -> None:
    worker = given["worker"]
    _watch(client, "recycle", worker=int(worker) if worker.isdecimal() else worker)


def _stop(client: Client, given: Mapping[str, Any]) -> None:
    _narrate(client.stop())


def _dump(client: Client, given: Mapping[str, Any]) -> None:
    click.echo(_block(client.ask("dump", worker=given["worker"])["stack"]))


def _reopen_logs(client: Client, given: Mapping[str, Any]) -> None:
    client.ask("logs-reopen")


_KNOWN = {
    "status": _Command(
        "Show how it goes: workers, what they serve, the queue, the last failure and deaths.",
        _status,
        (click.Option(["--json"], is_flag=True, help="For programs: the whole document."),),
    ),
    "reload": _Command(
        "Load the code and the settings anew, and wait: until all workers are of the new "
        "generation, or until that was dropped and the old one keeps serving.",
        _reload,
    ),
    "scale": _Command(
        "Have N workers, or so many more or fewer, and wait until they are ready.",
        _scale,
        (click.Argument(["to"], metavar="N|+N|-N"),),
        negative=True,
    ),
    "recycle": _Command(
        "Replace one worker, by its id, or all, each by another of the same generation that is "
        "ready first; wait until that is done.",
        _recycle,
        (click.Argument(["worker"], metavar="[ID|all]", required=False, default="all"),),
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

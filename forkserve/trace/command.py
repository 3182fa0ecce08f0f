"""``forkserve replay``: the story of a trace, and whether it would end the same today."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from forkserve.config import command_line
from forkserve.config.command_line import CONTEXT
from forkserve.trace.replaying import UnreadableError, replay
from forkserve.trace.story import Story

SAME = 0
DIFFERENT = 1
UNREADABLE = 2

HELP = """Tell the story in FILE, which `--trace FILE` has written, step by step, and decide anew.

\b
For each step: its number, the time since the beginning, what happened, what was decided.
Then a time line of the phases of each process, and whether today's code decides the same.

\b
Exit code:
  0  it does
  1  it decides otherwise
  2  the file cannot be replayed
"""

ALL = "all"
STORY = "story"
TIMELINE = "timeline"
VERDICT = "verdict"

_COMMAND = click.Command(
    "forkserve replay",
    help=HELP,
    context_settings=CONTEXT,
    params=[
        click.Argument(["file"], type=click.Path(path_type=Path)),
        click.Option(
            ["--show"],
            type=click.Choice([ALL, STORY, TIMELINE, VERDICT]),
            default=ALL,
            show_default=True,
            help="Show this part only. The verdict is always shown.",
        ),
    ],
)


def main(args: Sequence[str]) -> int:
    """Returns the exit code. Raises WrongArguments, and click's Exit for --help."""
    ctx = command_line.parse(_COMMAND, "forkserve replay", args)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = _tell(ctx.params["file"], ctx.params["show"])
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever reads has seen enough; nor shall the interpreter complain as it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return SAME
    return code


def _tell(path: Path, show: str) -> int:
    story = Story(shutil.get_terminal_size((100, 24)).columns)
    unreadable = ""
    try:
        for part in replay(path):
            _print(story.tell(part), show in (ALL, STORY))
    except UnreadableError as exc:
        unreadable = str(exc)
    except BrokenPipeError:
        raise
    except OSError as exc:
        unreadable = f"{path} cannot be read: {exc.strerror}."
    if story.steps or not unreadable:
        _print(story.timelines(), show in (ALL, TIMELINE))
        _print(story.verdict(), True)
    if unreadable:
        click.echo(f"forkserve replay: {unreadable}", err=True)
        return UNREADABLE
    return SAME if story.difference is None else DIFFERENT


def _print(lines: Iterable[str], shown: bool) -> None:
    for line in lines:
        if shown:
            click.echo(line)

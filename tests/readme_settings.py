"""Draws the README's tables of the settings from their declarations.

``python -m tests.readme_settings`` puts them into README.md, between their markers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from forkserve.config.command_line import default_in_words
from forkserve.config.reading import known_options
from forkserve.config.settings import OPTIONS, Group, Option
from tests import readme

HEAD = ("| option | default | meaning |", "| --- | --- | --- |")

FIXED = " †"
"""Stands behind the flags of what a reload does not change."""

MOST_WORDS = 6
"""How many words to choose from are listed; more of them are only shown by ``--help``."""


def tables() -> str:
    """One for each group of forkserve's own."""
    groups = [(group, [o for o in OPTIONS if o.group is group]) for group in Group]
    return "\n\n".join(
        "\n".join([f"**{group.value}**", "", *_table(members)])
        for group, members in groups
        if members
    )


def uvicorns() -> str:
    """One for what is passed on to the uvicorn that is installed, in its words."""
    return "\n".join(_table(o for o in known_options().values() if o.group is Group.UVICORN))


def flags_in(table: str) -> set[str]:
    """The long flags in the first column."""
    first_cells = [line.split(" | ")[0] for line in table.splitlines()]
    return {flag for cell in first_cells for flag in re.findall(r"`(--[\w-]+)`", cell)}


def _table(options: Iterable[Option]) -> Iterator[str]:
    yield from HEAD
    for option in options:
        cells = _flags(option), _default(option), _meaning(option)
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _flags(option: Option) -> str:
    flags = [f"`{flag}`" for flag in (*option.flags, *option.off)] or ["`APP`"]
    long = {flag.removeprefix("--") for flag in option.flags if flag.startswith("--")}
    name = option.name
    if option.flags and long != {name.replace("_", "-")}:
        flags[-1] += f"; by name `{name}`"
    return ", ".join(flags) + (FIXED if option.fixed else "")


def _default(option: Option) -> str:
    words = default_in_words(option)
    return _marked(words) if option.otherwise or not words else f"`{words}`"


def _meaning(option: Option) -> str:
    words = option.kind.metavar.strip("[]").split("|")
    choice = option.kind.metavar.startswith("[") and len(words) <= MOST_WORDS
    text = option.help.rstrip(".") + "." + (f" One of {', '.join(words)}." if choice else "")
    return _marked(text)


def _marked(text: str) -> str:
    """With each option in it as code."""
    return re.sub(r"(?<!\S)--[a-z][a-z-]+", r"`\g<0>`", text)


if __name__ == "__main__":
    readme.show("settings", tables())
    readme.show("uvicorn", uvicorns())

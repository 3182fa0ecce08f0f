"""Text that fits so many columns: what there is no room for is left out, and one can see it."""

from __future__ import annotations

import io
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

GAP = 2
"""Columns between two facts."""

_RULER = Console(file=io.StringIO())
"""rich asks a console how text is broken into lines. This one prints nothing."""


def one_line(text: Text) -> Text:
    """Cut at its end, if need be."""
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def facts(told: Sequence[Text], width: int) -> Text:
    """A line of as many as fit, the first ones first."""
    line = told[0].copy()
    for fact in told[1:]:
        if line.cell_len + GAP + fact.cell_len > width:
            break
        line = Text.assemble(line, " " * GAP, fact)
    return one_line(line)


def wrapped(before: Text, text: Text, width: int, most: int) -> list[Text]:
    """Lines, ``most`` of them at most: ``before``, and then as much of ``text`` as fits beside
    it."""
    room = width - before.cell_len
    if most < 2 or room < before.cell_len or text.cell_len <= room:
        return [one_line(Text.assemble(before, text))]
    lines = list(text.wrap(_RULER, room, overflow="fold"))
    if len(lines) > most:
        lines = lines[:most]
        lines[-1].rstrip()
        lines[-1].truncate(room - 1)
        lines[-1].append("…")
    indent = Text(" " * before.cell_len)
    beginnings = [before] + [indent] * (len(lines) - 1)
    return [one_line(Text.assemble(*pair)) for pair in zip(beginnings, lines, strict=True)]

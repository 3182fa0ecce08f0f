"""Shows the settings: as a file that can be read again, with where each comes from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from forkserve.config.command_line import default_in_words
from forkserve.config.reading import Reading
from forkserve.config.settings import Group, Option
from forkserve.config.values import HIDDEN


def as_toml(reading: Reading, options: Mapping[str, Option]) -> str:
    """Each option with its value and, in a comment, where that was given.

    What has no value by default is a comment as a whole.
    Passwords, and the values of the app's environment, are left out.
    """
    return "\n".join(_lines(reading, options)) + "\n"


def _lines(reading: Reading, options: Mapping[str, Option]) -> Iterator[str]:
    if reading.file:
        yield f"# read from {reading.file}"
    for group in Group:
        members = [option for option in options.values() if option.group is group]
        if members:
            yield f"\n# {group.value}"
            yield from (_line(reading, option) for option in members)


def _line(reading: Reading, option: Option) -> str:
    value = reading.value(option)
    place = reading.places.get(option.name)
    if place is None and value in (None, (), ""):
        return f"# {option.name} =".ljust(44) + f"# default{_otherwise(option)}"
    shown = json.dumps(HIDDEN if option.secret else option.kind.show(value), ensure_ascii=False)
    return f"{option.name} = {shown}".ljust(44) + f"# {place or 'default'}"


def _otherwise(option: Option) -> str:
    words = default_in_words(option)
    return f": {words}" if words else ""

"""What a name of another server's configuration comes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Use:
    """It says these settings. None of them: it is accepted, and there is nothing to do."""

    settings: Mapping[str, object] = field(default_factory=dict)
    """By forkserve's names; the values are checked where all settings are."""


@dataclass(frozen=True, slots=True)
class SetEnvironment:
    """It is a part of the environment in which the app is imported and served."""

    variables: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Hook:
    """It is a function to be called at a certain moment."""

    name: str
    """Of the moment, as forkserve calls it."""

    function: str = ""
    """``module:function``; empty: the function that the file itself defines."""


@dataclass(frozen=True, slots=True)
class Note:
    """It has no effect, and nobody depends on that; worth a warning."""

    sentence: str
    """Why, and what does the same here, if anything does. Begins with the name."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """It cannot be had, and to go on without it would be another service."""

    sentence: str
    """Why, and what to do instead. Begins with the name."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """It is no setting of that server's."""

    suggestion: str = ""
    """The setting that was probably meant."""


Outcome = Use | SetEnvironment | Hook | Note | Refuse | Unknown

NOTHING = Use(MappingProxyType({}))
"""Accepted, and there is nothing to do."""


def a_function(*_: object) -> None:
    """Stands for a function that cannot be sent from the process in which it is."""

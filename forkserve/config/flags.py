"""Flags of other servers' command lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Flag:
    """Which setting it gives, and how."""

    setting: str
    """By the name that the other server has for it."""

    takes_value: bool = True

    alone: object = None
    """The value that it stands for without one; None: a value has to follow."""

    many: bool = False
    """It may be given several times; the setting is the list of all."""


def one(setting: str) -> Flag:
    """With a value behind it."""
    return Flag(setting)


def several(setting: str) -> Flag:
    """With a value behind it, and as often as one likes."""
    return Flag(setting, many=True)


def switch(setting: str, stands_for: object = True) -> Flag:
    """Without a value."""
    return Flag(setting, takes_value=False, alone=stands_for)


def spelled_out(flags: Mapping[str, Flag]) -> Mapping[str, Flag]:
    """Each spelling for itself, where ``-b --bind`` are two of one flag."""
    return {spelling: flag for key, flag in flags.items() for spelling in key.split()}

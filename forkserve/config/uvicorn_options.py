"""uvicorn's own options, as uvicorn itself declares them.

A child imports uvicorn and describes its command: the master does without uvicorn, and the
options are those of the version that is installed. It is asked only when somebody uses a
name that is not forkserve's own, or wants to see all.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from forkserve import apart
from forkserve.config.kinds import (
    Kind,
    choice,
    existing,
    many,
    number,
    switch,
    text,
    whole,
)
from forkserve.config.settings import Group, Option

LONGEST_IMPORT = 60.0
"""Seconds."""

SECRET = ("password",)
"""What a name contains whose value is not shown."""


class NoUvicornError(Exception):
    """uvicorn cannot be imported; the message says why."""


@cache
def uvicorn_options(but: frozenset[str]) -> tuple[Option, ...]:
    """All but those of the given names, in uvicorn's order. Raises NoUvicornError."""
    answer = apart.ask(_describe, LONGEST_IMPORT)
    if not isinstance(answer.said, list):
        why = answer.said or "the process that imported it was lost"
        raise NoUvicornError(f"uvicorn cannot be imported: {why}")
    return tuple(_option(param) for param in answer.said if param["name"] not in but)


def _describe() -> Any:
    """In the child: what click knows of each option that uvicorn.Config takes as well."""
    try:
        import inspect

        from uvicorn import Config
        from uvicorn.main import main
    except Exception as exc:
        return f"{type(exc).__name__}: {exc}"
    taken = inspect.signature(Config).parameters
    return [
        param.to_info_dict() | {"metavar": getattr(param, "metavar", None)}
        for param in main.params
        if param.name in taken and param.param_type_name == "option"
    ]


def _option(param: dict[str, Any]) -> Option:
    default = param["default"]
    return Option(
        name=param["name"],
        flags=tuple(param["opts"]),
        off=tuple(param["secondary_opts"]),
        kind=_kind(param),
        default=() if param["multiple"] else default,
        help=" ".join((param["help"] or "").split()),
        group=Group.UVICORN,
        secret=any(word in param["name"] for word in SECRET),
    )


def _kind(param: dict[str, Any]) -> Kind:
    one = _one(param)
    return many(one) if param["multiple"] else one


def _one(param: dict[str, Any]) -> Kind:
    if param["is_flag"]:
        return switch()
    match param["type"]["param_type"]:
        case "Choice":
            return choice(*param["type"]["choices"])
        case "Bool":
            return Kind(switch().read, "BOOLEAN")
        case "Int":
            return whole(None)
        case "Float":
            return number()
        case "Path":
            return existing()
    # Such as [auto|asyncio|uvloop], or "module:attribute" of the user's own.
    if words := re.fullmatch(r"\[([\w|-]+)\]", param["metavar"] or ""):
        return choice(*words[1].split("|"), open_to=":")
    return text("TEXT")

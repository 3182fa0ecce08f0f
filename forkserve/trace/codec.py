"""Dataclasses to JSON and back, by their type hints, and exactly.

A dataclass is an object with all its fields, an enum the name of its member, an infinite float
a word, a key of a mapping a text. What is one of several is told apart by its name, in ``is``:
an event, an action. What cannot be understood is refused and never guessed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from types import ModuleType, NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from forkserve.supervisor import actions, events
from forkserve.supervisor.actions import Action
from forkserve.supervisor.events import Event
from forkserve.supervisor.state import Policy

TAG = "is"
"""Holds the name of the class, where it may be one of several. No field can be called so."""

Json = dict[str, Any] | list[Any] | str | int | float | bool | None


class UnknownError(ValueError):
    """What stands there is nothing that this forkserve knows. The message says what, in words
    that follow the place."""


def members(module: ModuleType, family: type) -> Mapping[str, type]:
    """The classes of a family, by their names."""
    found = (c for c in vars(module).values() if isinstance(c, type) and issubclass(c, family))
    return {c.__name__: c for c in found if c not in (family, actions.Note)}


FAMILIES: Mapping[type, Mapping[str, type]] = {
    Event: members(events, Event),
    Action: members(actions, Action),
}


def encode(value: Any) -> Json:
    """Raises TypeError for what has no form in JSON."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Enum):
        return value.name
    if is_dataclass(value):
        tag = {TAG: type(value).__name__} if isinstance(value, tuple(FAMILIES)) else {}
        return tag | {f.name: encode(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, frozenset | set):
        return [encode(item) for item in sorted(value)]
    if isinstance(value, tuple | list):
        return [encode(item) for item in value]
    raise TypeError(f"a {type(value).__name__} cannot be recorded: {value!r}")


def decode(data: Any, hint: Any) -> Any:
    """What :func:`encode` has made of a value of the type ``hint``.

    Raises UnknownError, and TypeError for a hint that is not provided for.
    """
    if hint in FAMILIES:
        return _one_of(data, hint)
    if is_dataclass(hint):
        return _whole(data, hint)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _member(data, hint)
    if hint in _PLAIN:
        return _PLAIN[hint](data)
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return _any_of(data, args)
    if origin in _MANY:
        return _MANY[origin](data, args)
    raise TypeError(f"no value of the type {hint!r} can be recorded")


# -- dataclasses ----------------------------------------------------------------------------


@cache
def hints(cls: type) -> Mapping[str, Any]:
    """The type of each field, by its name."""
    of_all = get_type_hints(cls, localns={"Policy": Policy})  # which events.py only half imports
    return {f.name: of_all[f.name] for f in fields(cls)}


def _one_of(data: Any, family: type) -> Any:
    kind = family.__name__.lower()
    name = str(_object(data).get(TAG))
    if name not in FAMILIES[family]:
        raise UnknownError(f"the {kind} {name} is not known")
    return _whole({k: v for k, v in data.items() if k != TAG}, FAMILIES[family][name])


def _whole(data: Any, cls: Any) -> Any:
    given, wanted = _object(data), hints(cls)
    if strange := [name for name in given if name not in wanted]:
        raise UnknownError(f"{cls.__name__} has no field {strange[0]}")
    if missing := [name for name in wanted if name not in given]:
        raise UnknownError(f"{cls.__name__} lacks the field {missing[0]}")
    return cls(**{name: decode(given[name], hint) for name, hint in wanted.items()})


def _object(data: Any) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise UnknownError(f"{_short(data)} is no object")
    return data


# -- what is in them ------------------------------------------------------------------------


def _member(data: Any, enum: type[Enum]) -> Enum:
    if not isinstance(data, str) or data not in enum.__members__:
        raise UnknownError(f"{_short(data)} is no {enum.__name__}")
    return enum[data]


def _exactly(kind: type) -> Callable[[Any], Any]:
    def read(data: Any) -> Any:
        if type(data) is not kind:
            raise UnknownError(f"{_short(data)} is no {kind.__name__}")
        return data

    return read


def _number(data: Any) -> float:
    """A whole one stays a whole one: it is as good, and not the same."""
    if data in ("inf", "-inf", "nan"):
        return float(data)
    if type(data) not in (int, float):
        raise UnknownError(f"{_short(data)} is no number")
    return data  # type: ignore[no-any-return]


_PLAIN: Mapping[Any, Callable[[Any], Any]] = {
    bool: _exactly(bool),
    int: _exactly(int),
    str: _exactly(str),
    NoneType: _exactly(NoneType),
    float: _number,
}


def _any_of(data: Any, args: tuple[Any, ...]) -> Any:
    """The first that ``data`` can be."""
    for hint in sorted(args, key=lambda hint: hint is not NoneType):
        try:
            return decode(data, hint)
        except UnknownError as exc:
            why = exc
    raise why


def _key(text: str, hint: Any) -> Any:
    try:
        return hint(text)
    except ValueError as exc:
        raise UnknownError(f"{_short(text)} is no {hint.__name__}") from exc


def _mapping(data: Any, args: tuple[Any, ...]) -> dict[Any, Any]:
    key, item = args
    return {_key(name, key): decode(value, item) for name, value in _object(data).items()}


def _list(data: Any, args: tuple[Any, ...]) -> list[Any]:
    if not isinstance(data, list):
        raise UnknownError(f"{_short(data)} is no list")
    return [decode(item, args[0]) for item in data]


def _tuple(data: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    if args[1:] == (...,):
        return tuple(_list(data, args))
    if not isinstance(data, list) or len(data) != len(args):
        raise UnknownError(f"{_short(data)} is no list of {len(args)}")
    return tuple(decode(item, hint) for item, hint in zip(data, args, strict=True))


_MANY: Mapping[Any, Callable[[Any, tuple[Any, ...]], Any]] = {
    dict: _mapping,
    Mapping: _mapping,
    list: _list,
    tuple: _tuple,
    frozenset: lambda data, args: frozenset(_list(data, args)),
}


def _short(data: Any) -> str:
    shown = repr(data)
    return shown if len(shown) <= 60 else shown[:57] + "..."

"""Values of any type that the brain's records have, for hypothesis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from hypothesis import strategies as st

from forkserve.trace.codec import FAMILIES, hints

WHOLE = st.one_of(st.integers(-20, 600), st.integers())
TEXT = st.text(st.characters(exclude_categories=[]), max_size=20)  # lone surrogates too
FLOATS = st.floats(allow_nan=False)
"""Infinity too. NaN is not equal to itself, and no time or limit."""


def of_type(hint: Any) -> st.SearchStrategy[Any]:
    if hint in FAMILIES:
        return st.one_of([of_class(cls) for cls in FAMILIES[hint].values()])
    if is_dataclass(hint):
        return of_class(hint)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return st.sampled_from(hint)
    plain = {int: WHOLE, float: FLOATS, str: TEXT, bool: st.booleans(), NoneType: st.none()}
    if hint in plain:
        return plain[hint]
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return st.one_of([of_type(arg) for arg in args])
    if origin in (Mapping, dict):
        return st.dictionaries(of_type(args[0]), of_type(args[1]), max_size=3)
    if origin is frozenset:
        return st.frozensets(of_type(args[0]), max_size=3)
    if origin is list:
        return st.lists(of_type(args[0]), max_size=3)
    if origin is tuple and args[1:] == (...,):
        return st.lists(of_type(args[0]), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*map(of_type, args))
    raise TypeError(f"what are values of {hint!r}?")


def of_class(cls: Any) -> st.SearchStrategy[Any]:
    return st.builds(cls, **{name: of_type(hint) for name, hint in hints(cls).items()})

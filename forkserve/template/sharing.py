"""Keeping memory shared after the fork.

A page is shared between processes until one of them writes to it. CPython writes to
objects that are only read, in two ways:

- the garbage collector keeps its books in the objects. :func:`freeze` takes what is
  there out of its hands (``gc.freeze``);
- each reference that is taken or dropped changes the object's reference count. Since
  Python 3.12 there are immortal objects (PEP 683), whose count never changes: in a
  64-bit build those whose lower 32 bits are a negative number. :func:`immortalise`
  makes everything that the app has loaded immortal.

An immortal object is never freed. For what the app has built at import and keeps, that
makes no difference; what a worker drops of it stays in memory, at most once.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import io
import platform
import socket
import sys
import sysconfig
import types
from collections.abc import Iterable
from dataclasses import dataclass
from time import monotonic
from typing import Any

BATCH = 20_000
"""Objects whose referents are asked for in one call."""

_ADDRESSES = 1 << 47
"""Bytes of user space (x86-64 and arm64, without five-level paging)."""

_LEFT_ALONE = (
    io.IOBase,
    socket.socket,
    types.FrameType,
    types.GeneratorType,
    types.CoroutineType,
    types.AsyncGeneratorType,
    types.TracebackType,
)
"""Files and sockets are closed when the last reference goes, and the others are code
under way. They go on being counted."""


@dataclass(frozen=True, slots=True)
class Sharing:
    """What was made immortal, and how long it took."""

    objects: int
    seconds: float


def freeze() -> None:
    """Take every object that there is out of the garbage collector's hands."""
    gc.collect()
    gc.freeze()
    _give_back()


def immortal_is_possible() -> str:
    """An empty string, or why this Python cannot have immortal objects."""
    version = platform.python_version()
    if sys.version_info < (3, 12):
        return f"it needs Python 3.12 or newer, and this is {version}"
    if platform.python_implementation() != "CPython" or sys.maxsize < 2**32:
        return "it needs a 64-bit CPython"
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        return "a free-threaded Python counts references in another way"
    if sysconfig.get_config_var("Py_TRACE_REFS"):
        return "a Python built with Py_TRACE_REFS keeps other fields first"
    if not _layout_is_known():
        return f"Python {version} counts references in a way that is not known yet"
    return ""


def immortalise(*roots: object) -> Sharing:
    """Make all that ``roots`` and the imported modules lead to immortal, and freeze it.

    For the template, when all is loaded and no other thread runs. Raises RuntimeError
    if it is not possible here.
    """
    if why_not := immortal_is_possible():
        raise RuntimeError(why_not)
    began = monotonic()
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()  # a collection in the middle would see counts that are not true
    try:
        marked = _mark([*sys.modules.values(), *roots])
        gc.freeze()
    finally:
        if was_enabled:
            gc.enable()
    _give_back()
    return Sharing(marked, monotonic() - began)


def _give_back() -> None:
    """Return freed memory to the system, where the C library can (glibc, malloc_trim(3)).

    Else the walk's own books, megabytes of them, would stay with the template.
    """
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def _mark(frontier: list[Any]) -> int:
    """Mark everything that can be reached; returns how many objects."""
    counts = _reference_counts()
    immortal = counts[id(None) >> 2]
    seen: set[int] = {id(frontier)}
    marked = 0
    while frontier:
        batch, frontier = frontier[:BATCH], frontier[BATCH:]
        fresh = {id(obj): obj for obj in gc.get_referents(*batch)}
        for known in seen.intersection(fresh):
            del fresh[known]
        seen.update(fresh)
        # A new list each time, so that none of our own can be among what is reached.
        frontier.extend(fresh.values())
        for address in _to_be_marked(fresh):
            counts[address >> 2] = immortal
            marked += 1
    return marked


def _to_be_marked(objects: dict[int, Any]) -> Iterable[int]:
    """The addresses of those that may become immortal."""
    left_alone = _kinds_left_alone({type(obj) for obj in objects.values()})
    if not left_alone:
        return list(objects)
    return [address for address, obj in objects.items() if type(obj) not in left_alone]


def _kinds_left_alone(kinds: set[type]) -> set[type]:
    # An immortal object's finaliser would never run.
    return {kind for kind in kinds if issubclass(kind, _LEFT_ALONE) or hasattr(kind, "__del__")}


def _reference_counts() -> ctypes.Array[ctypes.c_uint32]:
    """All of memory as 32-bit numbers: an object's count is the one at its address.

    (Objects are aligned to 16 bytes, and the machine is little-endian.)
    """
    return (ctypes.c_uint32 * (_ADDRESSES // 4)).from_address(0)


def _layout_is_known() -> bool:
    """Whether a count is where it is expected, and can be made immortal."""
    if sys.byteorder != "little" or id(None) >= _ADDRESSES:
        return False
    counts = _reference_counts()
    immortal = counts[id(None) >> 2]
    probe = [object()]
    address = id(probe[0])
    if immortal < 1 << 31 or counts[address >> 2] != sys.getrefcount(probe[0]) - 1:
        return False
    before = counts[address >> 2]
    counts[address >> 2] = immortal
    others = [probe[0]] * 10
    held = counts[address >> 2] == immortal
    others.clear()
    counts[address >> 2] = before
    return held

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
makes no difference; what a worker drops of it stays in memory, at most once. Where the
end of an object is itself an event it stays mortal, see :func:`_kind_of`. Two things are
different all the same. What only an immortal object refers to ends when it is taken out
of it, not when that object is dropped: ``del owner.file`` closes the file, ``del owner``
does not. And where the count itself is looked at it is too high: ``ndarray.resize``
wants ``refcheck=False`` for an array from before the fork.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import platform
import sys
import sysconfig
import types
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from itertools import chain
from time import monotonic
from typing import Any

BATCH = 20_000
"""Objects whose referents are asked for in one call."""

_ADDRESSES = 1 << 62
"""More bytes than there are in any user space."""

_MAY_REFER = 1 << 14
"""Py_TPFLAGS_HAVE_GC: objects of such a type may refer to others."""


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
    if hasattr(sys, "gettotalrefcount"):
        return "a debug build of Python keeps account of every reference"
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
    gc.unfreeze()  # what the app has frozen itself could not be asked for its weakrefs
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


class _Kind(Enum):
    """What the walk has to know of a type."""

    LEFT_ALONE = auto()
    ATOM = auto()
    """Refers to nothing."""
    PLAIN = auto()
    """Tells the collector all that it refers to."""
    DICT = auto()
    """Does not tell of keys that are strings."""
    CODE = auto()
    """Does not tell of its names and constants."""
    ARRAY = auto()
    """A numpy array, which does not tell of the objects that may be in it."""


def _mark(found: Iterable[Any]) -> int:
    """Mark everything that can be reached; returns how many objects.

    The mark is also what says that an object has been seen: no books are kept beside
    those that are next. Objects are not compared, hashed or asked for attributes here,
    as that could run code of the app.
    """
    counts = _reference_counts()
    immortal = counts[id(None) >> 2]
    kinds, watched = _Kinds(), _watched()
    left_alone, atom = _Kind.LEFT_ALONE, _Kind.ATOM
    marked = 0
    pending: list[Any] = []
    while True:
        for obj in found:
            at = id(obj) >> 2
            if counts[at] == immortal:
                continue
            kind = kinds[type(obj)]
            if kind is left_alone or id(obj) in watched:
                continue
            counts[at] = immortal
            marked += 1
            if kind is not atom:
                pending.append(obj)
        if not pending:
            return marked
        batch = pending[-BATCH:]
        del pending[-BATCH:]
        found = chain(gc.get_referents(*batch), _untold(batch, kinds))


def _untold(batch: list[Any], kinds: _Kinds) -> Iterator[Any]:
    """What ``batch`` refers to without telling the collector, as no cycle leads there."""
    for obj in batch:
        kind = kinds[type(obj)]
        if kind is _Kind.DICT:
            yield from dict.keys(obj)
        elif kind is _Kind.CODE:
            yield from (obj.co_consts, obj.co_names, obj.co_name, obj.co_qualname)
            yield from (obj.co_filename, obj.co_linetable, obj.co_exceptiontable)
        elif kind is _Kind.ARRAY and obj.dtype.char == "O":
            yield from obj.ravel(order="K").tolist()


class _Kinds(dict[type, _Kind]):
    """The kind of each type, looked up once."""

    def __missing__(self, of: type) -> _Kind:
        self[of] = kind = _kind_of(of)
        return kind


_LEFT_ALONE = (
    types.FrameType,
    types.TracebackType,
    memoryview,
    type(gc.get_referents(memoryview(b""))[0]),  # what holds the buffer for memoryviews
)
_LEFT_ALONE_NAMES = {"mmap.mmap", "select.epoll", "select.kqueue", "greenlet.greenlet"}
"""They end with something done, and have no ``__del__`` that would show it."""


def _kind_of(of: type) -> _Kind:
    """Left alone is what does something at its end: whatever has a ``__del__``, in C too.

    So files and sockets are still closed with their last reference. Generators and
    coroutines are among them, for the ``finally`` in which they may be suspended.
    """
    names = {f"{base.__module__}.{base.__qualname__}" for base in of.__mro__}
    has_finaliser = any("__del__" in base.__dict__ for base in of.__mro__)
    if has_finaliser or issubclass(of, _LEFT_ALONE) or names & _LEFT_ALONE_NAMES:
        return _Kind.LEFT_ALONE
    if issubclass(of, dict):
        return _Kind.DICT
    if of is types.CodeType:
        return _Kind.CODE
    if f"{of.__module__}.{of.__qualname__}" == "numpy.ndarray":
        return _Kind.ARRAY
    return _Kind.PLAIN if of.__flags__ & _MAY_REFER else _Kind.ATOM


def _watched() -> set[int]:
    """The ids of the objects whose end somebody is told of, by a weakref's callback.

    Classes are not among them: their abstract bases watch them all, hardly any ever
    ends, and each instance that comes or goes is counted there.
    """
    refs = [obj for obj in gc.get_objects() if issubclass(type(obj), weakref.ref)]
    watched = (ref() for ref in refs if ref.__callback__ is not None)
    return {id(obj) for obj in watched if obj is not None and not issubclass(type(obj), type)}


def _reference_counts() -> memoryview:
    """All of memory as 32-bit numbers: an object's count is the one at its address.

    (Objects are aligned to at least four bytes, and the machine is little-endian.) The
    numbers are signed because -1, the mark of 3.12 and 3.13, costs no memory in Python.
    """
    return memoryview((ctypes.c_char * _ADDRESSES).from_address(0)).cast("B").cast("i")


def _layout_is_known() -> bool:
    """Whether a count is where it is expected, and can be made immortal."""
    if sys.byteorder != "little":
        return False
    counts = _reference_counts()
    immortal = counts[id(None) >> 2]
    probe = [object()]
    address = id(probe[0])
    if immortal >= 0 or counts[address >> 2] != sys.getrefcount(probe[0]) - 1:
        return False
    before = counts[address >> 2]
    counts[address >> 2] = immortal
    others = [probe[0]] * 10
    held = counts[address >> 2] == immortal
    others.clear()
    held = held and counts[address >> 2] == immortal
    counts[address >> 2] = before
    return held

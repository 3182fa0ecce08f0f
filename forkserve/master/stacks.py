"""What a fault handler has written, for the log and for ``forkserve dump``: where the app is has
to be seen at a glance.

faulthandler writes the newest thread first, so that of the event loop, the oldest, last, below
those of every pool; and it begins each with its innermost frame (CPython, Python/traceback.c).
Here the loop's thread comes first, and each frame of the app's own files is marked::

    Current thread 0x00007fe7cf3bcb80 (most recent call first):
      File "/usr/lib/python3.11/ssl.py", line 1296 in read
    > File "/srv/shop/prices.py", line 31 in fetch
    > File "/srv/shop/main.py", line 12 in show
      ... called by fastapi, starlette, uvicorn

What the app has called is always there, and so are whatever other libraries have called it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import groupby

LONGEST_STACK = 32 * 1024
"""Characters of a stack dump that go into the log."""

LONGEST_DUMP = 1 << 20
"""Bytes of a dump that are looked at: it shows a hundred threads of a hundred frames at most."""

_FATAL = "Fatal Python error"
_THREAD = re.compile(r"^(?=(?:Current thread|Thread) 0x)", re.MULTILINE)
_FRAME = re.compile(r'^  File "(?P<path>.*)", line ')

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_BIRTH = os.path.join(_PACKAGE, "worker", "birth.py")
_STANDARD_LIBRARY = os.path.dirname(os.__file__) + os.sep
_INSTALLED = re.compile(r".*/(?:site|dist)-packages/([^/]+)")

MACHINERY = frozenset(
    {
        "anyio",
        "asyncio",
        "concurrent",
        "contextlib",
        "fastapi",
        "forkserve",
        "runpy",
        "starlette",
        "threading",
        "uvicorn",
        "uvloop",
    }
)
"""What runs an app, so that of its frames nobody wants to see more than the name."""


def is_fatal(dump: str) -> bool:
    """Whether it tells of a process's end, and not only of where it was."""
    return _FATAL in dump


def readable(dump: str) -> str:
    """``dump`` without what is of no use to whoever reads it.

    Of a fatal error only that; else the loop's thread first, and threads that are all in the
    same place, like those of an idle pool, once.
    """
    if is_fatal(dump):
        first, *threads = _THREAD.split(dump[dump.rindex(_FATAL) :])
        return _cut("\n".join([first.strip(), *map(_shown, threads)]).strip())
    first, *threads = _THREAD.split(dump)
    threads = [_shown(thread) for thread in reversed(threads)]
    return _cut("\n".join([first.strip(), *_folded(threads)]).strip())


def _folded(threads: list[str]) -> list[str]:
    """Each stack once."""
    headers: dict[str, list[str]] = {}
    for thread in threads:
        header, _, frames = thread.partition("\n")
        headers.setdefault(frames, []).append(header)
    return [_told(alike, frames) for frames, alike in headers.items()]


def _told(headers: list[str], frames: str) -> str:
    lines = [headers[0], frames]
    if more := len(headers) - 1:
        lines.append(f"  and {more} more like it" if more > 1 else "  and another like it")
    return "\n".join(lines)


# -- frames -------------------------------------------------------------------------------


def _shown(thread: str) -> str:
    """A thread with the app's frames marked, and without what is of no use."""
    kept: list[str] = []
    for is_frame, found in groupby(thread.strip().splitlines(), _is_frame):
        lines = list(found)
        kept += _frames(lines) if is_frame else lines
    return "\n".join(kept)


def _frames(frames: list[str]) -> Iterator[str]:
    """The frames of one thread, the innermost first."""
    frames = [f for f in _above_the_start(frames) if "<frozen importlib" not in f]
    runs = [list(run) for _, run in groupby(frames, _is_machinery)]
    for number, run in enumerate(runs):
        if number == 0 or not _is_machinery(run[0]):
            yield from map(_marked, run)
        elif names := [name for name in dict.fromkeys(map(_owner, run)) if name != "forkserve"]:
            yield f"  ... called by {', '.join(names)}"


def _is_frame(line: str) -> bool:
    return bool(_FRAME.match(line))


def _is_machinery(frame: str) -> bool:
    return _owner(frame) in MACHINERY


def _above_the_start(frames: list[str]) -> list[str]:
    """Without what every process of ours has begun with, and what runs uvicorn in it."""
    begun = (number for number, frame in enumerate(frames) if _BIRTH in frame)
    above = frames[: next(begun, len(frames))] or frames
    others = [number for number, frame in enumerate(above) if _owner(frame) != "forkserve"]
    return above[: others[-1] + 1] if others else above


def _marked(frame: str) -> str:
    return frame if _owner(frame) else f">{frame[1:]}"


def _owner(frame: str) -> str:
    """The package that a frame's file belongs to, or empty if that is the app's own."""
    match = _FRAME.match(frame)
    path = match["path"] if match else ""
    if path.startswith(_PACKAGE):
        return "forkserve"
    if path.startswith("<frozen "):
        return path.removeprefix("<frozen ").rstrip(">").partition(".")[0]
    if installed := _INSTALLED.match(path):
        return installed[1].removesuffix(".py")
    if path.startswith(_STANDARD_LIBRARY):
        return path[len(_STANDARD_LIBRARY) :].partition(os.sep)[0].removesuffix(".py")
    return ""


def _cut(text: str) -> str:
    if len(text) <= LONGEST_STACK:
        return text
    return text[:LONGEST_STACK].rpartition("\n")[0] + "\n..."

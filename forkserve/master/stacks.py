"""What a fault handler has written, for the log: the thread that runs the loop comes first.

faulthandler writes the newest thread first, so that of the event loop, the oldest, last, below
those of every pool; and it begins each with its innermost frame (CPython, Python/traceback.c).
"""

from __future__ import annotations

import os
import re

LONGEST_STACK = 32 * 1024
"""Characters of a stack dump that go into the log."""

LONGEST_DUMP = 1 << 20
"""Bytes of a dump that are looked at: it shows a hundred threads of a hundred frames at most."""

_FATAL = "Fatal Python error"
_THREAD = re.compile(r"^(?=(?:Current thread|Thread) 0x)", re.MULTILINE)
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


def is_fatal(dump: str) -> bool:
    """Whether it tells of a process's end, and not only of where it was."""
    return _FATAL in dump


def readable(dump: str) -> str:
    """``dump`` without what is of no use to whoever reads it.

    Of a fatal error only that; else the loop's thread first, and threads that are all in the
    same place, like those of an idle pool, once.
    """
    if is_fatal(dump):
        return _cut(_without_machinery(dump[dump.rindex(_FATAL) :]))
    first, *threads = _THREAD.split(dump)
    threads = [_without_machinery(thread) for thread in reversed(threads)]
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


def _without_machinery(stack: str) -> str:
    """A thread's frames without what lies below the app: the process's own start."""
    kept: list[str] = []
    below = False
    for line in stack.strip().splitlines():
        frame = line.startswith("  File ")
        below = frame and (below or _PACKAGE in line)
        if not below and "<frozen importlib" not in line:
            kept.append(line)
    return "\n".join(kept)


def _cut(text: str) -> str:
    if len(text) <= LONGEST_STACK:
        return text
    return text[:LONGEST_STACK].rpartition("\n")[0] + "\n..."

"""How much memory a process has, as /proc tells (Linux; 0 where there is no telling).

Of this process, or of another one: that needs the right to look into it (ptrace(2)).
"""

from __future__ import annotations

import os
import re

_PAGE = os.sysconf("SC_PAGE_SIZE")


def resident(pid: int | None = None) -> int:
    """Bytes that are in memory, shared ones in full (proc_pid_statm(5)). Cheap to know."""
    try:
        with open(f"/proc/{pid or 'self'}/statm") as statm:
            return int(statm.read().split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        return 0


def of_kind(kind: str) -> int:
    """Bytes of a kind such as ``Pss`` or ``Private_Dirty`` (proc_pid_smaps(5)).

    The kernel walks every page for it.
    """
    return of_kinds(None, kind)[0]


def of_kinds(pid: int | None, *kinds: str) -> list[int]:
    """... of several kinds, of the process ``pid``, for one walk."""
    try:
        with open(f"/proc/{pid or 'self'}/smaps_rollup") as rollup:
            said = rollup.read()
    except OSError:
        said = ""
    found = [re.search(rf"^{kind}:\s+(\d+) kB", said, re.M) for kind in kinds]
    return [int(match[1]) * 1024 if match else 0 for match in found]


def mebibytes(size: int) -> str:
    """``64 MiB``."""
    return f"{size / (1 << 20):.0f} MiB"

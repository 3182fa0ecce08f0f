"""How much memory this process has, as /proc tells (Linux; 0 where there is no telling)."""

from __future__ import annotations

import os
import re

_PAGE = os.sysconf("SC_PAGE_SIZE")


def resident() -> int:
    """Bytes that are in memory, shared ones in full (proc_pid_statm(5)). Cheap to know."""
    try:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        return 0


def of_kind(kind: str) -> int:
    """Bytes of a kind such as ``Pss`` or ``Private_Dirty`` (proc_pid_smaps(5)).

    The kernel walks every page for it.
    """
    try:
        with open("/proc/self/smaps_rollup") as rollup:
            found = re.search(rf"^{kind}:\s+(\d+) kB", rollup.read(), re.M)
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


def mebibytes(size: int) -> str:
    """``64 MiB``."""
    return f"{size / (1 << 20):.0f} MiB"

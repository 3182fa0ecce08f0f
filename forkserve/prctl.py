"""What forkserve asks of Linux about a process itself (prctl(2)); elsewhere it is refused."""

from __future__ import annotations

import ctypes
import sys

SET_PDEATHSIG = 1
"""The signal that is sent to this process when its parent dies; 0: none."""

SET_DUMPABLE = 4
"""Whether a crash leaves a core file, and whether others of the same user may look into this
process (ptrace(2)); a change of users clears it."""

SET_NAME = 15
"""What ps(1) and top(1) show, up to 15 bytes."""

SET_CHILD_SUBREAPER = 36
"""Whether orphans among the descendants are given to this process."""


def prctl(option: int, value: int | bytes) -> bool:
    """Returns whether the system could."""
    if sys.platform != "linux":
        return False
    return int(ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)) == 0

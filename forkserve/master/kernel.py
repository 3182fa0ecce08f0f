"""All that the master asks of the operating system about processes.

Small on purpose: four methods, of which everything that the master does to a process
is made.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import NoReturn, Protocol

from forkserve.master.signals import blocked


@dataclass(frozen=True, slots=True)
class Death:
    """A child that has been waited for.

    ``code`` as in :attr:`subprocess.Popen.returncode`.
    """

    pid: int
    code: int
    peak: int = field(default=0, compare=False)
    """The most memory that it ever had resident, in bytes, shared pages in full."""


class Kernel(Protocol):
    """Processes, as the master sees them."""

    def fork(self, child: Callable[[], NoReturn]) -> int:
        """Run ``child`` in a new process; returns its pid. Raises OSError (EAGAIN)."""

    def signal(self, pid: int, number: int) -> None:
        """Send a signal to a child that has not been reaped."""

    def is_child(self, pid: int) -> bool:
        """Whether ``pid`` is a child that has not been reaped."""

    def reap(self) -> Iterator[Death]:
        """Each child that has ended by now, waited for as it is handed out; never blocks."""


class Posix:
    """The real one."""

    def fork(self, child: Callable[[], NoReturn]) -> int:
        # With signals let through, one could reach the child while it still has our
        # handlers and our wake-up descriptor. The child unblocks them itself.
        with blocked():
            pid = os.fork()
            if pid == 0:
                child()
            return pid

    def signal(self, pid: int, number: int) -> None:
        # The pid is an unreaped child's: it cannot be somebody else's by now.
        os.kill(pid, number)

    def is_child(self, pid: int) -> bool:
        try:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except (OSError, OverflowError):
            return False
        return pid > 0

    def reap(self) -> Iterator[Death]:
        # One at a time: a child that has not been handed out yet is not reaped either,
        # so that its pid is still its own while its sibling's death is acted upon.
        while True:
            try:
                # It imports the module resource, which takes a descriptor to spare: that is
                # why we have done so.
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            yield Death(pid, os.waitstatus_to_exitcode(status), _peak(usage))


def _peak(usage: resource.struct_rusage) -> int:
    # In KiB, but for macOS (getrusage(2)).
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def fork_with_a_pipe(kernel: Kernel, life: Callable[[int], NoReturn]) -> int:
    """Run ``life`` in a new process, with the end of a pipe to write into; returns the other
    end, from which reading does not block. Raises OSError (EAGAIN, EMFILE)."""
    ours, theirs = os.pipe()
    try:
        kernel.fork(partial(life, theirs))
    except OSError:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    os.set_blocking(ours, False)
    return ours


def process_state(pid: int) -> str:
    """What /proc says of a process in one word, or empty (proc_pid_stat(5))."""
    words = {"T": "stopped", "t": "traced", "D": "waiting for a device", "R": "running"}
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return words.get(stat.read().rpartition(")")[2].split()[0], "")
    except (OSError, IndexError):
        return ""

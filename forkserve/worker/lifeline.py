"""What ties a worker to its master, and what is left of it when it dies."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from types import FrameType

from forkserve.prctl import SET_PDEATHSIG, prctl

STACK_SIGNAL: int = getattr(signal, "SIGRTMIN", signal.SIGUSR2)
"""Makes a worker write the Python stacks of all its threads. A real-time signal where
there are any, since apps use SIGUSR1 and SIGUSR2 for themselves."""


def die_with_the_master(master_pid: int, by: int = signal.SIGTERM) -> None:
    """Have the kernel send the signal ``by`` when the master dies (prctl(2), Linux only).

    The end of the channel says the same, but nobody reads that while the app is
    being imported.
    """
    prctl(SET_PDEATHSIG, by)
    if is_orphan(master_pid):
        os._exit(0)  # it died before we had asked


def is_orphan(master_pid: int) -> bool:
    return os.getppid() != master_pid


def write_stacks_to(fd: int) -> None:
    """Write every thread's Python stack to ``fd`` on a fatal error or STACK_SIGNAL.

    The handler is C and does not need the GIL, so it works in a process that is
    stuck in native code or in an endless loop.
    """
    faulthandler.enable(file=fd, all_threads=True)
    faulthandler.register(STACK_SIGNAL, file=fd, all_threads=True, chain=False)


def leave_the_terminal_to_the_master() -> None:
    """Take no notice of what a terminal, or a habit, sends to the whole group.

    Ctrl-\\, a hang-up and the like are for the master to act on. A handler that does
    nothing is used rather than SIG_IGN, which the app's own subprocesses would
    inherit.
    """
    for name in ("SIGHUP", "SIGQUIT", "SIGTTIN", "SIGTTOU", "SIGUSR1", "SIGUSR2", "SIGWINCH"):
        number = getattr(signal, name)
        if number != STACK_SIGNAL and signal.getsignal(number) is not signal.SIG_IGN:
            take_no_notice_of(number)


def take_no_notice_of(number: int) -> None:
    signal.signal(number, _take_no_notice)
    signal.siginterrupt(number, False)


def _take_no_notice(signum: int, frame: FrameType | None) -> None:
    pass


def end_anyway_after(seconds: float) -> None:
    """Exit after so long, whatever this process is stuck in, and show the stacks.

    For a worker whose master is gone, so that nobody else would kill it.
    """
    faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__ or 2)

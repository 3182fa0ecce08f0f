"""Signals for the master: a handler leaves a byte, the loop reads it.

CPython's C handler writes the signal's number into the wake-up descriptor; the Python
handlers do nothing, they only have to exist. So no signal is lost while the loop is
busy, none interrupts it, and the loop wakes from its one wait for all of them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from types import FrameType

HANDLED = (
    signal.SIGCHLD,
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGCONT,
    signal.SIGWINCH,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


class SignalQueue:
    """The wake-up descriptor and what has been read from it."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    def open(self) -> None:
        """Begin to take signals. Main thread only (signal.set_wakeup_fd)."""
        # A storm may fill the pipe: a full pipe is awake already, and each kind of
        # signal that matters is in it.
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in HANDLED:
            signal.signal(number, _leave_it_to_the_loop)

    def fileno(self) -> int:
        return self._reader.fileno()

    def take(self) -> list[signal.Signals]:
        """The signals that came since the last call, each kind that may repeat as
        often as it came."""
        taken: list[signal.Signals] = []
        with contextlib.suppress(BlockingIOError, InterruptedError):
            while data := self._reader.recv(4096):
                taken += [signal.Signals(number) for number in data]
        return _coalesced(taken)

    def close(self) -> None:
        signal.set_wakeup_fd(-1)
        self._reader.close()
        self._writer.close()


def _coalesced(taken: list[signal.Signals]) -> list[signal.Signals]:
    """Only TTIN, TTOU and INT say more when they come twice."""
    counted = (signal.SIGTTIN, signal.SIGTTOU, signal.SIGINT)
    seen: set[signal.Signals] = set()
    kept = []
    for number in taken:
        if number in counted or number not in seen:
            kept.append(number)
        seen.add(number)
    return kept


def _leave_it_to_the_loop(signum: int, frame: FrameType | None) -> None:
    pass


@contextlib.contextmanager
def blocked() -> Iterator[None]:
    """No signal is delivered inside; those that come wait."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Terminal:
    """The terminal that the master was started from, if it was its foreground job.

    A SIGHUP from a terminal that is closing means that the user has gone, and not
    that there is new code. The kernel has hung the terminal up by then, so that it
    answers every question with EIO (tty_ioctl(4)).
    """

    def __init__(self) -> None:
        self._fd: int | None = None
        if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
            return  # nohup(1): the user has said what a hang-up means
        for stream in (0, 1, 2):
            with contextlib.suppress(OSError):
                if os.tcgetpgrp(stream) == os.getpgrp():
                    # A copy of our own, since the streams may be redirected later.
                    self._fd = os.dup(stream)
                    return

    @property
    def gone(self) -> bool:
        """Whether there was one and it has been hung up."""
        if self._fd is None:
            return False
        try:
            os.tcgetpgrp(self._fd)
        except OSError:
            return True
        return False

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)


def name(number: int) -> str:
    """``SIGKILL`` for 9; works for real-time signals too."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"

"""What the master relies on when it forks, signals and waits, on the real system."""

from __future__ import annotations

import os
import select
import signal
from typing import NoReturn

from forkserve.master.kernel import Death, Posix


def _sleep() -> NoReturn:
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    while True:
        signal.pause()


def _exit_with_7() -> NoReturn:
    os._exit(7)


def _ended(*pids: int) -> None:
    """Wait for their ends without reaping them (waitid(2), WNOWAIT)."""
    for pid in pids:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def test_a_death_is_reported_once_and_as_it_was() -> None:
    kernel = Posix()
    exits, sleeps = kernel.fork(_exit_with_7), kernel.fork(_sleep)
    kernel.signal(sleeps, signal.SIGKILL)
    _ended(exits, sleeps)
    deaths = sorted(kernel.reap(), key=lambda death: death.pid)
    assert deaths == sorted([Death(exits, 7), Death(sleeps, -9)], key=lambda death: death.pid)
    assert list(kernel.reap()) == []


def test_reaping_without_an_ended_child_does_not_block() -> None:
    kernel = Posix()
    pid = kernel.fork(_sleep)
    assert list(kernel.reap()) == []
    kernel.signal(pid, signal.SIGKILL)
    _ended(pid)
    assert [death.pid for death in kernel.reap()] == [pid]


def test_a_sibling_of_a_reported_death_can_still_be_signalled() -> None:
    """Its pid is its own until its own death is handed out (invariant 9)."""
    kernel = Posix()
    pids = {kernel.fork(_exit_with_7) for _ in range(3)}
    _ended(*pids)
    for death in kernel.reap():
        pids.discard(death.pid)
        for other in pids:
            kernel.signal(other, signal.SIGKILL)  # ProcessLookupError if it were reaped
    assert not pids


def test_no_signal_reaches_a_newborn_before_it_lets_them_through() -> None:
    """Its mask is full: a TERM in its first moment waits for its own handlers."""
    reader, writer = os.pipe()

    def report_the_mask() -> NoReturn:
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        os.write(writer, b"y" if signal.SIGTERM in blocked else b"n")
        os._exit(0)

    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    pid = Posix().fork(report_the_mask)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
    select.select([reader], [], [], 60)
    assert os.read(reader, 1) == b"y"
    os.waitpid(pid, 0)
    os.close(reader)
    os.close(writer)

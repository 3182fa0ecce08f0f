"""Forking a process that becomes the child of one's own parent.

A child whose parent exits is given to the nearest ancestor that has declared itself a
subreaper (prctl(2), PR_SET_CHILD_SUBREAPER; Linux 3.4). So: fork a go-between, have it
fork the real child, and exit. (``clone(2)`` with CLONE_PARENT would do it in one step,
but then Python would not know that it had been forked.)
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from typing import NoReturn

from forkserve.master.signals import blocked
from forkserve.prctl import SET_CHILD_SUBREAPER, SET_PDEATHSIG, prctl


def adopt_orphans() -> bool:
    """Make this process a subreaper. Returns whether the system can (Linux)."""
    return prctl(SET_CHILD_SUBREAPER, 1)


def fork_for(guardian: int, child: Callable[[], NoReturn]) -> int:
    """Run ``child`` in a new process that is a child of ``guardian``; returns its pid.

    ``guardian`` is the subreaper above us. ``child`` is called with every signal
    blocked. Raises OSError (EAGAIN, ENOMEM, EMFILE) and leaves nothing behind.
    """
    with blocked():
        reader, writer = os.pipe()
        with open(reader, "rb") as pipe:
            try:
                go_between = os.fork()
                if go_between == 0:
                    _go_between(guardian, child, reader, writer)
            finally:
                os.close(writer)
            said = pipe.read()  # until the go-between has exited
            _, status = os.waitpid(go_between, 0)
    if not said:
        code = os.waitstatus_to_exitcode(status)
        number = code if code > 0 else errno.EAGAIN
        raise OSError(number, os.strerror(number))
    return int(said)


def _go_between(guardian: int, child: Callable[[], NoReturn], reader: int, writer: int) -> NoReturn:
    """Fork the child, say its pid, and exit. The exit code is the errno, if any."""
    code = errno.EAGAIN
    try:
        me = os.getpid()
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            os.close(writer)
            _wait_until_adopted(guardian, go_between=me)
            child()
        os.write(writer, b"%d" % pid)
        code = 0
    except OSError as exc:
        code = exc.errno or errno.EAGAIN
    finally:
        os._exit(code)


def _wait_until_adopted(guardian: int, go_between: int) -> None:
    """Return once ``guardian`` is our parent; exit if it is no more.

    The kernel sends the parent-death signal after it has given us to the new parent,
    so the signal is exactly what is to be waited for.
    """
    prctl(SET_PDEATHSIG, signal.SIGUSR1)
    while (parent := os.getppid()) != guardian:
        if parent != go_between:
            os._exit(0)  # the master has died meanwhile
        signal.sigwait({signal.SIGUSR1})
    prctl(SET_PDEATHSIG, 0)
    # It may have come after all, between the prctl and the look at the parent.
    signal.sigtimedwait({signal.SIGUSR1}, 0)

"""How this process was started, so that it can be started anew: for an upgrade."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

_AT_EXECFN = 31
"""getauxval(3): the file name that was given to execve(2)."""

_CHANGED_BY_PYTHON = ("SIGPIPE", "SIGXFSZ")
"""Signals that CPython ignores from its start on, whatever they were before."""


_OF_THE_FIRST = (b"LISTEN_PID", b"LISTEN_FDS", b"LISTEN_FDNAMES", b"WATCHDOG_PID")
"""What a service manager has said to one process only."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The command, the folder and the surroundings of the first moment.

    Nothing in it is resolved: where a symbolic link leads somewhere else by then (to the
    venv, or the release, that was put in place) the new process comes from there.
    """

    program: str
    arguments: tuple[str, ...]
    folder: str
    environment: Mapping[bytes, bytes]
    ignored: frozenset[int]
    """Signals that were ignored, as by nohup(1)."""

    blocked: frozenset[int]

    @classmethod
    def of_this_process(cls) -> Origin:
        """To be called before anything could have changed the environment or the folder."""
        program, arguments = command(_execfn(), sys.orig_argv)
        return cls(
            program,
            tuple(arguments),
            folder(os.environ.get("PWD", "")),
            dict(os.environb),
            frozenset(n for n in signal.valid_signals() if _is_ignored(n)),
            frozenset(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        )

    def begin_anew(self, name: str, value: str) -> NoReturn:
        """Become what this process was at first, with one environment variable more.

        For a new child that has not unblocked its signals. Raises OSError.
        """
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals():
            if number in self.ignored:
                signal.signal(number, signal.SIG_IGN)
            elif signal.getsignal(number) not in (signal.SIG_DFL, None):
                signal.signal(number, signal.SIG_DFL)
        os.chdir(self.folder)
        signal.pthread_sigmask(signal.SIG_SETMASK, self.blocked)
        environment = {k: v for k, v in self.environment.items() if k not in _OF_THE_FIRST}
        environment[os.fsencode(name)] = os.fsencode(value)
        os.execvpe(self.program, self.arguments, environment)


def command(execfn: str, orig_argv: Sequence[str]) -> tuple[str, Sequence[str]]:
    """The program to be executed, and its arguments.

    ``execfn`` is what was executed, if that is known. For a console script that is the
    script: its first line names an interpreter, and another script at the same path may
    name another. ``orig_argv`` begins with the interpreter then.
    """
    if execfn in orig_argv[1:]:
        return execfn, orig_argv[orig_argv.index(execfn, 1) :]
    return execfn or orig_argv[0], orig_argv


def folder(pwd: str) -> str:
    """The working directory by the path that leads there: ``pwd``, if it still does."""
    try:
        if os.path.isabs(pwd) and os.path.samefile(pwd, "."):
            return pwd
    except OSError:
        pass
    try:
        return os.getcwd()
    except OSError:
        return "."  # it has been removed


def _execfn() -> str:
    """What was given to execve(2), or empty where that cannot be known (it is Linux's)."""
    if sys.platform != "linux":
        return ""
    try:
        getauxval = ctypes.CDLL(None).getauxval
    except AttributeError:
        return ""
    getauxval.restype = ctypes.c_ulong
    getauxval.argtypes = (ctypes.c_ulong,)
    address = getauxval(_AT_EXECFN)
    return os.fsdecode(ctypes.string_at(address)) if address else ""


def _is_ignored(number: int) -> bool:
    changed = any(number == getattr(signal, name, None) for name in _CHANGED_BY_PYTHON)
    return not changed and signal.getsignal(number) is signal.SIG_IGN

"""Where control sockets are: where a master makes its own, and where a client looks for them.

A directory in which anybody else could put something is not believed: it has to be ours, and
not open to others. In the end it is the kernel that says who listens (:mod:`.peer`).
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator

from forkserve.control.peer import ROOT

OFF = "off"
"""The value of the setting for no socket at all."""

MODE = 0o600
"""Of the socket's file: who may write may connect (unix(7))."""

SUFFIX = ".sock"

_COMM = "forkserve"
"""How the short names of a master and of its children begin."""


class PlaceError(Exception):
    """The message says in half a sentence what is wrong with a directory."""


def path_for(control: str | None, pidfile: str | None) -> str | None:
    """Where this master's socket is to be; None: nowhere. Makes the directory if it is to be
    one of ours. Raises PlaceError, OSError."""
    if control == OFF:
        return None
    if control is not None:
        return os.path.abspath(control)
    runtime = _runtime_directory()
    if runtime is None and pidfile is not None:
        return beside(pidfile)
    directory = runtime or own_directory()
    _make(directory)
    return os.path.join(directory, f"{os.getpid()}{SUFFIX}")


def beside(pidfile: str) -> str:
    """``/run/shop.control.sock`` for ``/run/shop.pid``."""
    return f"{os.path.abspath(pidfile).removesuffix('.pid')}.control{SUFFIX}"


def known(*, everybodys: bool = False) -> list[str]:
    """The path of each socket that may be a control socket of this user's, by pid if it is
    called so. ``everybodys``: or of any other's that can be seen."""
    found = [path for directory in _directories() for path in _sockets_in(directory)]
    found += [path for path in _of_masters(everybodys) if path not in found]
    return found


# -- the directories ----------------------------------------------------------------------


def _runtime_directory() -> str | None:
    """The one of the user's session, if it is what the XDG Base Directory Specification
    promises: an absolute path of a directory that belongs to the user alone."""
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    if not os.path.isabs(base) or why_not_ours(base, others_may_read=True):
        return None
    return os.path.join(base, "forkserve")


def own_directory() -> str:
    """The one where there is no session."""
    if os.geteuid() == ROOT and os.path.isdir("/run"):
        return "/run/forkserve"
    return os.path.join(tempfile.gettempdir(), f"forkserve-{os.geteuid()}")


def _directories() -> Iterator[str]:
    """Those that a master of this user may have chosen. Its environment may be another."""
    runtime = _runtime_directory()
    for directory in [*([runtime] if runtime else []), own_directory()]:
        if not why_not_ours(directory):
            yield directory


def _make(directory: str) -> None:
    """Raises PlaceError, OSError."""
    umask = os.umask(0o077)
    try:
        os.mkdir(directory)
    except FileExistsError:
        pass
    finally:
        os.umask(umask)
    if why := why_not_ours(directory):
        raise PlaceError(f"{directory} {why}")


def why_not_ours(directory: str, others_may_read: bool = False) -> str:
    """What is wrong with it, or empty. Nobody else can change what we look at here: in
    ``/tmp`` only its owner may rename or remove a directory (the sticky bit)."""
    try:
        found = os.lstat(directory)
    except OSError as exc:
        return f"cannot be looked at ({exc.strerror})"
    if not stat.S_ISDIR(found.st_mode):
        return "is no directory, or a link to one"
    if found.st_uid != os.geteuid():
        return f"belongs to the user with uid {found.st_uid}"
    if found.st_mode & (0o022 if others_may_read else 0o077):
        return f"is open to others (its mode is {stat.S_IMODE(found.st_mode):03o}, not 700)"
    return ""


def _sockets_in(directory: str) -> list[str]:
    try:
        names = [name for name in os.listdir(directory) if name.endswith(SUFFIX)]
    except OSError:
        return []
    paths = [os.path.join(directory, name) for name in names]
    return sorted(paths, key=lambda path: (len(path), path))  # 9.sock before 10.sock


# -- any other place ----------------------------------------------------------------------


def _of_masters(everybodys: bool) -> Iterator[str]:
    """Every path on which one process listens that is called like a master.

    Linux only. What a master serves its app on is in its workers' hands too, so it is left
    alone. Whoever is called so and is no master will not answer like one.
    """
    if sys.platform != "linux":
        return
    holders: Counter[str] = Counter()
    for name in os.listdir("/proc"):
        if name.isdigit() and _is_called_so(name) and (everybodys or _is_ours(name)):
            holders.update(set(_socket_inodes(name)))
    for inode, path in _listening().items():
        if holders[inode] == 1:
            yield path


def _listening() -> dict[str, str]:
    """The path of each Unix socket that listens, by inode (proc_pid_net(5), unix)."""
    found: dict[str, str] = {}
    try:
        with open("/proc/net/unix", errors="surrogateescape") as lines:
            next(lines, None)
            for line in lines:
                fields = line.rstrip("\n").split(maxsplit=7)
                # __SO_ACCEPTCON of linux/net.h: it listens.
                if len(fields) == 8 and int(fields[3], 16) & 0x00010000 and fields[7][0] == "/":
                    found[fields[6]] = fields[7]
    except (OSError, ValueError):
        pass
    return found


def _is_called_so(pid: str) -> bool:
    try:
        with open(f"/proc/{pid}/comm") as comm:
            return comm.read().startswith(_COMM)
    except (OSError, UnicodeDecodeError):
        return False


def _is_ours(pid: str) -> bool:
    try:
        return os.stat(f"/proc/{pid}").st_uid == os.geteuid()
    except OSError:
        return False


def _socket_inodes(pid: str) -> Iterator[str]:
    try:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            link = os.readlink(f"/proc/{pid}/fd/{fd}")
            if link.startswith("socket:["):
                yield link[len("socket:[") : -1]
    except OSError:
        return

"""What the control groups of this process allow it, and whom they had killed (cgroups(7)).

Both versions, and a machine that has both. A group may be limited by any of its ancestors,
so each is asked, as far up as is mounted here: a container often sees no further than its
own group, and then the limits that matter are in that one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from pathlib import Path

UNLIMITED = 1 << 60
"""Bytes. Version 1 says "no limit" by a number of about this size or more."""


class Cgroups:
    """The groups of this process, as ``/proc`` and ``/sys`` below ``root`` have them."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._cpu = _lineage("cpu", root)
        self._memory = _lineage("memory", root)

    def cpus(self) -> float:
        """How many CPUs' time the tightest quota allows; infinity: no quota."""
        return min((group.quota() for group in self._cpu), default=inf)

    def memory(self) -> float:
        """Bytes at which the tightest limit holds memory back or has somebody killed;
        infinity: no limit."""
        return min((group.memory() for group in self._memory), default=inf)

    def deadly_memory(self) -> float:
        """Bytes at which the tightest limit has somebody killed; infinity: no limit."""
        return min((group.deadly_memory() for group in self._memory), default=inf)

    def open_kill_counter(self) -> int | None:
        """A file, for :func:`kills`, that counts those of our own group whom the kernel's
        OOM killer has ended; None where there is none.

        Kept open, since it has to be read when there may be no descriptor to spare.
        """
        for group in self._memory[:1]:
            name = "memory.events" if group.v2 else "memory.oom_control"
            try:
                fd = os.open(group.folder / name, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                return None
            if kills(fd) is not None:
                return fd
            os.close(fd)
        return None


def kills(counter: int) -> int | None:
    """What an open counter says now."""
    try:
        found = re.search(rb"^oom_kill (\d+)$", os.pread(counter, 4096, 0), re.M)
    except OSError:
        return None
    return int(found[1]) if found else None


@dataclass(frozen=True, slots=True)
class _Group:
    """One folder of a hierarchy of version 2 or 1."""

    folder: Path
    v2: bool

    def quota(self) -> float:
        if self.v2:
            quota, _, period = self._read("cpu.max").partition(" ")
        else:
            quota, period = self._read("cpu.cfs_quota_us"), self._read("cpu.cfs_period_us")
        # No quota is "max" in version 2, and -1 in version 1.
        if not (quota.isdigit() and period.isdigit() and int(quota) and int(period)):
            return inf
        return int(quota) / int(period)

    def memory(self) -> float:
        if not self.v2:
            return self.deadly_memory()
        return min(self.deadly_memory(), self._bytes("memory.high"))

    def deadly_memory(self) -> float:
        return self._bytes("memory.max" if self.v2 else "memory.limit_in_bytes")

    def _bytes(self, name: str) -> float:
        said = self._read(name)
        return int(said) if said.isdigit() and int(said) < UNLIMITED else inf

    def _read(self, name: str) -> str:
        try:
            return (self.folder / name).read_text().strip()
        except (OSError, ValueError):
            return ""  # the root of a hierarchy has no limits, nor the file


# -- where the groups are -----------------------------------------------------------------


def _lineage(controller: str, root: Path) -> list[_Group]:
    """Our own group for ``controller`` and its ancestors, upwards, as far as is mounted."""
    try:
        memberships = (root / "proc/self/cgroup").read_text().splitlines()
        mounts = (root / "proc/self/mountinfo").read_text().splitlines()
    except (OSError, ValueError):
        return []
    # On a machine with both versions a controller is in one of them; version 2 is there
    # in any case, perhaps without it.
    for v2 in (False, True):
        path = _membership(memberships, "" if v2 else controller)
        for top, point in _mounts(mounts, None if v2 else controller):
            inner = _inside(path, top)
            if inner is not None:
                folder = root / point.lstrip("/")
                depths = range(len(inner), -1, -1)
                return [_Group(folder.joinpath(*inner[:depth]), v2) for depth in depths]
    return []


def _membership(lines: list[str], controller: str) -> str:
    """Our path in the hierarchy of ``controller`` (``id:controllers:path``), or empty."""
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller in controllers.split(","):
            return path
    return ""


def _mounts(lines: list[str], controller: str | None) -> Iterator[tuple[str, str]]:
    """Each mounted part of the hierarchy (proc_pid_mountinfo(5)): which group is at its top,
    and where it is. None: of version 2."""
    for line in lines:
        before, _, after = line.partition(" - ")
        fields, (kind, *rest) = before.split(" "), after.split(" ") or [""]
        options = rest[-1].split(",") if rest else []
        wanted = kind == "cgroup2" if controller is None else kind == "cgroup"
        if wanted and len(fields) > 4 and (controller is None or controller in options):
            yield _unescaped(fields[3]), _unescaped(fields[4])


def _unescaped(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), path)


def _inside(path: str, top: str) -> list[str] | None:
    """The way from the group ``top`` down to ``path``; None if it is not below it.

    Both are as seen from the root of our cgroup namespace, and may begin with "/..". From
    a top that is above that root the way down to us cannot be known: we are taken for the
    top itself, whose limits are ours too.
    """
    if not path.startswith("/"):
        return None
    ours, tops = [[name for name in p.split("/") if name] for p in (path, top)]
    if ours[: len(tops)] == tops:
        inner = ours[len(tops) :]
        return None if ".." in inner else inner
    return [] if set(tops) == {".."} and ".." not in ours else None

"""What this machine, or the container on it, can carry: how many workers, by CPU and memory.

Whatever is found here leads to a sentence, and never to a refusal: it is the user who knows
what the app does.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from math import ceil, floor, inf

from forkserve import memory
from forkserve.config.values import AUTO, MOST_WORKERS
from forkserve.master.cgroups import Cgroups
from forkserve.memory import mebibytes


@dataclass(frozen=True, slots=True)
class Cpus:
    """The CPUs of the machine, and what of them this process may use."""

    machine: int
    allowed: int
    """On so many it may run at all (sched_getaffinity(2), which covers the cpuset)."""

    quota: float = inf
    """So many CPUs' time the cgroup allows."""

    @classmethod
    def look(cls, cgroups: Cgroups) -> Cpus:
        machine = os.cpu_count() or 1
        # Some systems (macOS) have no affinity.
        ours = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else machine
        return cls(machine, ours, cgroups.cpus())

    @property
    def usable(self) -> int:
        """How many, at least 1. Part of a CPU counts as one: what is left of the quota would
        not be used otherwise."""
        return max(1, ceil(min(self.allowed, self.quota)))

    def workers(self, wanted: int) -> int:
        """``wanted`` or, if that is AUTO, a worker for each.

        One is enough: an event loop does not wait, so that it keeps its CPU busy alone, as
        does a model. (Twice the cores and one more is for workers that wait.)
        """
        return min(self.usable, MOST_WORKERS) if wanted == AUTO else wanted

    def __str__(self) -> str:
        of = f" of {self.machine}" if self.machine > 1 else ""
        if self.quota < self.allowed:
            return f"the cgroup allows {_cpus(self.quota)}{of}"
        if self.allowed < self.machine:
            return f"this process may run on {_cpus(self.allowed)}{of}"
        return f"this machine has {_cpus(self.machine)}"

    def why_so_many(self) -> str:
        """What ``auto`` has made of it."""
        return f"{_workers(self.workers(AUTO))} (-w auto), since {self}"

    def too_many(self, workers: int) -> str:
        """Why so many workers are more than is of use, or an empty string."""
        if workers <= 2 * self.usable + 1:
            return ""
        return (
            f"{_workers(workers)} are more than is of use: {self}, and those beyond "
            f"{2 * self.usable + 1} (two a CPU, and one) mostly take memory and wait for each "
            f"other; -w auto would make {self.workers(AUTO)}"
        )


@dataclass(frozen=True, slots=True)
class Room:
    """How much memory there is for all processes together, in bytes."""

    size: float
    whose: str

    @classmethod
    def look(cls, cgroups: Cgroups) -> Room:
        """The least of what the cgroups and the machine have; infinity where neither tells."""
        size, machine = cgroups.memory(), _of_the_machine()
        if size <= machine:
            return cls(size, "the cgroup's limit is")
        return cls(machine, "the machine has")

    def lacks(self, workers: int, pid: int, templates: int) -> str:
        """Why so many workers like the process ``pid`` will not fit into it, or an empty
        string: also where the system does not tell.

        What it shares with its template counts once, and so does what it has read from
        files. The least that can be: as requests are answered less is shared.
        """
        # The kernel walks every page for the exact answer (20 ms a GiB); mostly this will do.
        if workers * memory.resident(pid) <= self.size:
            return ""
        resident, own = memory.of_kinds(pid, "Rss", "Private_Dirty")
        shared = resident - own
        # A page that a worker has made its own is still there in the template.
        needed = shared + (workers + templates) * own
        if not own or needed <= self.size:
            return ""
        fit = max(0, floor((self.size - shared) / own) - templates)
        with_it = " and a template" if templates else ""
        return (
            f"{_workers(workers)} will not fit into memory: the first has {mebibytes(own)} of its "
            f"own and {mebibytes(shared)} that can be shared, which makes {mebibytes(needed)} for "
            f"{workers}{with_it}, and {self.whose} {mebibytes(int(self.size))}; "
            f"{fit or 'not even 1'} would fit"
        )


def _of_the_machine() -> float:
    with contextlib.suppress(OSError), open("/proc/meminfo") as meminfo:
        if found := re.search(r"^MemTotal:\s+(\d+) kB", meminfo.read(), re.M):
            return int(found[1]) * 1024
    return inf


def _cpus(number: float) -> str:
    return f"{number:.3g} CPU" if number == 1 else f"{number:.3g} CPUs"


def _workers(number: int) -> str:
    return f"{number} worker" if number == 1 else f"{number} workers"

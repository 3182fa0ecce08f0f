"""How many workers a machine, or a container, can carry."""

from __future__ import annotations

import mmap
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf

import pytest

from forkserve.config.values import AUTO
from forkserve.master.capacity import Cpus, Room
from forkserve.memory import mebibytes, of_kinds

MEBI = 1 << 20


@pytest.mark.parametrize(
    ("cpus", "workers", "why"),
    [
        (Cpus(8, 8), 8, "8 workers (-w auto), since this machine has 8 CPUs"),
        (Cpus(1, 1), 1, "1 worker (-w auto), since this machine has 1 CPU"),
        (Cpus(8, 2), 2, "2 workers (-w auto), since this process may run on 2 CPUs of 8"),
        (Cpus(8, 8, 1.5), 2, "2 workers (-w auto), since the cgroup allows 1.5 CPUs of 8"),
        (Cpus(8, 8, 0.25), 1, "1 worker (-w auto), since the cgroup allows 0.25 CPUs of 8"),
        (Cpus(8, 4, 6.0), 4, "4 workers (-w auto), since this process may run on 4 CPUs of 8"),
        (Cpus(8, 4, 3.0), 3, "3 workers (-w auto), since the cgroup allows 3 CPUs of 8"),
        (Cpus(896, 896), 512, "512 workers (-w auto), since this machine has 896 CPUs"),
    ],
)
def test_auto(cpus: Cpus, workers: int, why: str) -> None:
    assert cpus.workers(AUTO) == workers
    assert cpus.why_so_many() == why


def test_a_number_is_taken_as_it_is() -> None:
    assert Cpus(2, 2).workers(100) == 100


def test_too_many_are_more_than_twice_the_cpus_and_one() -> None:
    cpus = Cpus(8, 8, 1.5)
    assert cpus.too_many(5) == ""
    assert cpus.too_many(6) == (
        "6 workers are more than is of use: the cgroup allows 1.5 CPUs of 8, and those beyond 5 "
        "(two a CPU, and one) mostly take memory and wait for each other; -w auto would make 2"
    )


# -- memory: real processes with real pages -------------------------------------------------


@contextmanager
def process(live: Callable[[], object]) -> Iterator[int]:
    """A fork of this process that has called ``live``, and waits."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        held = live()
        os.write(writer, b"." if held is not None else b"")
        while True:
            signal.pause()
    os.close(writer)
    try:
        assert os.read(reader, 1) == b"."
        yield pid
    finally:
        os.close(reader)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_what_is_shared_counts_once() -> None:
    """200 MiB are shared with this process, as with a template; 50 MiB are its own."""
    shared = mmap.mmap(-1, 200 * MEBI, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    shared.write(b"x" * (200 * MEBI))

    def grow() -> object:
        shared.read(0)
        shared[: 200 * MEBI : mmap.PAGESIZE]  # in this process's page table too
        return bytearray(b"x") * (50 * MEBI)

    with process(grow) as pid:
        resident, own = of_kinds(pid, "Rss", "Private_Dirty")
        assert 50 * MEBI <= own < 150 * MEBI
        assert resident - own > 200 * MEBI
        assert Room(inf, "").lacks(512, pid, 1) == ""
        # The worker's, and what the template has in its place, and half of another one.
        size = resident + own * 3 / 2
        assert Room(size, "").lacks(1, pid, 1) == ""
        assert Room(size, "").lacks(2, pid, 0) == ""
        lacks = Room(size, "the cgroup's limit is").lacks(2, pid, 1)
    shared.close()
    assert lacks.startswith("2 workers will not fit into memory: the first has ")
    assert lacks.endswith(f"and the cgroup's limit is {mebibytes(int(size))}; 1 would fit"), lacks


def test_not_even_one_may_fit_and_nobody_can_be_weighed_who_is_gone() -> None:
    with process(lambda: bytearray(b"x") * (50 * MEBI)) as pid:
        lacks = Room(40 * MEBI, "the machine has").lacks(2, pid, 0)
        assert lacks.endswith(" for 2, and the machine has 40 MiB; not even 1 would fit"), lacks
    assert Room(40 * MEBI, "the machine has").lacks(2, pid, 0) == ""

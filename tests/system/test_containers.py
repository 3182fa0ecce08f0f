"""In a container: what its limits are, and who was killed for them."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.system.cgroup import Group, group_for
from tests.system.server import APP, Server
from tests.system.test_respawn import settled

Start = Callable[..., Server]

MEBI = 1 << 20

HUNGRY = (
    APP.replace(
        "    body =",
        """    if scope["path"] == "/eat":
        held.append(b"x" * (400 << 20))
    body =""",
    )
    + "\nheld = []\n"
)


@pytest.fixture
def small_memory() -> Iterator[Group]:
    """300 MiB: enough for a few processes without an app to speak of."""
    with group_for("memory") as group:
        group.limit_memory(300 * MEBI)
        yield group


@pytest.fixture
def one_cpu() -> Iterator[Group]:
    with group_for("cpu") as group:
        group.limit_cpus(1)
        yield group


# -- how many workers ---------------------------------------------------------------------


def test_auto_is_a_worker_for_each_cpu_that_may_be_used(start: Start) -> None:
    """By affinity, which any user may lower."""
    if (os.cpu_count() or 1) < 2:
        pytest.skip("there is but one CPU")
    cpu = min(os.sched_getaffinity(0))
    server = start("-w", "auto", under=["taskset", "-c", str(cpu)]).wait_until_ready()
    server.wait_for_log(r"1 worker \(-w auto\), since this process may run on 1 CPU of \d+")
    assert len(server.worker_pids()) == 1
    assert server.stop() == 0


def test_auto_goes_by_the_quota(start: Start, one_cpu: Group) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("there is but one CPU")
    server = start("-w", "auto", under=one_cpu.under).wait_until_ready()
    server.wait_for_log(r"1 worker \(-w auto\), since the cgroup allows 1 CPU of \d+")
    assert len(server.worker_pids()) == 1
    assert server.stop() == 0


def test_many_more_workers_than_cpus_are_remarked_upon(start: Start) -> None:
    cpu = min(os.sched_getaffinity(0))
    server = start("-w", "4", under=["taskset", "-c", str(cpu)]).wait_until_ready()
    server.wait_for_log(r"WARNING +4 workers are more than is of use: .*; -w auto would make 1")
    assert server.stop() == 0


# -- memory -------------------------------------------------------------------------------


def test_workers_that_will_not_fit_are_told_of(
    start: Start, folder: Path, small_memory: Group
) -> None:
    """Each worker takes 90 MiB in its lifespan: with 300 MiB, only two can."""
    source = "held = []\n" + APP.replace(
        '            await send({"type": message["type"] + ".complete"})',
        '            held.append(b"x" * (90 << 20))\n'
        '            await send({"type": message["type"] + ".complete"})',
    )
    (folder / "app.py").write_text(source)
    server = start("-w", "1", "--spares", "3", under=small_memory.under)
    server.wait_for_log(
        r"WARNING +4 workers will not fit into memory: the first has (9|1)\d+ MiB of its own and "
        r"\d+ MiB that can be shared, which makes (4|5)\d\d MiB for 4 and a template, and the "
        r"cgroup's limit is 300 MiB; [12] would fit"
    )
    assert server.stop() == 0


def test_those_that_fit_are_not(start: Start, small_memory: Group) -> None:
    server = start("-w", "2", under=small_memory.under).wait_until_ready()
    assert server.stop() == 0
    assert "fit into memory" not in server.log


def test_the_oom_killer_is_recognised_and_the_next_worker_waits(
    start: Start, folder: Path, small_memory: Group
) -> None:
    (folder / "app.py").write_text(HUNGRY)
    server = start("-w", "2", under=small_memory.under).wait_until_ready()
    server.get_in_vain("/eat")
    death = server.wait_for_log(
        r"was ended by SIGKILL \(out of memory: the cgroup's limit is 300 MiB, and it had up to "
        r"(\d+) MiB\) after .*, serving GET /eat for .*; 1 of 2 ready"
    )
    assert 200 <= int(death[1]) <= 300
    server.wait_for_log(r"memory is short, so the next worker is made in 0\.\d s and not at once")
    assert server.get().startswith("VERSION")  # by the other one, meanwhile
    server.wait_for("two again", settled(server, 2))
    # Somebody else's SIGKILL is told from it, also after one.
    victim = min(server.worker_pids())
    os.kill(victim, signal.SIGKILL)
    server.wait_for_log(
        rf"\(pid {victim}, generation 1\) was ended by SIGKILL \(from outside, not by the "
        r"kernel's OOM killer\) after"
    )
    server.wait_for("two again", settled(server, 2))
    assert len(re.findall("memory is short", server.log)) == 1
    assert server.stop() == 0

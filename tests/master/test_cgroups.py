"""Control groups are read from files as a real version 1, 2 or mixed system has them."""

from __future__ import annotations

import os
from math import inf
from pathlib import Path

import pytest

from forkserve.master.cgroups import Cgroups, kills

MEBI = 1 << 20
NO_LIMIT_V1 = "9223372036854771712"

ROOT_MOUNT = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw"


def lay_out(root: Path, membership: str, mounts: str, files: dict[str, str]) -> Cgroups:
    """A root directory with what /proc/self and /sys/fs/cgroup hold."""
    proc = root / "proc/self"
    proc.mkdir(parents=True)
    (proc / "cgroup").write_text(membership)
    (proc / "mountinfo").write_text(f"{ROOT_MOUNT}\n{mounts}\n")
    for name, text in files.items():
        file = root / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
    return Cgroups(root)


def v2_mount(top: str = "/") -> str:
    return f"30 22 0:26 {top} /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"


def v1_mount(controllers: str, top: str = "/", where: str = "") -> str:
    point = f"/sys/fs/cgroup/{where or controllers}"
    return f"31 22 0:27 {top} {point} rw,nosuid shared:11 - cgroup cgroup rw,{controllers}"


def test_a_container_of_version_2_that_sees_its_own_group_only(tmp_path: Path) -> None:
    files = {
        "cpu.max": "150000 100000",
        "memory.max": str(512 * MEBI),
        "memory.high": "max",
        "memory.events": "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0",
    }
    cgroups = lay_out(tmp_path, "0::/\n", v2_mount(), files)
    assert cgroups.cpus() == 1.5
    assert cgroups.memory() == cgroups.deadly_memory() == 512 * MEBI
    counter = cgroups.open_kill_counter()
    assert counter is not None
    assert kills(counter) == 2
    os.close(counter)


def test_any_ancestor_may_limit(tmp_path: Path) -> None:
    """systemd: a slice has the quota, the service a limit that holds back, its parent one
    that kills."""
    files = {
        "app.slice/cpu.max": "50000 100000",
        "app.slice/memory.max": str(700 * MEBI),
        "app.slice/memory.high": "max",
        "app.slice/x.service/cpu.max": "max 100000",
        "app.slice/x.service/memory.max": "max",
        "app.slice/x.service/memory.high": str(600 * MEBI),
        "app.slice/x.service/memory.events": "oom_kill 0",
    }
    cgroups = lay_out(tmp_path, "0::/app.slice/x.service\n", v2_mount(), files)
    assert cgroups.cpus() == 0.5
    assert cgroups.memory() == 600 * MEBI
    assert cgroups.deadly_memory() == 700 * MEBI


def test_nothing_is_limited(tmp_path: Path) -> None:
    files = {"x/cpu.max": "max 100000", "x/memory.max": "max", "x/memory.high": "max"}
    cgroups = lay_out(tmp_path, "0::/x\n", v2_mount(), files)
    assert (cgroups.cpus(), cgroups.memory(), cgroups.deadly_memory()) == (inf, inf, inf)
    assert cgroups.open_kill_counter() is None


@pytest.mark.parametrize("top", ["/docker/0123", "/"], ids=["bind-mounted", "whole"])
def test_version_1(tmp_path: Path, top: str) -> None:
    """Docker shows a container its own group at the mount point; a host shows all."""
    inner = "" if top != "/" else "docker/0123/"
    files = {
        f"cpu,cpuacct/{inner}cpu.cfs_quota_us": "250000",
        f"cpu,cpuacct/{inner}cpu.cfs_period_us": "100000",
        f"memory/{inner}memory.limit_in_bytes": str(256 * MEBI),
        f"memory/{inner}memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 7",
    }
    if top == "/":
        files |= {"memory/memory.limit_in_bytes": NO_LIMIT_V1}
    membership = "5:memory:/docker/0123\n4:cpu,cpuacct:/docker/0123\n1:name=systemd:/docker/0123\n"
    mounts = f"{v1_mount('cpu,cpuacct', top)}\n{v1_mount('memory', top)}"
    cgroups = lay_out(tmp_path, membership, mounts, files)
    assert cgroups.cpus() == 2.5
    assert cgroups.memory() == cgroups.deadly_memory() == 256 * MEBI
    counter = cgroups.open_kill_counter()
    assert counter is not None
    assert kills(counter) == 7
    os.close(counter)


def test_version_1_without_limits(tmp_path: Path) -> None:
    files = {
        "cpu/cpu.cfs_quota_us": "-1",
        "cpu/cpu.cfs_period_us": "100000",
        "memory/memory.limit_in_bytes": NO_LIMIT_V1,
    }
    mounts = f"{v1_mount('cpu')}\n{v1_mount('memory')}"
    cgroups = lay_out(tmp_path, "2:memory:/\n1:cpu:/\n0::/\n", mounts, files)
    assert (cgroups.cpus(), cgroups.memory()) == (inf, inf)


def test_a_mixed_machine_has_each_controller_in_one_version(tmp_path: Path) -> None:
    """The memory is in version 1, the CPU time in version 2."""
    files = {
        "memory/job/memory.limit_in_bytes": str(64 * MEBI),
        "unified/job/cpu.max": "300000 100000",
        "unified/job/memory.max": "1",  # not the one that counts
    }
    unified = "32 22 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw"
    membership = "4:memory:/job\n1:name=systemd:/job\n0::/job\n"
    cgroups = lay_out(tmp_path, membership, f"{v1_mount('memory')}\n{unified}", files)
    assert cgroups.cpus() == 3.0
    assert cgroups.memory() == 64 * MEBI


@pytest.mark.parametrize(
    ("path", "top", "limits"),
    [
        ("/", "/../..", "top"),  # mounted outside of our namespace: two levels above its root
        ("/../../pod/app", "/../..", "pod/app"),
        ("/../neighbour", "/", None),  # moved out of the namespace: nothing of ours to see
        ("/job", "/other", None),  # somebody else's group is mounted
        ("/jobs", "/job", None),
    ],
)
def test_a_cgroup_namespace_may_hide_where_we_are(
    tmp_path: Path, path: str, top: str, limits: str | None
) -> None:
    files = {"memory.max": "1000", "pod/app/memory.max": "100"}
    cgroups = lay_out(tmp_path, f"0::{path}\n", v2_mount(top), files)
    assert cgroups.memory() == {"top": 1000, "pod/app": 100, None: inf}[limits]


def test_a_mount_point_with_a_blank(tmp_path: Path) -> None:
    files = {"a b/memory.max": "1000"}
    mount = r"30 22 0:26 / /sys/fs/cgroup/a\040b rw - cgroup2 cgroup2 rw"
    assert lay_out(tmp_path, "0::/\n", mount, files).memory() == 1000


def test_no_proc_and_no_sense(tmp_path: Path) -> None:
    assert Cgroups(tmp_path).memory() == inf
    cgroups = lay_out(tmp_path, "nonsense\n\n::\n", "1 2 -\n\n - \n", {})
    assert (cgroups.cpus(), cgroups.memory()) == (inf, inf)
    assert cgroups.open_kill_counter() is None


def test_this_machine() -> None:
    """Whatever it has, it is read without an error."""
    cgroups = Cgroups()
    assert cgroups.cpus() > 0
    assert cgroups.memory() > 0
    if (counter := cgroups.open_kill_counter()) is not None:
        assert kills(counter) is not None
        os.close(counter)

"""A control group of a test's own, below the one that the tests run in."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

from forkserve.master.cgroups import _lineage
from tests.system.server import PATIENCE


class Group:
    """Processes join it by being started ``under`` it."""

    def __init__(self, folder: Path, v2: bool) -> None:
        self.folder = folder
        self.v2 = v2

    @property
    def under(self) -> list[str]:
        join = f'echo $$ >"{self.folder}/cgroup.procs" && exec "$@"'
        return ["sh", "-c", join, "sh"]

    def limit_memory(self, size: int) -> None:
        self._write("memory.max" if self.v2 else "memory.limit_in_bytes", str(size))

    def limit_cpus(self, cpus: float) -> None:
        quota, period = int(cpus * 100_000), 100_000
        if self.v2:
            self._write("cpu.max", f"{quota} {period}")
        else:
            self._write("cpu.cfs_period_us", str(period))
            self._write("cpu.cfs_quota_us", str(quota))

    def _write(self, name: str, value: str) -> None:
        if not (self.folder / name).exists():
            pytest.skip("the cgroup's controller is not for us")
        (self.folder / name).write_text(value)

    def remove(self) -> None:
        """Once everybody in it is gone. Whoever is left is killed: only we put them there."""
        deadline = monotonic() + PATIENCE
        while pids := (self.folder / "cgroup.procs").read_text().split():
            assert monotonic() < deadline
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            time.sleep(0.01)
        self.folder.rmdir()


@contextlib.contextmanager
def group_for(controller: str) -> Iterator[Group]:
    """Skips the test where no group can be made: not root, or the hierarchy is read-only."""
    lineage = _lineage(controller, Path("/"))
    if not lineage:
        pytest.skip(f"no cgroup of {controller} to be seen")
    folder = lineage[0].folder / f"forkserve-test-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError as exc:
        pytest.skip(f"no cgroup can be made: {exc.strerror}")
    group = Group(folder, lineage[0].v2)
    try:
        yield group
    finally:
        group.remove()

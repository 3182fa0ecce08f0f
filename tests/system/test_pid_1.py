"""As PID 1 of a container, where the kernel drops every signal that has no handler (kill(2)),
and every orphan becomes a child of the master (pid_namespaces(7))."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.server import APP, Server, is_gone, is_zombie, serving

UNSHARE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")

WITH_ORPHANS = APP.replace(
    "    body =",
    """    if scope["path"] == "/orphans":
        # The shell goes first, so each sleeper is given to PID 1, and ends there a moment later:
        # half of them in a session of their own, like daemons.
        sleepers = "for i in 1 2 3; do sleep 0.1 & setsid sleep 0.1 & done"
        subprocess.run(["sh", "-c", sleepers])
    body =""",
).replace("import os", "import os, subprocess")


@pytest.fixture(autouse=True)
def _may_make_a_pid_namespace() -> None:
    try:
        allowed = subprocess.run([*UNSHARE, "true"], capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("needs unshare(1)")
    if allowed.returncode:
        pytest.skip("needs to make a pid namespace")


class Contained:
    """A server that is PID 1 of a namespace, seen from outside."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.master = self._the_child_of(server.pid)

    def _the_child_of(self, pid: int) -> int:
        self.server.wait_for("a master", lambda: len(children(pid)) == 1)
        return children(pid).pop()

    def signal(self, number: int) -> None:
        os.kill(self.master, number)

    def zombies(self) -> set[int]:
        return {pid for pid in children(self.master) if is_zombie(pid)}


def children(pid: int) -> set[int]:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        listing = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        return {int(child) for child in listing.split()}
    return set()


@contextlib.contextmanager
def contained(folder: Path, *options: str) -> Iterator[Contained]:
    with serving(folder, *options, under=UNSHARE) as server:
        server.wait_for_log("master pid 1 listens")
        yield Contained(server)


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_each_way_to_stop_works_and_leaves_nobody(folder: Path, stop: signal.Signals) -> None:
    with contained(folder, "-w", "2") as container:
        container.server.wait_until_ready()
        everybody = children(container.master)
        assert len(everybody) >= 2
        container.signal(stop)
        assert container.server.wait_for_exit() == 0
        assert all(map(is_gone, everybody))
        assert "stopping" in container.server.log


def test_a_reload_works_and_orphans_are_reaped(folder: Path) -> None:
    (folder / "app.py").write_text(WITH_ORPHANS)
    with contained(folder, "-w", "2") as container:
        server = container.server.wait_until_ready()
        family = children(container.master)
        for _ in range(4):
            server.get("/orphans")
        server.wait_for("all reaped", lambda: children(container.master) == family)
        container.signal(signal.SIGHUP)
        server.wait_for_log("reload done: all 2 workers are of generation 2")
        server.wait_for("nobody piles up", lambda: not container.zombies())
        server.get("/orphans")
        container.signal(signal.SIGTERM)
        assert server.wait_for_exit() == 0
        assert "a fault in forkserve" not in server.log


def test_the_exit_code_of_a_broken_app_arrives(folder: Path) -> None:
    (folder / "app.py").write_text("import nothing_like_this")
    with serving(folder, under=UNSHARE) as server:
        assert server.wait_for_exit() == 3

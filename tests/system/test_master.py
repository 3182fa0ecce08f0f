"""The master survives what the world does to it."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import pytest

from tests.system.server import APP, PATIENCE, Server, is_gone
from tests.system.test_respawn import settled

Start = Callable[..., Server]


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs prlimit(2)")
def test_no_file_descriptor_left_for_a_fork_is_retried(start: Start) -> None:
    server = start("-w", "2").wait_until_ready()
    limits = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (6, limits[1]))
    os.kill(min(server.worker_pids()), signal.SIGKILL)
    server.wait_for_log(r"the system refused a new process \(Too many open files\)", times=2)
    assert server.get().startswith("VERSION")
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, limits)
    server.wait_for("two again", settled(server, 2))


def test_scribbles_on_the_channel_harm_nobody(start: Start, folder: Path) -> None:
    scribble = """
import socket
for fd in range(3, 40):
    try:
        sock = socket.socket(fileno=os.dup(fd))
        if sock.family == socket.AF_UNIX:
            for junk in (b"\\xff\\n{}\\n", b'["Ready"', b'\\n[[[\\n["No"]\\n', b"x" * 100000):
                sock.send(junk)
        sock.close()
    except OSError:
        pass
"""
    (folder / "app.py").write_text(APP + scribble)
    server = start("-w", "2").wait_until_ready()
    assert server.get().startswith("VERSION")
    assert server.stop() == 0


def test_a_log_reader_that_sleeps_does_not_stop_the_master(folder: Path) -> None:
    """The pipe is full and nobody reads; workers are replaced all the same."""
    reader, writer = os.pipe()
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    master = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "forkserve",
            "-b",
            "127.0.0.1:0",
            "-w",
            "2",
            "--no-preload",
            "--switchboard",
            "off",
            "app:app",
        ],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=writer,
    )
    children = Path(f"/proc/{master.pid}/task/{master.pid}/children")
    try:
        _until(lambda: len(children.read_text().split()) == 2)
        os.set_blocking(writer, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writer, b"x" * 4096)
        os.set_blocking(writer, True)
        before = set(children.read_text().split())
        for pid in before:
            os.kill(int(pid), signal.SIGKILL)
        _until(lambda: len(set(children.read_text().split()) - before) == 2)
        master.terminate()
        assert master.wait(PATIENCE) == 0
    finally:
        master.kill()
        master.wait()
        os.close(reader)
        os.close(writer)


def _until(condition: Callable[[], bool]) -> None:
    deadline = monotonic() + PATIENCE
    while not condition():
        assert monotonic() < deadline
        time.sleep(0.01)


def test_a_master_without_standard_error_serves(folder: Path) -> None:
    command = f"exec {sys.executable} -m forkserve -b 127.0.0.1:0 app:app 2>&- >&- <&-"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    source = APP.replace("import os\n", "import os\nopen('served', 'w').close()\n", 1)
    (folder / "app.py").write_text(source)
    master = subprocess.Popen(["sh", "-c", command], cwd=folder, env=environment)
    try:
        _until(lambda: (folder / "served").exists())
        master.terminate()
        assert master.wait(PATIENCE) == 0
    finally:
        master.kill()
        master.wait()


def test_a_terminal_that_closes_stops_its_foreground_master(folder: Path) -> None:
    """But a SIGHUP while the terminal is there reloads."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    log = folder / "log"
    # A shell between the terminal and the master, as in life; it passes the HUP on.
    script = f"set -m; {sys.executable} -m forkserve -b 127.0.0.1:0 -w 1 app:app 2>>log"
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup(1)
        os.execvpe("bash", ["bash", "-c", script], environment)
    try:
        _until(lambda: log.exists() and "workers are ready" in log.read_text())
        found = re.search(r"master pid (\d+)", log.read_text())
        assert found
        master = int(found[1])
        os.kill(master, signal.SIGHUP)
        _until(lambda: "reload done" in log.read_text())
        os.close(terminal)
        _until(lambda: is_gone(master))
        assert "the terminal was closed" in log.read_text()
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_stranger_among_the_children_is_reaped(folder: Path) -> None:
    """As PID 1 of a container the master gets every orphan."""
    if (
        os.getuid() != 0
        or subprocess.run(
            ["unshare", "--pid", "--fork", "true"], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("needs to make a pid namespace")
    source = """
import subprocess
subprocess.run(["sh", "-c", "(sh -c 'exit 0' & sleep 0.2; exec true) &"])
"""
    (folder / "app.py").write_text(APP + source)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    namespace = subprocess.Popen(
        [
            *("unshare", "--pid", "--fork", "--kill-child"),
            *(sys.executable, "-m", "forkserve", "-b", "127.0.0.1:0"),
            *("--no-preload", "--switchboard", "off", "app:app"),
        ],
        cwd=folder,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert namespace.stderr
        lines = iter(namespace.stderr.readline, "")
        assert any("workers are ready" in line for line in lines)
        listing = subprocess.run(
            ["cat", f"/proc/{namespace.pid}/task/{namespace.pid}/children"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        master = int(listing.split()[0])
        children = Path(f"/proc/{master}/task/{master}/children")
        _until(lambda: len(children.read_text().split()) == 1)
        os.kill(master, signal.SIGTERM)
        assert namespace.wait(PATIENCE) == 0
    finally:
        namespace.kill()
        namespace.wait()
        assert namespace.stderr
        namespace.stderr.close()


def test_an_idle_server_does_not_poll(start: Start) -> None:
    """The master has no reason to wake; its context switches do not grow."""
    server = start("-w", "1").wait_until_ready()
    status = Path(f"/proc/{server.pid}/status")

    def switches() -> int:
        return int(re.findall(r"voluntary_ctxt_switches:\s+(\d+)", status.read_text())[0])

    before = switches()
    select.select([], [], [], 2.0)  # the time over which idleness is looked at
    assert switches() - before <= 2

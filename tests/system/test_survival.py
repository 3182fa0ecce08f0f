"""What befalls a process on a machine that is ill: the clock jumps, a stream is closed,
there are no descriptors left."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from time import monotonic

import pytest

from tests.system.server import APP, PATIENCE, Server
from tests.system.test_respawn import settled

Start = Callable[..., Server]

DAY = 24 * 3600


# -- the clock ----------------------------------------------------------------------------


def libfaketime() -> str:
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    return str(found[0]) if found else ""


@pytest.mark.skipif(not libfaketime(), reason="needs libfaketime")
def test_a_clock_that_jumps_harms_nobody(start: Start, folder: Path) -> None:
    """Three years back, and then six forward: nobody is found hung, or too old."""
    clock = folder / "clock"
    clock.write_text("+0")
    # Only the wall clock: the monotonic one does not jump. (The library breaks the sleep of the
    # audit, hence --preload.)
    under = [
        "env",
        f"LD_PRELOAD={libfaketime()}",
        f"FAKETIME_TIMESTAMP_FILE={clock}",
        "FAKETIME_NO_CACHE=1",
        "FAKETIME_DONT_FAKE_MONOTONIC=1",
    ]
    options = ("-w", "2", "--preload", "--timeout", "3", "--max-lifetime", "4")
    source = APP.replace("VERSION {os.getpid()}", "{time.time():.0f}")
    (folder / "app.py").write_text(source.replace("import os", "import os, time"))
    server = start(*options, under=under).wait_until_ready()
    before = server.worker_pids()
    for days in (-1000, 1000):
        _set(clock, f"{days:+}d")
        jumped = int(server.get()) - time.time()
        assert abs(jumped - days * DAY) < DAY
    assert server.worker_pids() == before
    # By the clock that does not jump four seconds pass, and with them a look at the heartbeats.
    then = server.wait_for_log(r"^(\S+) .* will be recycled, its replacement first: it has served")
    assert date.fromisoformat(then[1]) - date.today() > timedelta(days=900)
    assert server.reload() == "done"
    assert server.stop() == 0
    assert not re.search("hangs|SIGKILL|did not run", server.log), server.log


def _set(clock: Path, jump: str) -> None:
    new = clock.with_suffix(".new")
    new.write_text(jump)
    new.replace(clock)


# -- descriptors --------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs prlimit(2)")
def test_without_a_descriptor_to_spare_deaths_are_explained_all_the_same(start: Start) -> None:
    server = start("-w", "3").wait_until_ready()
    knows = "memory." in "".join(os.readlink(f) for f in Path(f"/proc/{server.pid}/fd").iterdir())
    limits = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
    victims = sorted(server.worker_pids())[:2]
    for victim in victims:
        os.kill(victim, signal.SIGKILL)
    by_whom = r"\(from outside, not by the kernel's OOM killer\) " if knows else ""
    for victim in victims:
        server.wait_for_log(rf"\(pid {victim}, generation 1\) was ended by SIGKILL {by_whom}after")
    server.wait_for_log("the system refused a new process", times=2)
    assert server.get().startswith("VERSION")
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, limits)
    server.wait_for("three again", settled(server, 3))
    assert server.stop() == 0


# -- a closed stream ----------------------------------------------------------------------


@pytest.fixture
def silent(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A master whose standard error is closed."""
    command = f"exec {sys.executable} -m forkserve -b 127.0.0.1:0 -w 2 app:app 2>&-"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        ["sh", "-c", command], cwd=folder, env=environment, stdout=subprocess.DEVNULL
    ) as master:
        yield master
        master.kill()


def test_with_a_closed_standard_error_it_serves_reloads_and_stops(
    silent: subprocess.Popen[bytes], folder: Path
) -> None:
    _until(lambda: _ask(silent.pid).startswith("VERSION"))
    # Nothing that matters is where logs go.
    assert os.readlink(f"/proc/{silent.pid}/fd/2") == "/dev/null"
    (folder / "app.py").write_text(APP.replace("VERSION", "SECOND"))
    silent.send_signal(signal.SIGHUP)
    _until(lambda: _ask(silent.pid).startswith("SECOND"))
    victim = _ask(silent.pid).split()[1]
    os.kill(int(victim), signal.SIGKILL)
    for _ in range(10):
        assert _ask(silent.pid).split()[1] != victim
    silent.terminate()
    assert silent.wait(PATIENCE) == 0


def _ask(master: int) -> str:
    """An answer of a server that says nothing, not even its port; empty until it listens."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        ours = {os.readlink(file) for file in Path(f"/proc/{master}/fd").iterdir()}
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()  # proc_pid_net(5)
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in ours:
                port = int(fields[1].partition(":")[2], 16)
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=PATIENCE) as got:
                    return str(got.read().decode())
    return ""


def _until(condition: Callable[[], bool]) -> None:
    deadline = monotonic() + PATIENCE
    while not condition():
        assert monotonic() < deadline
        time.sleep(0.01)

"""Hooks: each in its place and in its turn, and none of them can hurt."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from tests.system.server import APP, Server, is_gone, name_of

Start = Callable[..., Server]
Hooked = Callable[..., Server]

EACH_SPEAKS = """
import os

def note(name, *words):
    with open("said", "a") as file:
        print(name, os.getpid(), *words, file=file)

note("executed")

def on_starting(server):
    note("on_starting", server.pid, *server.address)
def when_ready(server):
    note("when_ready", server.cfg.workers)
def on_reload(server):
    note("on_reload")
def pre_fork(server, worker):
    worker.seen = f"v{VERSION}"
    note("pre_fork", worker.age, worker.pid)
def post_fork(server, worker):
    note("post_fork", worker.age, worker.pid, worker.seen)
def worker_ready(worker):
    note("worker_ready", worker.age, worker.pid, f"gen{worker.generation}", worker.seen)
def worker_exit(server, worker):
    note("worker_exit", worker.age, worker.pid)
def child_exit(server, worker):
    note("child_exit", worker.age, worker.pid, worker.exit_code)
def on_exit(server):
    note("on_exit", server.pid)
"""
"""Each hook leaves a line: its name, its process, and what it sees. VERSION stands before it."""

OF_THE_WORKER = ("post_fork", "worker_ready", "worker_exit")
NAMES = re.findall(r"^def (\w+)\((?:server|worker)", EACH_SPEAKS, re.M)

IMPORTED = 'import os\nopen("imported", "a").write(f"{os.getpid()}\\n")\n' + APP


@pytest.fixture
def hooked(start: Start, folder: Path) -> Hooked:
    """Starts a server whose hooks are in the given file, with all that it defines."""

    def start_one(source: str, **settings: Any) -> Server:
        (folder / "gunicorn.conf.py").write_text(source)
        return start("-c", "gunicorn.conf.py", *(_flag(*setting) for setting in settings.items()))

    return start_one


def _flag(name: str, value: object) -> str:
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{flag}" if value else f"--no-{flag}"
    return f"--{flag}={value}"


def said(folder: Path, name: str = "") -> list[list[str]]:
    """The words of each line, of one hook or of all."""
    lines = (folder / "said").read_text().splitlines() if (folder / "said").exists() else []
    words = [line.split() for line in lines]
    return [w for w in words if name in ("", w[0])]


def runners(server: Server) -> set[int]:
    return {pid for pid in server.worker_pids() if name_of(pid) == "forkserve-hook"}


# -- where and when -----------------------------------------------------------------------


@pytest.mark.parametrize("preload", [True, False])
def test_each_hook_runs_in_its_place_and_in_its_turn(
    hooked: Hooked, folder: Path, preload: bool
) -> None:
    (folder / "app.py").write_text(IMPORTED)
    server = hooked(f"VERSION = 1\n{EACH_SPEAKS}", workers=2, preload=preload).wait_until_ready()
    server.wait_for("when_ready", lambda: bool(said(folder, "when_ready")))
    [victim] = [w[1] for w in said(folder, "post_fork") if w[2] == "1"]
    os.kill(int(victim), signal.SIGKILL)
    server.wait_for("its end is told", lambda: bool(said(folder, "child_exit")))
    assert [w[2:] for w in said(folder, "child_exit")] == [["1", victim, "-9"]]
    server.wait_for("three were ready", lambda: len(said(folder, "worker_ready")) == 3)
    server.write(f"VERSION = 2\n{EACH_SPEAKS}", "gunicorn.conf.py")
    assert server.reload() == "done"
    server.wait_for("three ends are told", lambda: len(said(folder, "child_exit")) == 3)
    assert server.stop() == 0

    lines = said(folder)
    names = [w[0] for w in lines if w[0] != "executed"]
    assert (names[0], names[-1]) == ("on_starting", "on_exit")
    count = {name: names.count(name) for name in NAMES}
    once = ["on_starting", "when_ready", "on_reload", "on_exit"]
    assert count == {
        **dict.fromkeys(NAMES, 5),
        **dict.fromkeys(once, 1),
        "worker_exit": 4,  # not that of the one that was killed
    }
    [on_starting], [on_exit] = said(folder, "on_starting"), said(folder, "on_exit")
    assert on_starting[2:] == [str(server.pid), "127.0.0.1:0"]
    assert on_exit[2:] == [str(server.pid)]

    # Each worker: what comes before what, in which process, and with which file.
    for worker_id in "12345":
        own = [w for w in lines if w[2:3] == [worker_id] and w[0] in NAMES and w[0] not in once]
        order = ["pre_fork", "post_fork", "worker_ready", "worker_exit", "child_exit"]
        if worker_id == "1":
            order.remove("worker_exit")
        assert [w[0] for w in own] == order
        pre_fork, post_fork, ready = own[:3]
        assert pre_fork[3] == "None"
        assert all(w[1] == post_fork[3] for w in own if w[0] in OF_THE_WORKER)
        assert all(w[3] == post_fork[3] for w in own[1:])
        assert (pre_fork[1] == post_fork[1]) is not preload
        generation = 1 if worker_id in "123" else 2
        assert ready[4:] == [f"gen{generation}", f"v{generation}"]
        assert own[-1][1] != post_fork[1]

    # A file is executed at most once in a process; nothing of the user's is in the master.
    executed = [w[1] for w in said(folder, "executed")]
    assert len(executed) == len(set(executed))
    assert str(server.pid) not in {w[1] for w in lines}
    assert str(server.pid) not in (folder / "imported").read_text().split()


def test_the_deaths_of_many_are_each_told_once(hooked: Hooked, folder: Path) -> None:
    server = hooked(f"VERSION = 1\n{EACH_SPEAKS}", workers=4).wait_until_ready()
    victims = {int(w[3]) for w in said(folder, "post_fork")}
    assert len(victims) == 4
    for victim in victims:
        os.kill(victim, signal.SIGKILL)
    server.wait_for("four ends are told", lambda: len(said(folder, "child_exit")) == 4)
    assert {int(w[3]) for w in said(folder, "child_exit")} == victims
    assert server.stop() == 0
    ended = [w[3] for w in said(folder, "child_exit")]
    assert len(ended) == len(set(ended))
    # Whoever is told to leave at once may not come to its own hook.
    assert set(ended) >= {w[3] for w in said(folder, "post_fork")}


# -- raising ------------------------------------------------------------------------------


def raising(*names: str) -> str:
    return "\n".join(
        f"def {name}({'worker' if name == 'worker_ready' else 'server, *rest'}):\n"
        f"    raise RuntimeError('{name} is broken')"
        for name in names
    )


@pytest.mark.parametrize("preload", [True, False])
def test_a_hook_of_a_start_that_raises_is_a_failed_reload(hooked: Hooked, preload: bool) -> None:
    harmless = raising("pre_fork", "post_fork", "worker_ready").replace("raise", "0 and")
    server = hooked(harmless, workers=1, preload=preload).wait_until_ready()
    for name in ("pre_fork", "post_fork", "worker_ready"):
        server.write(f"{harmless}\n{raising(name)}", "gunicorn.conf.py")
        since = server.mark()
        assert server.reload() == "failed"
        place = rf"The hook {name} of gunicorn.conf.py failed: RuntimeError: {name} is broken \("
        server.wait_for_log(place + r".*gunicorn\.conf\.py:\d+\)", since=since)
    assert server.get().startswith("VERSION")
    server.write(harmless, "gunicorn.conf.py")
    assert server.reload() == "done"
    assert server.stop() == 0


@pytest.mark.parametrize("name", ["pre_fork", "post_fork", "worker_ready"])
def test_a_hook_of_a_first_start_that_raises_ends_the_master(hooked: Hooked, name: str) -> None:
    server = hooked(raising(name), workers=2)
    assert server.wait_for_exit() == 3
    assert re.search(rf"CRITICAL cannot start app:app\. The hook {name} of .* failed", server.log)
    assert server.log.count("Traceback") == 1


def test_without_on_starting_there_is_no_start(hooked: Hooked, folder: Path) -> None:
    (folder / "app.py").write_text(IMPORTED)
    server = hooked(raising("on_starting") + "\ndef on_exit(server): open('bye', 'w')", workers=2)
    assert server.wait_for_exit() == 3
    assert re.search(
        r"CRITICAL cannot start app:app\. The hook on_starting of gunicorn\.conf\.py failed: "
        r"RuntimeError: on_starting is broken \(.*gunicorn\.conf\.py:2\)",
        server.log,
    )
    assert not (folder / "imported").exists()
    assert not (folder / "bye").exists()


def test_a_hook_elsewhere_that_raises_is_logged_and_harms_nobody(hooked: Hooked) -> None:
    names = ["when_ready", "on_reload", "child_exit", "worker_exit", "on_exit"]
    server = hooked(raising(*names), workers=2).wait_until_ready()
    assert server.reload() == "done"
    assert server.get().startswith("VERSION")
    assert server.stop() == 0
    for name in names:
        assert re.search(
            rf"ERROR +The hook {name} of .* failed: RuntimeError: {name} is", server.log
        )


# -- hanging ------------------------------------------------------------------------------

HANGS = "def {}(*of_it):\n    open({!r}, 'w').close()\n    import time\n    time.sleep(600)\n"


def hanging(name: str) -> str:
    return HANGS.format(name, f"{name}-hangs").replace(
        "*of_it", "worker" if name == "worker_ready" else "server, *rest"
    )


def wait_until_it_hangs(server: Server, name: str) -> None:
    server.wait_for(f"{name} hangs", (server.folder / f"{name}-hangs").exists)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_stop_does_not_wait_for_on_starting(hooked: Hooked, folder: Path, number: int) -> None:
    (folder / "app.py").write_text(IMPORTED)
    server = hooked(hanging("on_starting"), workers=2)
    wait_until_it_hangs(server, "on_starting")
    [runner] = runners(server)
    server.signal(signal.SIGHUP)  # nothing to reload yet
    server.signal(signal.SIGTTIN)
    server.wait_for_log("3 workers wanted now")
    server.signal(number)
    assert server.wait_for_exit() == 0
    assert is_gone(runner)
    assert not (folder / "imported").exists()
    assert "The hook on_starting was killed: the master stops" in server.log
    assert "generation" not in server.log  # none is tried; at most it is said that none will be


@pytest.mark.parametrize("name", ["on_starting", "post_fork", "worker_ready"])
def test_a_hook_of_a_start_has_the_boot_timeout(hooked: Hooked, name: str) -> None:
    server = hooked(hanging(name), workers=1, boot_timeout=1.0)
    assert server.wait_for_exit() == 3
    assert re.search(rf'gunicorn\.conf\.py", line 4 in {name}', server.log), server.log


def test_on_exit_has_what_is_left_of_the_graceful_timeout(hooked: Hooked) -> None:
    server = hooked(hanging("on_exit"), workers=1, graceful_timeout=1.0).wait_until_ready()
    assert server.stop() == 0
    assert re.search(r"The hook on_exit was killed: it has not ended within [01]\.\d s", server.log)


def test_who_is_impatient_does_not_wait_for_on_exit(hooked: Hooked) -> None:
    server = hooked(hanging("on_exit"), workers=1).wait_until_ready()
    server.signal(signal.SIGINT)
    wait_until_it_hangs(server, "on_exit")
    server.signal(signal.SIGINT)
    assert server.wait_for_exit() == 0
    assert "The hook on_exit was killed: the master stops" in server.log


def test_a_hook_that_nobody_waits_for_delays_nothing_and_dies_with_the_master(
    hooked: Hooked,
) -> None:
    server = hooked(hanging("when_ready"), workers=1).wait_until_ready()
    wait_until_it_hangs(server, "when_ready")
    [runner] = runners(server)
    assert server.reload() == "done"
    server.process.kill()
    everybody = {runner, *server.seen_pids}
    server.wait_for("they are gone, too", lambda: all(map(is_gone, everybody)))


def test_worker_exit_is_cut_off_with_its_worker(hooked: Hooked) -> None:
    server = hooked(hanging("worker_exit"), workers=1, graceful_timeout=1.0).wait_until_ready()
    began = monotonic()
    assert server.stop() == 0
    server.wait_for_log(r"worker 1 .* has not drained within 1\.8 s; it is killed")
    assert monotonic() - began < 30


def test_worker_exit_does_not_outlive_the_master_for_long(hooked: Hooked) -> None:
    """The worker is not in its loop any more when the master is killed."""
    server = hooked(hanging("worker_exit"), workers=1, graceful_timeout=2.0).wait_until_ready()
    [worker] = server.worker_pids()
    os.kill(worker, signal.SIGTERM)
    wait_until_it_hangs(server, "worker_exit")
    server.process.kill()
    everybody = {worker, *server.seen_pids}
    server.wait_for("they are gone, too", lambda: all(map(is_gone, everybody)))


SLOW_EXIT = """
def worker_exit(server, worker):
    open("worker_exit-hangs", "w").close()
    open("go").read()
    open("worker_exit-done", "w").close()
"""


def test_a_second_term_does_not_disturb_worker_exit(hooked: Hooked, folder: Path) -> None:
    os.mkfifo(folder / "go")
    server = hooked(SLOW_EXIT, workers=1).wait_until_ready()
    [worker] = server.worker_pids()
    os.kill(worker, signal.SIGTERM)
    wait_until_it_hangs(server, "worker_exit")
    os.kill(worker, signal.SIGTERM)
    (folder / "go").write_text("")
    server.wait_for_log(r"worker 1 .* has left|worker 1 .* exited with 0")
    assert (folder / "worker_exit-done").exists()
    server.signal(signal.SIGQUIT)
    assert server.wait_for_exit() == 0


# -- beforehand ---------------------------------------------------------------------------


def test_check_says_what_cannot_be_called(folder: Path) -> None:
    for source, code in (("def on_exit(server): pass", 0), ("\ndef on_exit(a, b): pass", 3)):
        (folder / "gunicorn.conf.py").write_text(source)
        done = subprocess.run(
            [sys.executable, "-m", "forkserve", "check", "-c", "gunicorn.conf.py", "app:app"],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == code, done
    assert "on_exit of gunicorn.conf.py is called with (server), but takes (a, b)" in done.stdout

"""Workers that die are replaced, whatever they die of, and their death is explained."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system.server import APP, Load, Server, is_gone

Start = Callable[..., Server]

DEADLY = (
    APP.replace(
        "    body =",
        """    path = scope["path"]
    if path == "/exit": os._exit(7)
    if path == "/segv": faulthandler._sigsegv()
    if path == "/block":
        block()
    if path == "/native":
        native()
    body =""",
    )
    + """
import ctypes, faulthandler, time
def block():
    while True: time.sleep(600)
def native():
    while True: ctypes.PyDLL(None).sleep(600)  # PyDLL keeps the GIL
"""
)


@pytest.fixture
def deadly(start: Start, folder: Path) -> Start:
    (folder / "app.py").write_text(DEADLY)
    return start


def settled(server: Server, workers: int) -> Callable[[], bool]:
    """Whether as many workers live as are wanted, and each has said that it is ready."""

    def check() -> bool:
        ready = {int(p) for p in re.findall(r"\(pid (\d+), generation \d+\) is ready", server.log)}
        pids = server.worker_pids()
        return len(pids) == workers and pids <= ready

    return check


def test_killed_workers_are_replaced_one_by_one_and_all_at_once(start: Start) -> None:
    server = start("-w", "4").wait_until_ready()
    fds = server.fds()
    for victim in server.worker_pids():
        os.kill(victim, signal.SIGKILL)
        server.wait_for_log(rf"\(pid {victim}, generation 1\) was ended by SIGKILL .*after")
    server.wait_for("four again", settled(server, 4))
    old = server.worker_pids()
    for victim in old:
        os.kill(victim, signal.SIGKILL)
    server.wait_for("four new ones", lambda: not server.worker_pids() & old)
    server.wait_for("four again", settled(server, 4))
    server.wait_for("flat", lambda: server.fds() == fds and not server.zombies())
    assert server.get().startswith("VERSION")
    assert server.stop() == 0


@pytest.mark.parametrize(
    ("path", "ending"), [("/exit", "exited with 7"), ("/segv", "was ended by SIGSEGV")]
)
def test_a_death_is_explained_with_the_request(deadly: Start, path: str, ending: str) -> None:
    server = deadly("-w", "2").wait_until_ready()
    server.get_in_vain(path)
    server.wait_for_log(rf"{ending} after .* and 0 requests, serving GET {path} for .*1 of 2 ready")
    server.wait_for("two again", settled(server, 2))
    if path == "/segv":
        assert re.search(r'app\.py", line \d+ in app', server.log), server.log


def test_killed_while_starting_is_an_ordinary_death(start: Start, folder: Path) -> None:
    source = (
        "import os, time\n"
        "open(f'importing-{os.getpid()}', 'w').close()\n"
        "while not os.path.exists('go'): time.sleep(0.01)\n"
    )
    (folder / "app.py").write_text(source + APP)
    server = start("-w", "2", "--no-preload")

    def importing() -> set[int]:
        return {int(f.name.split("-")[1]) for f in folder.glob("importing-*")}

    server.wait_for("both importing", lambda: len(importing()) == 2)
    first = importing()
    for pid in first:
        os.kill(pid, signal.SIGKILL)
    server.wait_for("both replaced", lambda: len(importing() - first) == 2)
    server.write("", "go")
    server.wait_until_ready()
    assert not server.worker_pids() & first


def test_a_crash_loop_backs_off_and_ends(start: Start, folder: Path) -> None:
    """Once a worker was ready, an app that no longer boots slows down and is not given up."""
    server = start("-w", "2", "--no-preload").wait_until_ready()
    server.write("raise RuntimeError('no table')")
    victim = min(server.worker_pids())
    os.kill(victim, signal.SIGKILL)
    server.wait_for_log(r"workers keep dying young \(4 times in a row\)")
    server.wait_for_log(r"workers keep dying young \(5 times in a row\)")
    assert server.get().startswith("VERSION")  # the other one goes on
    server.write(APP)
    server.wait_for("two again", settled(server, 2))


@pytest.mark.parametrize("path", ["/block", "/native"])
def test_a_hung_worker_shows_its_stack_and_is_replaced(deadly: Start, path: str) -> None:
    """Also when the hang is in native code that holds the GIL."""
    server = deadly("-w", "2", "--timeout", "2").wait_until_ready()
    server.get_in_vain(path)
    server.wait_for_log(rf"hangs: its event loop has not turned for 2 s, serving GET {path}")
    server.wait_for_log(r"was ended by SIGKILL \(hung\)")
    server.wait_for_log(rf"in {path[1:]}$")
    server.wait_for("two again", settled(server, 2))


def test_a_stopped_worker_is_hung_but_a_stopped_master_excuses_all(start: Start) -> None:
    server = start("-w", "2", "--timeout", "2").wait_until_ready()
    before = server.worker_pids()
    everyone = [server.pid, *before]
    for pid in everyone:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(5)  # the fault itself: longer than the timeout, and nothing runs
    for pid in everyone:
        os.kill(pid, signal.SIGCONT)
    assert server.get().startswith("VERSION")
    assert server.worker_pids() == before
    assert "hangs" not in server.log
    victim = min(before)
    os.kill(victim, signal.SIGSTOP)
    server.wait_for_log(rf"\(pid {victim}, generation 1\) hangs")
    server.wait_for("replaced", lambda: victim not in server.worker_pids())
    server.wait_for("two again", settled(server, 2))


def test_term_to_one_worker_drains_it_and_another_takes_its_place(start: Start) -> None:
    server = start("-w", "2").wait_until_ready()
    victim = min(server.worker_pids())
    with Load(server) as load:
        os.kill(victim, signal.SIGTERM)
        server.wait_for_log(rf"\(pid {victim}, generation 1\) has left|exited with 0 \(left")
        server.wait_for("two again", settled(server, 2))
    assert not load.failed
    assert is_gone(victim)

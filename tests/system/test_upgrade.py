"""SIGUSR2: another master, with nobody noticing; one that fails, with nobody noticing either."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.service_manager import managing, value
from tests.system.server import APP, Load, Server, is_gone
from tests.system.test_reload import version
from tests.system.test_respawn import settled

Start = Callable[..., Server]

# Of a new master's two workers one is ready, and the other waits as long as there is this file.
HELD = """
import os, time
while os.path.exists("held") and os.environ["FORKSERVE_SLOT"] == "1":
    time.sleep(0.01)
"""


def _is_alone(server: Server) -> bool:
    """Whether the old master has left."""
    return f"the old master (pid {server.process.pid}) has left" in server.log


@pytest.mark.parametrize(("switchboard", "times"), [("on", 5), ("auto", 1), ("off", 1)])
def test_upgrades_under_load_lose_nothing(start: Start, switchboard: str, times: int) -> None:
    server = start("-w", "2", "--switchboard", switchboard).wait_until_ready()
    pids, fds = [server.pid], server.fds()
    with Load(server) as new, Load(server, keep_alive=True) as kept:
        for number in range(1, times + 1):
            server.write(version(f"v{number}"))
            before, since = server.pid, server.mark()
            assert server.upgrade() == "done"
            server.wait_for_log(rf"the old master \(pid {before}\) has left", since=since)
            server.wait_for("two workers", settled(server, 2))
            pids.append(server.pid)
            assert server.get().startswith(f"v{number} ")
    assert new.failed == kept.failed == []
    if switchboard != "off":
        assert kept.reconnects == 0
    assert len(set(pids)) == times + 1
    server.wait_for("the old ones gone", lambda: all(map(is_gone, pids[:-1])))
    server.wait_for("flat", lambda: server.fds() == fds)
    assert server.stop() == 0


def test_what_the_links_lead_to_now_is_what_runs(start: Start, tmp_path: Path) -> None:
    """The venv, its Python and its script, and the working directory."""
    for name in ("one", "two"):
        _make_release(tmp_path / name, name)
    current = tmp_path / "current"
    current.symlink_to("one")
    server = start(folder=current, command=[str(current / "venv/bin/forkserve")])
    server.wait_until_ready()
    assert server.get().startswith("app one, venv one")
    current.unlink()
    current.symlink_to("two")
    assert server.upgrade() == "done"
    server.wait_for("the old one gone", lambda: _is_alone(server))
    assert server.get().startswith("app two, venv two")
    assert server.stop() == 0


def _make_release(folder: Path, name: str) -> None:
    venv = folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    (packages,) = venv.glob("lib/python3*/site-packages")
    # What is installed in the venv of the tests can be imported from there, too.
    (packages / "more.pth").write_text(
        f"{sysconfig.get_path('purelib')}\nimport os; os.environ['VENV'] = '{name}'\n"
    )
    script = venv / "bin/forkserve"
    script.write_text(f"#!{venv}/bin/python\nfrom forkserve.cli import main\nmain()\n")
    script.chmod(0o755)
    body = f'"app {name}, venv " + os.environ["VENV"] + " "'
    source = APP.replace('f"VERSION {os.getpid()}"', f"({body})")
    (folder / "app.py").write_text(source)


NONSENSE = "import sys; sys.argv.insert(1, '--nonsense'); main()"
SCRIPT = f"#!{sys.executable}\nfrom forkserve.cli import main\nmain()\n"


@pytest.mark.parametrize(
    ("what", "becomes", "because"),
    [
        ("app.py", "raise RuntimeError('bad deploy')", r"RuntimeError: bad deploy \(.*app.py:1\)"),
        ("launch", "#!/nothing/like/this\n", "cannot be started: .*launch: No such file"),
        ("launch", f"#!{sys.executable}\nimport os; os.abort()\n", "was ended by SIGABRT"),
        ("launch", SCRIPT.replace("main()", NONSENSE), "there is no option --nonsense"),
        (
            "launch",
            SCRIPT.replace("main()", "import time; time.sleep(600)"),
            "not ready within 10 s",
        ),
    ],
    ids=["app", "not executable", "crash", "settings", "never ready"],
)
def test_one_that_cannot_take_over_changes_nothing(
    start: Start, folder: Path, what: str, becomes: str, because: str
) -> None:
    script = folder / "launch"
    script.write_text(SCRIPT)
    script.chmod(0o755)
    server = start("-w", "2", "--boot-timeout", "5", command=[str(script)]).wait_until_ready()
    workers, fds = server.worker_pids(), server.fds()
    with Load(server) as load:
        before = (folder / what).read_text()
        (folder / what).write_text(becomes)
        assert server.upgrade() == "failed"
        server.wait_for_log(because)
        server.wait_for("only the workers", lambda: server.worker_pids() == workers)
        assert server.pid == server.process.pid
        server.wait_for("as before", lambda: server.fds() == fds and not server.zombies())
        (folder / what).write_text(before)
        assert server.upgrade() == "done"
    assert load.failed == []
    assert server.stop() == 0


def _begin_an_upgrade(server: Server) -> int:
    """Up to where one of the new workers accepts and the other is held. The new master's pid."""
    server.write("", "held")
    since = server.mark()
    server.signal(signal.SIGUSR2)
    pid = int(server.wait_for_log(r"new master \(pid (\d+)\) starts", since=since)[1])
    server.wait_for_log(rf"\[{pid}\].* 1 ready, 2 wanted", since=since)
    return pid


def _let_go(server: Server) -> None:
    (server.folder / "held").unlink()


@pytest.fixture
def held(start: Start, folder: Path) -> Server:
    (folder / "app.py").write_text(HELD + APP)
    return start("-w", "2", "--no-preload").wait_until_ready()


def test_term_ends_both_masters(held: Server) -> None:
    new = _begin_an_upgrade(held)
    with Load(held) as load:
        held.wait_for("served", lambda: len(load.answers) > 50)
        assert load.failed == []
        assert held.stop() == 0
    assert is_gone(new)


def test_a_new_master_that_is_killed_is_replaced_by_the_next(held: Server) -> None:
    with Load(held) as new, Load(held, keep_alive=True) as kept:
        os.kill(_begin_an_upgrade(held), signal.SIGKILL)
        held.wait_for_log("upgrade failed: .* was ended by SIGKILL")
        held.wait_for("its workers gone", lambda: all(map(is_gone, _others(held))))
        before = len(new.answers)
        held.wait_for("served", lambda: len(new.answers) > before + 100)
        _let_go(held)
        assert held.upgrade() == "done"
    assert new.failed == kept.failed == []
    assert held.stop() == 0


def _others(server: Server) -> set[int]:
    """Processes that are none of the serving master's."""
    return server.seen_pids - server.worker_pids() - server.switchboard_pids()


def test_an_old_master_that_is_killed_leaves_the_service_to_the_new_one(held: Server) -> None:
    old = held.worker_pids()
    new = _begin_an_upgrade(held)
    with Load(held) as load:
        held.process.kill()
        held.process.wait()
        held.wait_for_log(rf"has died; this one \(pid {new}\) goes on alone")
        held.wait_for("the old workers gone", lambda: all(map(is_gone, old)))
        before = len(load.answers)
        held.wait_for("served", lambda: len(load.answers) > before + 100)
        _let_go(held)
        held.wait_for("two workers", settled(held, 2))
    assert load.failed == []
    assert held.pid == new
    held.wait_for("its control socket", (held.folder / "forkserve" / f"{new}.sock").exists)
    assert held.stop() == 0


def test_what_is_asked_of_a_master_that_upgrades(held: Server) -> None:
    """A second upgrade is refused, a reload goes to the new master."""
    new = _begin_an_upgrade(held)
    held.signal(signal.SIGUSR2)
    held.wait_for_log(rf"upgrade ignored: a new master \(pid {new}\) is starting")
    held.signal(signal.SIGHUP)
    held.wait_for_log("reload waits")
    _let_go(held)
    held.wait_for_log(rf"\[{new}\].*reload done")
    held.wait_for("the old one gone", lambda: _is_alone(held))
    assert len(re.findall("a new master .* starts", held.log)) == 1
    assert held.stop() == 0


def test_a_master_that_leaves_still_answers_its_workers_requests(
    start: Start, folder: Path
) -> None:
    """And says, meanwhile, who serves; a signal to it does not reach the new one."""
    slow = """    import asyncio
    while scope["path"] == "/slow" and not os.path.exists("go"):
        await asyncio.sleep(0.01)
    body ="""
    (folder / "app.py").write_text(APP.replace("    body =", slow))
    server = start("-w", "1").wait_until_ready()
    with Load(server, clients=1, keep_alive=True, path="/slow") as load:
        server.wait_for("in flight", lambda: load.asked > 0)
        old = server.process
        assert server.upgrade() == "done"
        old.send_signal(signal.SIGHUP)
        server.wait_for_log(rf"\[{old.pid}\].*reload ignored: the new master \(pid {server.pid}\)")
        server.signal(signal.SIGUSR2)
        server.wait_for_log(r"upgrade waits: the old master \(pid \d+\) has not left yet")
        old.send_signal(signal.SIGTERM)
        server.write("", "go")
        server.wait_for_log("upgrade done", times=2)
    assert load.failed == []
    assert server.stop() == 0


def test_a_storm_of_signals_to_whoever_is_master(start: Start) -> None:
    server = start("-w", "2").wait_until_ready()
    dice, pace = random.Random(11), threading.Event()
    with Load(server) as load:
        for _ in range(200):
            number = dice.choice((signal.SIGUSR2, signal.SIGHUP, signal.SIGCONT))
            with contextlib.suppress(ProcessLookupError):
                server.signal(number)
            pace.wait(0.01)
        server.wait_for_log("upgrade done")
        server.wait_for("two workers", settled(server, 2))
    assert load.failed == []
    assert server.stop() == 0


def test_the_pidfile_the_service_manager_and_a_unix_socket_go_along(
    start: Start, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pidfile, path = folder / "pid", folder / "socket"
    with managing(folder) as manager:
        monkeypatch.setenv("NOTIFY_SOCKET", manager.name)
        server = start("--pid", str(pidfile), "-b", f"unix:{path}").wait_until_ready()
        manager.hear("READY=1")
        assert pidfile.read_text() == f"{server.pid}\n"
        made = path.stat().st_ino

        # One that fails leaves all as it was.
        server.write("raise RuntimeError('bad deploy')")
        assert server.upgrade() == "failed"
        server.wait_for_log(r"the new master \(pid \d+\) exited with 3")
        assert pidfile.read_text() == f"{server.process.pid}\n"
        assert path.stat().st_ino == made

        server.write(APP)
        since = manager.hear_out()
        assert server.upgrade() == "done"
        server.wait_for("the old one gone", lambda: _is_alone(server))
        assert server.pid != server.process.pid
        assert pidfile.read_text() == f"{server.pid}\n"
        assert path.stat().st_ino == made
        said = manager.hear("READY=1", since)
        assert "1 worker ready, 1 wanted" in said
        who = [line for line in manager.heard[since:] if "MAINPID=" in line]
        assert {value(line, "MAINPID") for line in who} == {server.pid}
        assert not any("STOPPING" in line for line in manager.heard[since:])
        assert server.stop() == 0
    assert not pidfile.exists()
    assert not path.exists()

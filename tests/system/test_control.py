"""The control socket of real servers: each command, who may use it, and who may not harm it."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import resource
import select
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from forkserve.control.client import Client, ControlError
from forkserve.control.protocol import Lines
from forkserve.master.connection import MOST_UNDER_WAY
from forkserve.master.control import MOST_CONNECTIONS
from tests.system.people import open_to_everybody
from tests.system.server import APP, PATIENCE, Server, is_zombie

Start = Callable[..., Server]

HANGS = (
    APP.replace("    body =", '    if scope["path"] == "/hang": blocks()\n    body =')
    + """
def blocks():
    import time
    while True:
        time.sleep(0.1)
"""
)


def path_of(server: Server) -> Path:
    """Of its socket: where a session's are, by the pid of the master."""
    return server.folder / "forkserve" / f"{server.pid}.sock"


def client(server: Server) -> Client:
    return Client.connect(str(path_of(server)), PATIENCE)


def forkserve(server: Server, *words: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """A command, run where the server's session is."""
    return subprocess.run(
        [sys.executable, "-m", "forkserve", *words],
        env=os.environ
        | {"PYTHONPATH": str(Path(__file__).parents[2]), "XDG_RUNTIME_DIR": str(server.folder)},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        **more,
    )


def command(server: Server, *words: str) -> tuple[int, str, str]:
    """... to this server, whoever else runs here: its exit code, output, and complaints."""
    ran = forkserve(server, *words, "--control", str(path_of(server)))
    return ran.returncode, ran.stdout, ran.stderr


def status(server: Server) -> dict[str, Any]:
    with client(server) as asking:
        return asking.status()


# -- the commands -------------------------------------------------------------------------


def test_status_says_how_it_goes(start: Start, folder: Path) -> None:
    (folder / "app.py").write_text(HANGS)
    server = start("-w", "2", "--name", "shop").wait_until_ready()
    assert server.get().startswith("VERSION")
    code, shown, _ = command(server, "status")
    assert code == 0
    assert f"shop (pid {server.pid}): serving app:app on http://127.0.0.1:{server.port}" in shown
    assert "2 of 2 workers ready; generation 1" in shown
    document = json.loads(command(server, "status", "--json")[1])
    assert document["pid"] == server.pid
    assert {worker["pid"] for worker in document["workers"]} == server.worker_pids()
    assert sum(worker["requests"] for worker in document["workers"]) == 1
    assert sum(document["durations"]["counts"]) == document["totals"]["requests"] == 1
    assert all(worker["rss"] > 1 << 20 for worker in document["workers"])
    assert document["queues"][0]["length"] == 0
    assert document["queues"][0]["limit"] > 0
    assert document["deaths"] == []
    assert document["events"][-1]["text"].startswith("serving app:app on")


def test_the_queue_is_the_kernels(start: Start, folder: Path) -> None:
    (folder / "app.py").write_text(HANGS)
    server = start("-w", "1", "--timeout", "0", "--graceful-timeout", "0").wait_until_ready()
    with contextlib.ExitStack() as open_ones:
        for _ in range(4):
            sock = socket.create_connection(("127.0.0.1", server.port))
            open_ones.callback(sock.close)
            sock.sendall(b"GET /hang HTTP/1.1\r\nHost: here\r\n\r\n")
        server.wait_for("three wait", lambda: status(server)["queues"][0]["length"] == 3)
        (worker,) = status(server)["workers"]
        assert worker["serving"]["path"] == "/hang"
        assert worker["in_flight"] == 1
    assert server.stop() == 0


def test_a_death_is_kept_with_its_reason(start: Start) -> None:
    server = start("-w", "2").wait_until_ready()
    victim = status(server)["workers"][0]
    os.kill(victim["pid"], signal.SIGKILL)
    server.wait_for_log(r"was ended by SIGKILL .* 1 of 2 ready")
    server.wait_for("replaced", lambda: status(server)["workers_ready"] == 2)
    document = status(server)
    (death,) = document["deaths"]
    assert death["who"] == f"worker {victim['id']}"
    assert death["text"] in server.log
    assert not death["planned"]
    assert document["restarts"] == {"crashed": 1}
    assert document["last_failure"]["text"] == death["text"]
    assert death["text"] in command(server, "status")[1]


def test_reload_waits_for_the_new_generation(start: Start) -> None:
    server = start("-w", "2").wait_until_ready()
    server.write(APP.replace("VERSION", "SECOND"))
    code, said, complaints = command(server, "reload")
    assert (code, complaints) == (0, "")
    assert server.get().startswith("SECOND")
    stages = [line.partition(":")[0] for line in said.splitlines()]
    assert list(dict.fromkeys(stages)) == ["tried", "starting", "accepted", "replacing", "done"]
    document = status(server)
    assert document["reloads"] == {"done": 1, "failed": 0}
    assert {w["generation"] for w in document["workers"] if w["phase"] == "ready"} == {2}


def test_reload_of_broken_code_says_why_and_fails(start: Start) -> None:
    server = start("-w", "2").wait_until_ready()
    server.write("import nowhere_to_be_found")
    code, _, complaints = command(server, "reload")
    assert code == 1
    assert "ModuleNotFoundError: No module named 'nowhere_to_be_found'" in complaints
    assert "generation 1 keeps serving" in complaints.splitlines()[-1]
    assert "forkserve/control" not in complaints
    assert server.get().startswith("VERSION")
    assert status(server)["reloads"] == {"done": 0, "failed": 1}


def test_reload_of_wrong_settings_fails(start: Start, folder: Path) -> None:
    (folder / "forkserve.toml").write_text("workers = 1")
    server = start().wait_until_ready()
    (folder / "forkserve.toml").write_text('workers = "many"')
    code, _, complaints = command(server, "reload")
    assert code == 1
    assert '"many" is not a number of workers' in complaints


def test_two_reloads_at_once_come_to_the_same_end(start: Start, folder: Path) -> None:
    server = start("-w", "2").wait_until_ready()
    with client(server) as one, client(server) as other:
        first, second = one.tell("reload"), other.tell("reload")
        assert next(first)["stage"] == next(second)["stage"] == "tried"
        *_, ended = first
        *_, ended_too = second
    assert ended["ok"]
    assert ended_too["ok"]
    assert {w["generation"] for w in status(server)["workers"] if w["phase"] == "ready"} == {
        ended_too["generation"]
    }


def test_scale(start: Start) -> None:
    server = start("-w", "1").wait_until_ready()
    assert command(server, "scale", "3")[0] == 0
    assert status(server)["workers_ready"] == 3
    assert command(server, "scale", "-1")[0] == 0
    assert status(server)["workers_wanted"] == 2
    assert command(server, "scale", "+1")[0] == 0
    assert status(server)["workers_wanted"] == 3
    for wrong, code, why in [
        ("513", 1, "between 1 and 512"),
        ("0", 1, "between 1"),
        ("x", 2, "such as 4, +1 or -1"),
    ]:
        refused, _, complaints = command(server, "scale", wrong)
        assert refused == code
        assert why in complaints
    assert status(server)["workers_wanted"] == 3


def test_recycle_makes_the_replacement_first(start: Start) -> None:
    server = start("-w", "2").wait_until_ready()
    before = {worker["id"]: worker["pid"] for worker in status(server)["workers"]}
    assert command(server, "recycle", "1")[0] == 0
    after = {worker["id"]: worker["pid"] for worker in status(server)["workers"]}
    assert after.keys() == {2, 3}
    assert after[2] == before[2]
    assert command(server, "recycle")[0] == 0
    assert server.worker_pids().isdisjoint({*before.values(), *after.values()})
    assert status(server)["restarts"] == {"recycled": 3}
    code, _, complaints = command(server, "recycle", "1")
    assert code == 1
    assert "there is no worker 1" in complaints
    assert "1 of 2 ready" not in server.log


def test_dump_shows_where_a_worker_is(start: Start, folder: Path) -> None:
    (folder / "app.py").write_text(HANGS)
    server = start("-w", "1", "--timeout", "0", "--graceful-timeout", "0").wait_until_ready()
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.sendall(b"GET /hang HTTP/1.1\r\nHost: here\r\n\r\n")
        server.wait_for("it hangs", lambda: status(server)["workers"][0]["in_flight"] == 1)
        for _ in range(2):
            code, stacks, _ = command(server, "dump", "1")
            assert code == 0
            assert len(re.findall(r'^> File ".*app\.py", line \d+ in blocks$', stacks, re.M)) == 1
        (worker,) = status(server)["workers"]
        # What was shown is none of its last words.
        os.kill(worker["pid"], signal.SIGKILL)
        server.wait_for("its end", lambda: bool(status(server)["deaths"]))
        assert status(server)["deaths"][0]["details"] == ""
    code, _, complaints = command(server, "dump", "1")
    assert (code, "There is no worker 1." in complaints) == (1, True)


def test_logs_are_opened_anew(start: Start, folder: Path) -> None:
    log = folder / "shop.log"
    server = start("-w", "1", "--log-file", str(log))
    server.wait_for("ready", lambda: log.exists() and "workers are ready" in log.read_text())
    log.rename(folder / "old.log")
    assert command(server, "logs-reopen")[0] == 0
    assert "opened anew" in log.read_text()
    log.rename(folder / "older.log")
    log.mkdir()
    code, _, complaints = command(server, "logs-reopen")
    assert (code, "could be opened anew" in complaints) == (1, True)
    server.stop()


def test_stop_returns_when_the_master_has_gone(start: Start) -> None:
    server = start("-w", "2").wait_until_ready()
    socket_file = path_of(server)
    code, said, _ = command(server, "stop")
    assert code == 0
    assert "done: stopped after" in said
    assert is_zombie(server.process.pid)
    assert server.wait_for_exit() == 0
    assert not socket_file.exists()


def test_follow_tells_what_is_noted_and_what_is_logged(start: Start) -> None:
    server = start("-w", "1").wait_until_ready()
    with raw(server) as sock:
        sock.sendall(b'{"id": 8, "do": "follow"}\n{"id": 9, "do": "status"}\n')
        given = answers(sock)
        assert next(given)["id"] == 9  # by now the other is heard too
        server.signal(signal.SIGTTIN)
        seen = []
        while not any(event["kind"] == "WorkerServes" for event in seen):
            answer = next(given)
            assert answer["id"] == 8
            seen.append(answer["event"])
    assert seen[-1]["worker_id"] == 2
    (scaled,) = [event for event in seen if event["kind"] == "Scaled"]
    assert (scaled["target"], scaled["before"]) == (2, 1)
    lines = [event["text"] for event in seen if event["kind"] == "Line"]
    assert lines[0] == "2 workers wanted now (before: 1)"


# -- around a command ---------------------------------------------------------------------


@contextlib.contextmanager
def asking(server: Server, *words: str, **more: Any) -> Iterator[subprocess.Popen[str]]:
    """A command that is under way. It is over at the end."""
    with subprocess.Popen(
        [sys.executable, "-m", "forkserve", *words],
        env=os.environ
        | {"PYTHONPATH": str(Path(__file__).parents[2]), "XDG_RUNTIME_DIR": str(server.folder)},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        **more,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Its exit code and complaints."""
    assert process.stderr
    complaints = process.stderr.read()
    return process.wait(PATIENCE), complaints


def test_what_was_asked_for_goes_on_after_ctrl_c(start: Start, folder: Path) -> None:
    held = "import os, time\nwhile os.path.exists('held'): time.sleep(0.01)\n" + APP
    server = start("-w", "1").wait_until_ready()
    server.write("", "held")
    server.write(held.replace("VERSION", "SECOND"))
    words = ("reload", "--control", str(path_of(server)))
    with asking(server, *words, stdout=subprocess.PIPE) as reload:
        assert reload.stdout
        assert reload.stdout.readline().startswith("tried: ")
        reload.send_signal(signal.SIGINT)
        said = "forkserve: not waited for; what was asked for goes on\n"
        assert ended(reload) == (130, said)
    (folder / "held").unlink()
    server.wait_for_log("reload done")
    # The old worker hears of it in its own time.
    server.wait_for("the new code", lambda: server.get().startswith("SECOND"))


@pytest.mark.parametrize("full", [False, True])
def test_who_cannot_be_told_of_it_still_has_it_done(start: Start, full: bool) -> None:
    server = start("-w", "1").wait_until_ready()
    reader, writer = os.pipe()
    os.close(reader)
    output = os.open("/dev/full", os.O_WRONLY) if full else writer
    try:
        which = ["--control", str(path_of(server))]
        for words in (["reload", *which], ["status", *which], ["list"]):
            with asking(server, *words, stdout=output) as command:
                code, complaints = ended(command)
            # Of what is but shown, nobody has got anything.
            assert code == (1 if full and "reload" not in words else 0)
            told = "forkserve: standard output cannot be written to: No space left on device.\n"
            if words == ["list"]:  # which tells of others, too
                assert (told in complaints, "Traceback" in complaints) == (full, False)
            else:
                assert complaints == (told if full else "")
        assert status(server)["generation"] == 2
    finally:
        os.close(writer)
        if full:
            os.close(output)


def test_a_master_that_is_stopped_is_not_waited_for(start: Start) -> None:
    server = start("-w", "1", "--timeout", "0").wait_until_ready()
    server.signal(signal.SIGSTOP)
    words = ("--pid", str(server.pid))
    try:
        with (
            asking(server, "status", *words) as looks,
            asking(server, "reload", *words) as reloads,
            asking(server, "list", "--json", stdout=subprocess.PIPE) as lists,
        ):
            why = f"the master (pid {server.pid}) does not answer: it is stopped, and SIGCONT lets"
            for command in (looks, reloads):
                code, complaints = ended(command)
                assert (code, why in complaints, complaints.count("\n")) == (1, True, 1)
            assert "may be done yet" in complaints
            assert lists.stdout
            listed = {one["pid"]: one for one in json.loads(lists.stdout.read())}
            assert listed[server.pid]["status"] is None
            assert why in listed[server.pid]["error"]
            code, complaints = ended(lists)
            assert (code, why in complaints) == (0, True)
    finally:
        server.signal(signal.SIGCONT)
    server.wait_for_log("reload done")  # which has been asked for


def test_a_master_that_was_killed_is_none(start: Start) -> None:
    server = start("-w", "1").wait_until_ready()
    left = path_of(server)
    server.process.kill()
    server.wait_for_exit()
    assert left.is_socket()
    assert str(left) not in forkserve(server, "list").stdout
    for words in (["--control", str(left)], ["--pid", str(server.pid)]):
        asked = forkserve(server, "status", *words)
        assert (asked.returncode, asked.stdout, asked.stderr.count("\n")) == (1, "", 1)


# -- which one ----------------------------------------------------------------------------


def test_which_one_is_meant(start: Start, folder: Path) -> None:
    pidfile = folder / "shop.pid"
    one = start("-w", "1", "--pid", str(pidfile)).wait_until_ready()
    other = start("-w", "1", "--control", str(folder / "other.sock")).wait_until_ready()
    listed = forkserve(one, "list").stdout
    for server, path in ((one, path_of(one)), (other, folder / "other.sock")):
        assert any(f"{server.pid} " in ln and str(path) in ln for ln in listed.splitlines())
    several = forkserve(one, "status")
    assert several.returncode == 2
    assert f"pid {one.pid} (app:app)" in several.stderr
    assert several.stderr.count("\n") == 1
    for words, server in (
        (["--pid", str(pidfile)], one),
        (["--pid", str(other.pid)], other),
        (["--control", str(folder / "other.sock")], other),
    ):
        found = forkserve(one, "status", "--json", *words)
        assert json.loads(found.stdout)["pid"] == server.pid
    for words in (["--pid", "1"], ["--pid", "/nowhere"], ["--control", "/nowhere"]):
        none = forkserve(one, "status", *words)
        assert none.returncode == 1
        assert none.stderr.count("\n") == 1
        assert none.stderr.startswith("forkserve: ")


def test_root_finds_that_of_another_user_by_its_pid(start: Start, folder: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to have a server of another user")
    nobody = pwd.getpwnam("nobody")
    place = folder / "run"
    place.mkdir()
    os.chown(place, nobody.pw_uid, nobody.pw_gid)
    ids = [f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
    under = [*open_to_everybody(folder), "setpriv", *ids, "--"]
    server = start("-w", "1", "--control", str(place / "c.sock"), under=under).wait_until_ready()
    assert os.stat(f"/proc/{server.pid}").st_uid == nobody.pw_uid
    found = forkserve(server, "status", "--json", "--pid", str(server.pid))
    assert json.loads(found.stdout)["pid"] == server.pid
    assert str(place) not in forkserve(server, "list").stdout
    assert server.stop() == 0


# -- the socket's file --------------------------------------------------------------------


def test_it_is_for_this_user_alone(start: Start) -> None:
    server = start("-w", "1").wait_until_ready()
    found = path_of(server).lstat()
    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert found.st_uid == os.geteuid()
    assert stat.S_IMODE(path_of(server).parent.stat().st_mode) == 0o700


ASK = """
import socket, sys
with socket.socket(socket.AF_UNIX) as sock:
    sock.settimeout(60)
    sock.connect(sys.argv[1])
    try:
        sock.sendall(b'{"id": 1, "do": "stop"}\\n')
    except BrokenPipeError:
        pass
    print(sock.makefile().readline())
"""


def test_another_user_is_turned_away_even_if_it_can_reach_it(start: Start) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to be another user")
    with tempfile.TemporaryDirectory() as open_folder:
        path = Path(open_folder) / "c.sock"
        server = start("-w", "1", "--control", str(path)).wait_until_ready()
        Path(open_folder).chmod(0o755)
        path.chmod(0o666)
        nobody = pwd.getpwnam("nobody")
        asked = subprocess.run(
            ["/usr/bin/env", "python3", "-c", ASK, str(path)],
            user=nobody.pw_uid,
            group=nobody.pw_gid,
            extra_groups=[],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert "You are neither this master's user nor root." in asked.stdout, asked.stderr
        server.wait_for_log(rf"control: pid \d+ of the user with uid {nobody.pw_uid} was turned")
        assert server.get().startswith("VERSION")
        assert server.stop() == 0


def test_the_place_of_another_is_left_to_it(start: Start, folder: Path) -> None:
    path = folder / "c.sock"
    with socket.socket(socket.AF_UNIX) as anothers:
        anothers.bind(str(path))
        anothers.listen()
        inode = path.lstat().st_ino
        server = start("-w", "1", "--control", str(path)).wait_until_ready()
        complaint = server.wait_for_log(r"no control socket, so .*")[0]
        assert f"{path} is already in use by pid {os.getpid()}" in complaint
        assert "--control" in complaint
        assert server.get().startswith("VERSION")
        assert server.stop() == 0
        assert path.lstat().st_ino == inode


def test_a_file_that_has_come_in_its_place_stays(start: Start) -> None:
    server = start("-w", "1").wait_until_ready()
    path_of(server).unlink()
    path_of(server).write_text("precious")
    kept = path_of(server)
    assert server.stop() == 0
    assert kept.read_text() == "precious"


def test_a_stale_one_is_replaced(start: Start, folder: Path) -> None:
    path = folder / "c.sock"
    with socket.socket(socket.AF_UNIX) as former:
        former.bind(str(path))
    server = start("-w", "1", "--control", str(path)).wait_until_ready()
    with Client.connect(str(path), PATIENCE) as asking:
        assert asking.status()["pid"] == server.pid


def test_a_place_that_cannot_be_made_is_said_and_it_serves(start: Start, folder: Path) -> None:
    server = start("-w", "1", "--control", str(folder / "nowhere" / "c.sock")).wait_until_ready()
    server.wait_for_log(r"WARNING +no control socket, so .*there is no directory")
    assert server.get().startswith("VERSION")
    (folder / "forkserve").mkdir(mode=0o755)
    server = start("-w", "1").wait_until_ready()
    why = "is open to others .its mode is 755, not 700.; choose another place with --control"
    server.wait_for_log(rf"WARNING +no control socket, so .* {folder}/forkserve {why}")
    assert server.get().startswith("VERSION")


def test_off_is_off(start: Start, folder: Path) -> None:
    server = start("-w", "1", "--control", "off").wait_until_ready()
    assert not (folder / "forkserve").exists()
    assert "control" not in server.log


@pytest.mark.parametrize("way", ["by pid", "a path"])
def test_after_an_upgrade_the_new_master_has_one(start: Start, folder: Path, way: str) -> None:
    """At once, and not only when the old one has gone, which has a request to answer."""
    slow = """    import asyncio
    while scope["path"] == "/slow" and not os.path.exists("go"):
        await asyncio.sleep(0.01)
    body ="""
    (folder / "app.py").write_text(APP.replace("    body =", slow))
    path = folder / "c.sock"
    server = start("-w", "1", *(["--control", str(path)] if way == "a path" else []))
    server.wait_until_ready()
    answered: list[str] = []
    asks = threading.Thread(target=lambda: answered.append(server.get("/slow")), daemon=True)
    before = path_of(server) if way == "by pid" else path
    with Client.connect(str(before)) as old:
        asks.start()
        server.wait_for("in flight", lambda: old.status()["workers"][0]["in_flight"] == 1)
        assert server.upgrade() == "done"
        after = path_of(server) if way == "by pid" else path
        server.wait_for("the new socket", lambda: _answers(after, server.pid))
        assert after == before or not before.exists()
        assert old.status()["pid"] == server.process.pid  # who is in may stay
        (folder / "go").touch()
        asks.join()
        with contextlib.suppress(ControlError):  # its end
            assert {event["kind"] for event in old.follow()}
    assert answered[0].startswith("VERSION")
    assert server.process.pid != server.pid
    assert server.stop() == 0
    assert not after.exists()


def _answers(path: Path, pid: int) -> bool:
    with contextlib.suppress(ControlError):
        return status_at(path)["pid"] == pid
    return False


def test_while_an_upgrade_is_tried_and_when_it_has_failed_the_old_one_is_asked(
    start: Start, folder: Path
) -> None:
    path = folder / "c.sock"
    server = start("-w", "1", "--control", str(path)).wait_until_ready()
    inode = path.lstat().st_ino
    server.write("raise RuntimeError('bad deploy')")
    with Client.connect(str(path), PATIENCE) as follower:
        assert server.upgrade() == "failed"
        assert follower.status()["pid"] == server.process.pid
    assert path.lstat().st_ino == inode
    assert status_at(path)["pid"] == server.process.pid
    assert "control socket" not in server.log  # the new master has not even tried


def status_at(path: Path) -> dict[str, Any]:
    with Client.connect(str(path), PATIENCE) as asking:
        return asking.status()


# -- those who do not behave --------------------------------------------------------------


@contextlib.contextmanager
def raw(server: Server) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path_of(server)))
        sock.settimeout(PATIENCE)
        yield sock


def answers(sock: socket.socket) -> Iterator[dict[str, Any]]:
    lines = Lines()
    while data := sock.recv(1 << 16):  # not by makefile(), which would keep it open
        lines.feed(data)
        yield from map(json.loads, lines)


def still_goes_on(server: Server) -> None:
    with client(server) as asking:
        assert asking.ask("reload")["ok"]
    assert server.get().startswith("VERSION")


def settled(server: Server, fds: int) -> Callable[[], bool]:
    """Whether nobody leaves and nobody is being made, and the descriptors are what they were."""
    return lambda: len(server.children()) == 3 and server.fds() == fds


def test_nonsense_is_answered_and_harms_nobody(start: Start) -> None:
    server = start("-w", "1").wait_until_ready()
    server.wait_for("three children", lambda: len(server.children()) == 3)
    fds = server.fds()
    with raw(server) as sock:
        nonsense = [b"", b"x", b"[]", b"\xff\xfe", b"{", b'{"do": "nix"}', b'{"do": "scale"}']
        sock.sendall(b"\n".join(nonsense) + b"\n" + b'{"id": 9, "do": "status"}\n')
        given = answers(sock)
        assert [next(given)["ok"] for _ in nonsense[1:]] == [False] * 6
        assert next(given)["id"] == 9  # the connection is as good as before
    with raw(server) as sock:  # a line without an end
        with contextlib.suppress(OSError):  # it is turned away before all is sent
            for _ in range(64):
                sock.sendall(b"x" * (1 << 16))
        assert "at most 65536 bytes" in next(answers(sock))["error"]
    with raw(server) as sock:  # half a line, and then no more
        sock.sendall(b'{"do": "sta')
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""
    with raw(server) as sock:  # a whole one, and then no more
        sock.sendall(b'{"do": "status"}\n')
        sock.shutdown(socket.SHUT_WR)
        assert [answer["ok"] for answer in answers(sock)] == [True]
    with raw(server) as sock:  # more than it may have under way
        os.kill(server.worker_pids().pop(), signal.SIGSTOP)  # who is stopped has no stack to show
        dumps = b'{"do": "dump", "worker": 1}\n' * (MOST_UNDER_WAY + 1)
        sock.sendall(dumps)
        assert "are under way" in next(answers(sock))["error"]
        os.kill(server.worker_pids().pop(), signal.SIGCONT)
    still_goes_on(server)
    server.wait_for("flat", settled(server, fds))


def test_who_does_not_read_is_dropped(start: Start) -> None:
    server = start("-w", "1").wait_until_ready()
    server.wait_for("three children", lambda: len(server.children()) == 3)
    fds, most = server.fds(), server.rss() + 64 * (1 << 20) // resource.getpagesize()
    with raw(server) as sock:
        with contextlib.suppress(OSError):
            while server.rss() < most:  # until it is dropped
                sock.sendall(b'{"do": "status"}\n' * 1000)
        assert server.rss() < most
        still_goes_on(server)
        server.wait_for("flat", settled(server, fds))


def test_a_thousand_at_once_harm_nobody(start: Start) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    server = start("-w", "1").wait_until_ready()
    server.wait_for("three children", lambda: len(server.children()) == 3)
    fds = server.fds()
    with contextlib.ExitStack() as everybody:
        everybody.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        crowd = [everybody.enter_context(raw(server)) for _ in range(1000)]
        turned_away = 0
        for sock in crowd:
            with contextlib.suppress(BrokenPipeError):
                sock.sendall(b'{"do": "status"}\n')
            turned_away += not next(answers(sock))["ok"]
        assert turned_away == 1000 - MOST_CONNECTIONS
        assert server.get().startswith("VERSION")
        assert server.fds() == fds + MOST_CONNECTIONS
        for sock in crowd:
            sock.close()
        server.wait_for("room", lambda: server.fds() < fds + MOST_CONNECTIONS)
        still_goes_on(server)
    server.wait_for("flat", settled(server, fds))
    assert server.stop() == 0


def test_without_a_descriptor_to_spare_the_loop_does_not_spin(start: Start) -> None:
    server = start("-w", "1").wait_until_ready()
    limits = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    # Whatever it closes meanwhile, the first three it keeps.
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
    with raw(server) as sock:
        sock.sendall(b'{"do": "status"}\n')
        before, began = _cpu(server.pid), monotonic()
        assert not select.select([sock], [], [], 2.0)[0]
        assert _cpu(server.pid) - before < 0.5 * (monotonic() - began)
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, limits)
        assert next(answers(sock))["ok"]


def _cpu(pid: int) -> float:
    """Seconds of CPU time (proc_pid_stat(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

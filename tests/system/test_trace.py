"""The flight recorder of a real server, and what a replay says of it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system.people import may_mount
from tests.system.server import APP, Server

Start = Callable[..., Server]


def replay(folder: Path, *arguments: str, width: int = 100) -> tuple[int, str]:
    """The exit code, and all that was said."""
    done = subprocess.run(
        [sys.executable, "-m", "forkserve", "replay", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "COLUMNS": str(width)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    assert 'Traceback (most recent call last):\n  File "<' not in done.stdout
    return done.returncode, done.stdout


def steps_in(said: str) -> int:
    found = re.search(r"^(\d+) steps: today's code decides the same\.$", said, re.M)
    assert found, said
    return int(found[1])


def fill_up(path: Path) -> None:
    """Take all the room that there is."""
    with path.open("wb", 0) as file, contextlib.suppress(OSError):
        while file.write(bytes(512)):
            pass


def fds_of(pid: int) -> list[Path]:
    return list(Path(f"/proc/{pid}/fd").iterdir())


def test_a_life_is_recorded_and_would_be_the_same_today(start: Start, folder: Path) -> None:
    server = start("-w", "2", "--trace", "trace").wait_until_ready()
    opened = [os.path.realpath(fd) for pid in server.children() for fd in fds_of(pid)]
    assert opened
    assert str(folder / "trace") not in opened, "it is the master's alone"
    killed = min(server.worker_pids())
    os.kill(killed, signal.SIGKILL)
    server.wait_for_log(r"worker 3 .* is ready")
    assert server.reload() == "done"
    server.write("1 / 0\n")
    assert server.reload() == "failed"
    server.signal(signal.SIGTTIN)
    server.wait_for_log("3 workers wanted now")
    server.wait_for_log("is ready after .*; 3 ready, 3 wanted", since=server.mark() - 1)
    assert server.stop() == 0

    code, said = replay(folder, "trace")
    assert code == 0, said
    assert steps_in(said) == len((folder / "trace").read_text().splitlines()) - 1
    for told in (
        rf"worker \d \(pid {killed}, generation 1\) was ended by SIGKILL",
        "a reload is asked for",
        "log  reload done: all 2 workers are of generation 2",
        "ZeroDivisionError: division by zero",
        "log  reload failed: generation 3 is dropped and generation 2 keeps",
        "a stop is asked for",
        "do   leave, with exit code 0",
        r"^template 1 g1 +\.*=+~*x$",  # a phase may be too short for a column
        r"^worker 3 g1 +\.*=+~*x$",
    ):
        assert re.search(told, said, re.M), (told, said)

    lines = (folder / "trace").read_text().splitlines()
    number = next(n for n, line in enumerate(lines) if '"is":"Drain"' in line)
    lines[number] = (
        lines[number].replace('"is":"Drain"', '"is":"Kill"').replace(',"patient":true', "", 1)
    )
    (folder / "tampered").write_text("\n".join(lines))
    step = json.loads(lines[number])["step"]
    code, said = replay(folder, "tampered", "--show", "verdict")
    assert code == 1
    assert f"today's code decides otherwise, first in step {step}" in said
    assert re.search(r"recorded  Kill\(.*\n.*today     Drain\(", said), said


def test_a_long_one_is_put_aside_while_the_server_serves(start: Start, folder: Path) -> None:
    server = start("--trace", "trace", "--trace-size", "8K").wait_until_ready()

    def is_put_aside() -> bool:
        server.signal(signal.SIGCONT)
        return (folder / "trace.1").exists()

    server.wait_for("put aside", is_put_aside)
    os.kill(min(server.worker_pids()), signal.SIGKILL)
    server.wait_for_log(r"worker 2 .* is ready")
    assert server.stop() == 0
    for name in ("trace.1", "trace"):
        code, said = replay(folder, name)
        assert code == 0, said
        assert steps_in(said)
    assert "goes on from another file" in said
    assert re.search(r"^worker 1 g1 +=+x$", said, re.M), said
    assert {path.stat().st_mode & 0o777 for path in folder.glob("trace*")} == {0o600}


def test_a_full_disk_ends_neither_the_service_nor_the_trace(start: Start, folder: Path) -> None:
    may_mount()
    (folder / "full").mkdir()
    mount = 'mount -t tmpfs -o size=64k tmpfs full && exec "$@"'
    under = ["unshare", "--mount", "sh", "-c", mount, "sh"]
    server = start("--trace", "full/trace", under=under).wait_until_ready()
    full = Path(f"/proc/{server.pid}/root{folder}/full")
    fill_up(full / "rest")

    def says(what: str) -> Callable[[], bool]:
        def happens() -> bool:
            server.signal(signal.SIGCONT)
            return what in server.log

        return happens

    server.wait_for("a full disk", says("full/trace cannot be written (No space left on device)"))
    os.kill(min(server.worker_pids()), signal.SIGKILL)
    server.wait_for_log(r"worker 2 .* is ready")
    assert server.get().startswith("VERSION")
    (full / "rest").unlink()
    server.wait_for("written again", says("full/trace is written again"))
    os.kill(min(server.worker_pids()), signal.SIGKILL)
    server.wait_for_log(r"worker 3 .* is ready")
    (folder / "copy").write_bytes((full / "trace").read_bytes())
    assert server.stop() == 0
    assert server.log.count("cannot be written") == 1
    code, said = replay(folder, "copy")
    assert code == 0, said
    assert re.search(r"goes on after a gap: \d+ steps could not be written", said)
    assert re.search(r"worker 2 \(pid \d+, generation 1\) was ended by SIGKILL", said)


def test_both_masters_of_an_upgrade_are_in_it(start: Start, folder: Path) -> None:
    server = start("-w", "2", "--trace", "trace").wait_until_ready()
    old = server.pid
    assert server.upgrade() == "done"
    new = server.pid
    server.wait_for_log(rf"the old master \(pid {old}\) has left")
    assert server.stop() == 0
    code, said = replay(folder, "trace")
    assert code == 0, said
    assert steps_in(said)
    for pid in (old, new):
        assert f"master pid {pid} starts: app:app" in said
        assert re.search(
            rf"^master pid {pid}: .*\n.*\n.*\n(.+\n)*worker 1 g1 +\.+=+~*x", said, re.M
        )
    assert f"leave the service to the new master (pid {new})" in said


def test_a_master_that_is_killed_leaves_a_story_and_no_secrets(
    start: Start, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one goes on in the same file."""
    monkeypatch.setenv("PASSWORD", "hunter2")
    deadly = APP.replace(
        "    body =", '    if scope["path"] == "/private": os.kill(os.getpid(), 9)\n    body ='
    )
    (folder / "app.py").write_text(deadly)
    options = ("-w", "2", "--trace", "trace", "--worker-env", "TOKEN=swordfish")
    server = start(*options).wait_until_ready()
    server.get_in_vain("/private?key=sesame")
    server.wait_for_log(r"was ended by SIGKILL .*serving GET /private for")
    server.wait_for_log(r"worker 3 .* is ready")
    server.signal(signal.SIGKILL)
    assert server.wait_for_exit() == -signal.SIGKILL
    with (folder / "trace").open("ab") as file:
        file.write(b'{"pid":%d,"step":' % server.pid)  # the machine may have gone with it
    code, said = replay(folder, "trace")
    assert code == 0, said
    assert re.search(r"^worker 3 g1 +\.+=+$", said, re.M), said

    after = start(*options).wait_until_ready()
    assert after.stop() == 0
    code, said = replay(folder, "trace")
    assert code == 0, said
    for pid in (server.pid, after.pid):
        assert f"master pid {pid} starts: app:app" in said
    recorded = (folder / "trace").read_text()
    for secret in ("hunter2", "swordfish", "private", "sesame"):
        assert secret not in recorded


@pytest.mark.parametrize("path", ["link", "nowhere/trace", "."])
def test_what_cannot_be_a_trace_is_refused(start: Start, folder: Path, path: str) -> None:
    (folder / "link").symlink_to(folder / "app.py")
    server = start("--trace", path)
    assert server.wait_for_exit() == 2
    assert f"forkserve: the trace {path} cannot be written: " in server.log
    assert len(server.lines) == 2
    code, said = replay(folder, "app.py")
    assert (code, said) == (2, "forkserve replay: app.py:1: this is no trace.\n")

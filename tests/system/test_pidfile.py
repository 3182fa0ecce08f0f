"""``--pid``, with real masters: one at a time, and gone when its master is."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system.people import may_mount
from tests.system.server import APP, Server, is_gone

Start = Callable[..., Server]

WAITS = APP.replace(
    "    body =",
    """    if scope["path"] == "/wait":
        open("waiting", "w").close()
        while not os.path.exists("go"):
            await asyncio.sleep(0.01)
    body =""",
).replace("import os", "import asyncio, os")


def test_a_second_master_is_refused_and_the_first_goes_on(start: Start, folder: Path) -> None:
    first = start("--pid", "app.pid").wait_until_ready()
    assert (folder / "app.pid").read_text() == f"{first.pid}\n"
    second = start("--pidfile", "app.pid")
    assert second.wait_for_exit() == 1
    assert f"app.pid is held by another master, pid {first.pid}; stop that one" in second.log
    assert first.reload() == "done"
    assert (folder / "app.pid").read_text() == f"{first.pid}\n"
    assert first.stop() == 0
    assert not list(folder.glob("app.pid*"))


@pytest.mark.parametrize("way", ["--preload", "--no-preload"])
def test_a_killed_master_leaves_a_file_that_the_next_takes_over(
    start: Start, folder: Path, way: str
) -> None:
    """At once, while a worker of the killed one still answers its last request."""
    (folder / "app.py").write_text(WAITS)
    first = start("--pid", "app.pid", way).wait_until_ready()
    (worker,) = first.worker_pids()
    answers: list[str] = []
    client = threading.Thread(target=lambda: answers.append(first.get("/wait")))
    client.start()
    first.wait_for("in a request", (folder / "waiting").exists)
    os.kill(first.pid, signal.SIGKILL)
    assert first.process.wait(60) == -signal.SIGKILL
    second = start("-p", "app.pid", way).wait_until_ready()
    assert not is_gone(worker)
    assert (folder / "app.pid").read_text() == f"{second.pid}\n"
    first.write("", "go")
    client.join(60)
    assert answers == [f"VERSION {worker}"]
    first.wait_for("the old worker gone", lambda: is_gone(worker))
    assert second.stop() == 0
    assert not (folder / "app.pid").exists()


def test_a_full_disk_is_one_sentence(start: Start, folder: Path) -> None:
    may_mount()
    (folder / "full").mkdir()
    fill = "mount -t tmpfs -o size=4k tmpfs full; echo 4711 > full/app.pid; head -c 9k /dev/zero"
    under = ["unshare", "--mount", "sh", "-c", f'{fill} > full/rest 2>&-; exec "$@"', "sh"]
    server = start("--pid", "full/app.pid", under=under)
    assert server.wait_for_exit() == 1
    assert "full/app.pid cannot be written: No space left on device; choose" in server.log
    assert "Traceback" not in server.log

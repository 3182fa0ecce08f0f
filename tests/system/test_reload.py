"""SIGHUP: new code with nobody noticing, broken code with nobody noticing either."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system.server import APP, Load, Server
from tests.system.test_respawn import settled

Start = Callable[..., Server]


def version(name: str) -> str:
    return APP.replace("VERSION", name)


@pytest.mark.parametrize("keep_alive", [False, True], ids=["new connections", "keep-alive"])
def test_reloads_under_load_lose_nothing(start: Start, keep_alive: bool) -> None:
    server = start("-w", "3").wait_until_ready()
    with Load(server, clients=6, keep_alive=keep_alive) as load:
        for number in range(1, 6):
            server.write(version(f"v{number}"))
            assert server.reload() == "done"
            server.wait_for("rid of the old", settled(server, 3))
    assert load.failed == []
    server.wait_for("the new code", lambda: server.get().startswith("v5"))
    assert server.stop() == 0


def test_reloads_leave_nothing_behind(start: Start) -> None:
    server = start("-w", "2").wait_until_ready()
    fds = server.fds()
    for _ in range(10):
        assert server.reload() == "done"
        server.wait_for("two", settled(server, 2))
    server.wait_for("flat", lambda: server.fds() == fds and not server.zombies())


BROKEN = {
    "import": "raise RuntimeError('bad deploy')",
    "attribute": "apk = 1",
    "exit": "import os\nos._exit(1)",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_deploy_does_not_take_the_service_down(start: Start, kind: str) -> None:
    server = start("-w", "2").wait_until_ready()
    before = server.worker_pids()
    with Load(server) as load:
        server.write(BROKEN[kind])
        assert server.reload() == "failed"
        assert re.search(r"generation 2 is dropped and generation 1 keeps serving", server.log)
        server.write(version("mended"))
        assert server.reload() == "done"
        server.wait_for("rid of the old", settled(server, 2))
    assert not load.failed
    assert not server.worker_pids() & before
    server.wait_for("the new code", lambda: server.get().startswith("mended"))


def test_a_deploy_that_is_never_ready_is_dropped(start: Start) -> None:
    server = start("-w", "2", "--boot-timeout", "3").wait_until_ready()
    before = server.worker_pids()
    server.write("import time\ntime.sleep(600)")
    assert server.reload() == "failed"
    server.wait_for("back to two", lambda: server.worker_pids() == before)
    assert server.get().startswith("VERSION")


def test_the_newest_reload_wins(start: Start, folder: Path) -> None:
    server = start("-w", "2").wait_until_ready()
    server.write("open('canary', 'w').close()\nimport time\ntime.sleep(600)")
    since = server.mark()
    server.signal(signal.SIGHUP)
    server.wait_for("a canary that never boots", lambda: (folder / "canary").exists())
    server.write(version("newest"))
    server.signal(signal.SIGHUP)
    server.wait_for_log(r"reload done: all 2 workers are of generation 3", since=since)
    server.wait_for("two", settled(server, 2))
    server.wait_for("the new code", lambda: server.get().startswith("newest"))


def test_an_old_worker_leaves_only_when_a_new_one_is_ready(start: Start) -> None:
    server = start("-w", "4", "--surge", "1").wait_until_ready()
    since = server.mark()
    assert server.reload() == "done"
    balance = 4
    for line in server.lines[since:]:
        balance += "is ready after" in line
        balance -= "drains and leaves" in line
        assert balance >= 4, server.log


def test_a_reload_keeps_the_number_that_ttin_and_ttou_have_set(start: Start) -> None:
    server = start("-w", "2").wait_until_ready()
    server.signal(signal.SIGTTIN)
    server.wait_for("three", settled(server, 3))
    assert server.reload() == "done"
    server.wait_for("three", settled(server, 3))
    for target in (2, 1):
        server.signal(signal.SIGTTOU)
        server.wait_for(f"{target}", settled(server, target))
    server.signal(signal.SIGTTOU)
    server.wait_for_log("0 workers cannot be had")
    assert server.get()

"""What ps(1) shows of each process."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system.server import SWITCHBOARD, TEMPLATE, Server, name_of

Start = Callable[..., Server]

needs_setproctitle = pytest.mark.skipif(
    importlib.util.find_spec("setproctitle") is None, reason="needs setproctitle"
)


def title_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode()


@needs_setproctitle
@pytest.mark.parametrize("way", ["--preload", "--no-preload"])
def test_each_process_says_what_it_is_and_nothing_else(start: Start, way: str) -> None:
    secret = ("--worker-env", "TOKEN=hunter2")
    server = start("-w", "2", "--name", "shop", *secret, way).wait_until_ready()
    assert server.reload() == "done"
    server.wait_for("the old ones gone", lambda: len(server.worker_pids()) == 2)
    workers = [title_of(pid) for pid in server.worker_pids()]
    assert all(re.fullmatch(r"forkserve: worker \d+ gen 2 \[shop\]", t) for t in workers), workers
    assert title_of(server.pid) == "forkserve: master [shop]"
    board = server.the_switchboard()
    assert (title_of(board), name_of(board)) == ("forkserve: switchboard [shop]", SWITCHBOARD)
    for template in server.template_pids():
        assert title_of(template) == "forkserve: template gen 2 [shop]"
        assert name_of(template) == TEMPLATE
    assert len(server.template_pids()) == (way == "--preload")
    assert {name_of(pid) for pid in (server.pid, *server.worker_pids())} == {"forkserve"}
    assert server.stop() == 0


def test_without_setproctitle_there_are_short_names_and_a_line(start: Start, folder: Path) -> None:
    (folder / "setproctitle.py").write_text("raise ImportError")
    server = start("--name", "shop").wait_until_ready()
    server.wait_for_log(r"WARNING +--name is shown nowhere: .* \"forkserve\[titles\]\"")
    assert "--name" in title_of(server.pid).split("\0")
    assert {name_of(pid) for pid in (server.pid, *server.worker_pids())} == {"forkserve"}
    assert len(server.template_pids()) == 1
    server.the_switchboard()
    assert server.stop() == 0

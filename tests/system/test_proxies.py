"""Behind a real nginx and a real HAProxy, and against a real slowhttptest.

The proxies are told to try nothing twice, so that whatever a worker loses is seen.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.proxies import proxy as running
from tests.system.server import PATIENCE, Load, Server

Start = Callable[..., Server]


def _needs(program: str) -> None:
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed")


@pytest.mark.parametrize("proxy", ["nginx", "haproxy"])
def test_reloads_behind_a_proxy_lose_no_request(start: Start, folder: Path, proxy: str) -> None:
    _needs(proxy)
    server = start("-w", "3", "--max-requests", "500").wait_until_ready()
    with running(proxy, folder, server.port) as port:
        with (
            Load(server, clients=8, port=port, pause=0.05) as new,
            Load(server, clients=8, keep_alive=True, port=port, pause=0.05) as kept,
        ):
            for _ in range(15):
                assert server.reload() == "done"
        log = (folder / f"{proxy}.log").read_text()
    assert new.failed == [], log
    assert kept.failed == [], log
    assert len(new.answers) > 200
    assert len(kept.answers) > 200


def test_slow_heads_hold_nobody_up(start: Start) -> None:
    _needs("slowhttptest")
    server = start("-w", "2", "--header-timeout", "2", "--worker-concurrency", "4")
    server.wait_until_ready()
    url = f"http://127.0.0.1:{server.port}/"
    command = ["slowhttptest", "-H", "-c", "200", "-r", "200", "-i", "1", "-l", "20", "-u", url]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process,
        Load(server, clients=2) as load,
    ):
        out, _ = process.communicate(timeout=PATIENCE)
    assert load.failed == []
    assert len(load.answers) > 100
    # It says how it ended: all its connections were closed before its time was over.
    assert "No open connections left" in out, out[-2000:]

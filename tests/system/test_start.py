"""Starting: readiness, the first boot that fails, the port that is taken."""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import pytest

from tests.system.server import Load, Server

Start = Callable[..., Server]


def test_four_workers_serve_and_stop_cleanly(start: Start) -> None:
    server = start("-w", "4").wait_until_ready()
    pids = server.worker_pids()
    assert len(pids) == 4
    with Load(server, clients=8) as load:
        server.wait_for(
            "answered by every worker", lambda: {int(a.split()[1]) for a in load.answers} == pids
        )
    assert not load.failed
    assert server.stop() == 0


def test_port_zero_prints_the_port_and_several_binds_are_served(start: Start) -> None:
    server = start("-w", "1", "-b", "127.0.0.1:0").wait_until_ready()
    found = server.wait_for_log(r"listens on (.+) and makes")[1]
    ports = [int(port) for port in re.findall(r":(\d+)", found)]
    assert len(ports) == 2
    assert 0 not in ports
    for port in ports:
        socket.create_connection(("127.0.0.1", port), timeout=10).close()


BROKEN = {
    "no module": ("nope:app", None, 'no module "nope"'),
    "no attribute": ("broken:app", "other = 1", 'has no attribute "app"'),
    "not callable": ("broken:app", "app = 5", "no ASGI app"),
    "syntax error": ("broken:app", "x = 1\ndef (", r"SyntaxError.*broken\.py:2"),
    "exception": ("broken:app", "x = 1\nraise KeyError('gone')", r"KeyError.*broken\.py:2"),
    "exit at import": ("broken:app", "import sys\nsys.exit(9)", r"SystemExit.*broken\.py:2"),
    "hard exit": ("broken:app", "import os\nos._exit(9)", "exited with 9 before it was ready"),
    "crash": (
        "broken:app",
        "import faulthandler\nfaulthandler._sigsegv()",
        "SIGSEGV before it was ready",
    ),
    "lifespan": (
        "broken:app",
        "import traceback\n"
        "async def app(scope, receive, send):\n"
        "    try: open('/no/such/model')\n"
        "    except OSError:\n"
        "        message = traceback.format_exc()\n"
        "        await send({'type': 'lifespan.startup.failed', 'message': message})\n",
        r"lifespan startup: FileNotFoundError.*broken\.py:3",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_an_app_that_cannot_boot_ends_the_master_with_one_message(
    start: Start, folder: Path, name: str
) -> None:
    app, source, message = BROKEN[name]
    if source is not None:
        (folder / "broken.py").write_text(source)
    server = start("-w", "4", app=app)
    assert server.wait_for_exit() == 3
    assert len(re.findall(r"CRITICAL cannot start", server.log)) == 1, server.log
    assert re.search(message, server.log), server.log
    assert server.log.count("Traceback (most recent") <= 1, server.log


def test_a_taken_port_is_named_with_its_holder(start: Start) -> None:
    first = start("-w", "1").wait_until_ready()
    began = monotonic()
    second = start("-b", f"127.0.0.1:{first.port}")
    assert second.wait_for_exit() == 1
    assert monotonic() - began < 20
    assert f"127.0.0.1:{first.port} is already in use by pid" in second.log
    assert first.worker_pids()


def test_a_worker_counts_only_after_its_lifespan_startup(start: Start, folder: Path) -> None:
    slow = """
import asyncio, os
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        open("starting", "w").close()
        while not os.path.exists("go"):
            await asyncio.sleep(0.01)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
"""
    (folder / "slow.py").write_text(slow)
    server = start("-w", "1", app="slow:app")
    server.wait_for("in startup", lambda: (server.folder / "starting").exists())
    assert not re.search(r"worker \d+ .* is ready", server.log)
    server.write("", "go")
    server.wait_until_ready()


def test_boot_timeout_kills_with_the_stack_in_the_log(start: Start, folder: Path) -> None:
    source = "import time\ndef load_the_model():\n    time.sleep(600)\nload_the_model()\n"
    (folder / "stuck.py").write_text(source)
    server = start("-w", "1", "--boot-timeout", "1", app="stuck:app")
    assert server.wait_for_exit() == 3
    assert "in load_the_model" in server.log
    assert "not ready within the boot timeout of 1 s" in server.log


def test_deaths_in_one_batch_are_taken_one_by_one(start: Start, folder: Path) -> None:
    """The first death makes the master kill the others, whose pids must still be theirs."""
    source = (
        "import os, time\n"
        "open(f'importing-{os.getpid()}', 'w').close()\n"
        "while not os.path.exists('go'): time.sleep(0.01)\n"
        "os._exit(9)\n"
    )
    (folder / "app.py").write_text(source)
    server = start("-w", "4", "--no-preload")
    server.wait_for("importing", lambda: len(list(folder.glob("importing-*"))) == 4)
    server.signal(signal.SIGSTOP)
    server.write("", "go")
    server.wait_for("all dead", lambda: len(server.zombies()) == 4)
    server.signal(signal.SIGCONT)
    assert server.wait_for_exit() == 3


def test_term_while_booting_stops_at_once(start: Start, folder: Path) -> None:
    source = "import time\nopen('importing', 'w').close()\ntime.sleep(600)\n"
    (folder / "stuck.py").write_text(source)
    server = start("-w", "2", app="stuck:app")
    server.wait_for("importing", lambda: (server.folder / "importing").exists())
    server.signal(signal.SIGTERM)
    assert server.wait_for_exit() == 0

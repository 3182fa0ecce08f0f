"""Stopping, at any moment, with anything going on."""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import re
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import pytest

from tests.system.server import APP, Load, Server, is_gone, port_is_free
from tests.system.test_respawn import settled

Start = Callable[..., Server]

SLOW = APP.replace(
    "    body =",
    """    open("in-flight", "w").close()
    import asyncio
    while scope["path"] == "/slow" and not os.path.exists("go"):
        await asyncio.sleep(0.01)
    body =""",
)


def _ask_in_vain(server: Server) -> None:
    """A slow request that the stop cuts off, by a reset or by an answer of 500."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        server.get("/slow")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_request_in_flight_is_answered_before_the_end(
    start: Start, folder: Path, number: int
) -> None:
    (folder / "app.py").write_text(SLOW)
    server = start("-w", "2").wait_until_ready()
    answers: list[str] = []
    client = threading.Thread(target=lambda: answers.append(server.get("/slow")))
    client.start()
    server.wait_for("in flight", lambda: (folder / "in-flight").exists())
    server.signal(number)
    server.wait_for_log("stopping because of")
    server.write("", "go")
    assert server.wait_for_exit() == 0
    client.join()
    assert answers[0].startswith("VERSION")


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGQUIT])
def test_the_second_int_and_quit_stop_at_once(start: Start, folder: Path, second: int) -> None:
    (folder / "app.py").write_text(SLOW)
    server = start("-w", "2").wait_until_ready()
    client = threading.Thread(target=_ask_in_vain, args=(server,))
    client.start()
    server.wait_for("in flight", lambda: (folder / "in-flight").exists())
    server.signal(signal.SIGINT)
    server.wait_for_log("stopping because of SIGINT")
    server.signal(second)
    assert server.wait_for_exit() == 0
    assert "stopping at once" in server.log
    client.join()


def test_what_does_not_finish_is_cut_off_at_the_graceful_timeout(
    start: Start, folder: Path
) -> None:
    (folder / "app.py").write_text(SLOW)
    server = start("-w", "1", "--graceful-timeout", "1").wait_until_ready()
    client = threading.Thread(target=_ask_in_vain, args=(server,))
    client.start()
    server.wait_for("in flight", lambda: (folder / "in-flight").exists())
    began = monotonic()
    assert server.stop() == 0
    assert monotonic() - began < 20
    client.join()


def test_an_idle_client_of_a_draining_worker_is_answered_and_told_to_go(start: Start) -> None:
    server = start("-w", "1", "--switchboard", "off").wait_until_ready()
    idle = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    idle.request("GET", "/")
    assert idle.getresponse().read()
    victim = server.worker_pids().pop()
    os.kill(victim, signal.SIGTERM)
    server.wait_for_log("drains and leaves")
    idle.request("GET", "/")
    response = idle.getresponse()
    assert response.read().decode() == f"VERSION {victim}"
    assert response.getheader("connection") == "close"
    idle.close()
    server.wait_for("replaced", settled(server, 1))


@pytest.mark.parametrize("step", range(12))
def test_term_at_any_moment_of_a_reload(start: Start, step: int) -> None:
    """A sweep: TERM comes when the reload has written its ``step``-th log line."""
    server = start("-w", "3").wait_until_ready()
    since = server.mark()
    server.signal(signal.SIGHUP)
    if step:
        server.wait_for("that far", lambda: server.mark() >= min(since + step, since + 11))
    server.signal(signal.SIGTERM)
    assert server.wait_for_exit() == 0
    assert all(is_gone(pid) for pid in server.seen_pids)


def test_a_thousand_mixed_signals_end_in_the_wanted_state(start: Start) -> None:
    server = start("-w", "2").wait_until_ready()
    fds = server.fds()
    dice = random.Random(7)
    kinds = ("HUP", "TTIN", "TTOU", "WINCH", "CHLD", "USR1", "CONT")
    pace = threading.Event()
    for _ in range(1000):
        server.signal(getattr(signal, f"SIG{dice.choice(kinds)}"))
        pace.wait(0.002)  # the kernel folds signals that come faster than they are taken
    since = server.mark()
    server.signal(signal.SIGHUP)
    server.wait_for_log("reload done", since=since)
    targets = re.findall(r"(\d+) workers? wanted now", server.log)
    assert len(targets) > 20
    target = int(targets[-1])
    server.wait_for("settled", settled(server, target))
    wanted = fds + (target - 2) * 2  # a channel and a file for each worker
    server.wait_for("flat", lambda: server.fds() == wanted and not server.zombies())
    assert server.get()
    assert server.stop() == 0


@pytest.mark.parametrize("busy", [False, True])
def test_nobody_outlives_a_killed_master(start: Start, folder: Path, busy: bool) -> None:
    (folder / "app.py").write_text(SLOW)
    server = start("-w", "3").wait_until_ready()
    workers, port = server.worker_pids(), server.port
    with Load(server) if busy else contextlib.nullcontext():
        server.process.kill()
        server.process.wait()
        server.wait_for("gone", lambda: all(is_gone(pid) for pid in workers))
    assert port_is_free(port)


def test_a_master_killed_while_its_workers_boot_leaves_nobody(start: Start, folder: Path) -> None:
    source = "import os, time\nopen(f'boot-{os.getpid()}', 'w').close()\ntime.sleep(600)\n"
    (folder / "app.py").write_text(source)
    server = start("-w", "2", "--no-preload")
    server.wait_for("booting", lambda: len(list(folder.glob("boot-*"))) == 2)
    server.process.kill()
    pids = [int(f.name.split("-")[1]) for f in folder.glob("boot-*")]
    server.wait_for("gone", lambda: all(is_gone(pid) for pid in pids))

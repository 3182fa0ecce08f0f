"""A loop that is blocked shows the line that blocks it, and its request is answered."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system.server import APP, PATIENCE, Server

Start = Callable[..., Server]

BLOCKING = (
    APP.replace(
        "    body =",
        """    path = scope["path"]
    if path == "/sleep": time.sleep(2)
    if path == "/native": native()
    if path == "/await": await asyncio.sleep(3)
    if path == "/until": until()
    if path == "/hang": hang()
    if path == "/drain":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        while not os.path.exists("drains"): await asyncio.sleep(0.01)
        until()
        await send({"type": "http.response.body", "body": b" last"})
        return
    body =""",
    )
    + """
import asyncio, ctypes, time
def native():
    fd = os.open("fifo", os.O_RDWR)
    ctypes.PyDLL(None).read(fd, ctypes.create_string_buffer(1), 1)  # PyDLL keeps the GIL
    os.close(fd)
def until():
    while not os.path.exists("enough"): time.sleep(0.01)
def hang():
    time.sleep(600)
"""
)

BLOCKED = r"is blocked: its event loop has not turned for [\d.]+ s"
TURNS = r"turns again: its event loop was blocked for ([\d.]+) s"
SLOW = ("--slow-threshold", "500ms", "--switchboard", "off")


@pytest.fixture
def blocking(start: Start, folder: Path) -> Start:
    (folder / "app.py").write_text(BLOCKING)
    os.mkfifo(folder / "fifo")
    return start


def get_native(server: Server) -> None:
    """Ask for what blocks in native code, until the log has said so."""
    answers: list[str] = []
    client = threading.Thread(target=lambda: answers.append(server.get("/native")))
    client.start()
    server.wait_for_log(BLOCKED + ", serving GET /native for")
    with open(server.folder / "fifo", "w") as fifo:
        fifo.write("!")
    client.join()
    assert answers[0].startswith("VERSION")
    server.wait_for_log(TURNS)


def stack_below(server: Server, pattern: str) -> list[str]:
    """The block below the one line that matches."""
    server.wait_for_log(r"stopped after")  # all of it has been written
    (at,) = [i for i, line in enumerate(server.lines) if re.search(pattern, line)]
    below = []
    for line in server.lines[at + 1 :]:
        if not line.startswith("    "):
            break
        below.append(line.strip())
    return below


def test_the_line_that_blocks_is_shown_once_and_the_request_is_answered(
    blocking: Start,
) -> None:
    server = blocking("-w", "2", *SLOW).wait_until_ready()
    workers = server.worker_pids()
    assert server.get("/sleep").startswith("VERSION")
    assert 1.5 < float(server.wait_for_log(TURNS)[1]) < 60
    assert server.worker_pids() == workers
    server.stop()
    header, first, *_ = stack_below(server, BLOCKED + ", serving GET /sleep for")
    assert header.startswith("Current thread")
    assert re.search(r'/app\.py", line \d+ in app$', first)


def test_native_code_that_keeps_the_gil_shows_its_line_too(blocking: Start) -> None:
    """Nothing in the worker could tell."""
    server = blocking("-w", "2", *SLOW).wait_until_ready()
    get_native(server)
    server.stop()
    _, first, *_ = stack_below(server, BLOCKED + ", serving GET /native")
    assert re.search(r'/app\.py", line \d+ in native$', first)


def test_a_slow_await_blocks_nobody(blocking: Start) -> None:
    server = blocking("-w", "1", "--slow-threshold", "1.5s").wait_until_ready()
    assert server.get("/await").startswith("VERSION")
    server.stop()
    assert not re.search(BLOCKED, server.log)


def test_a_draining_worker_is_watched_too(blocking: Start) -> None:
    server = blocking("-w", "1", *SLOW).wait_until_ready()
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    client.request("GET", "/drain")
    with contextlib.closing(client), client.getresponse() as response:
        assert response.read(5) == b"first"
        os.kill(min(server.worker_pids()), signal.SIGTERM)
        server.wait_for_log(r"drains and leaves")
        server.write("", "drains")
        server.wait_for_log(BLOCKED + ", serving GET /drain")
        server.write("", "enough")
        assert response.read() == b" last"
    server.wait_for_log(r"exited with 0 \(left by itself\)")
    server.signal(signal.SIGTERM)
    assert server.wait_for_exit() == 0
    assert "in until" in "".join(stack_below(server, BLOCKED + ", serving GET /drain"))
    server.wait_for_log(TURNS)


def test_one_that_hangs_in_the_end_dies_with_its_own_stack(blocking: Start) -> None:
    """What it showed before is not shown again; without a timeout it would live."""
    server = blocking("-w", "1", "--timeout", "3", *SLOW).wait_until_ready()
    get_native(server)
    server.get_in_vain("/hang")
    server.wait_for_log(r"was ended by SIGKILL \(hung\)")
    server.wait_for_log(BLOCKED + ", serving GET /hang")
    server.stop()
    death = stack_below(server, r"was ended by SIGKILL \(hung\)")
    assert sum("thread 0x" in line for line in death) == 1, death
    assert "in hang" in death[1]


def test_a_stopped_worker_shows_nothing_and_what_it_shows_too_late_is_not_what_it_dies_of(
    blocking: Start,
) -> None:
    server = blocking("-w", "1", "--timeout", "0", *SLOW).wait_until_ready()
    (worker,) = server.worker_pids()
    os.kill(worker, signal.SIGSTOP)
    server.wait_for_log(BLOCKED + r"; .* it does not show where \(it is stopped\)")
    os.kill(worker, signal.SIGCONT)
    server.wait_for_log(TURNS)
    os.kill(worker, signal.SIGKILL)
    server.wait_for_log(rf"\(pid {worker}, generation 1\) was ended by SIGKILL")
    server.stop()
    assert stack_below(server, rf"\(pid {worker}, generation 1\) was ended by") == []


def test_when_everybody_was_stopped_nobody_was_blocked(blocking: Start) -> None:
    server = blocking("-w", "2", "--slow-threshold", "1s").wait_until_ready()
    workers = server.worker_pids()
    for pid in (server.pid, *workers):
        os.kill(pid, signal.SIGSTOP)
    time.sleep(3)  # the fault itself: longer than the threshold, and nothing runs
    server.signal(signal.SIGCONT)
    server.signal(signal.SIGTTIN)
    server.wait_for_log(r"3 workers wanted")  # the master runs, and the workers do not yet
    for pid in workers:
        os.kill(pid, signal.SIGCONT)
    get_native(server)
    server.stop()
    found = re.findall(BLOCKED + ".*", server.log)
    assert all("GET /native" in line for line in found), found


def test_a_reload_brings_the_new_generation_its_own_threshold(
    blocking: Start, folder: Path
) -> None:
    (folder / "forkserve.toml").write_text("slow_threshold = 'none'\n")
    server = blocking("-w", "1", "-c", "forkserve.toml").wait_until_ready()
    server.get("/sleep")
    assert not re.search(BLOCKED, server.log)
    (folder / "forkserve.toml").write_text("slow_threshold = '0.5s'\n")
    assert server.reload() == "done"
    # The old one may still take a connection, and would not show where it is blocked.
    server.wait_for_log(r"generation 1\) has left")
    get_native(server)
    server.wait_for_log(r"generation 2\) " + BLOCKED)

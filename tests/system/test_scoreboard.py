"""What the scoreboard says of real workers that serve real requests."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.system.server import APP, Server

WATCHED = (sys.executable, "-m", "tests.system.watched")
Start = Callable[..., Server]

HOLDING = APP.replace(
    "    body =",
    """    if scope["path"] == "/await":
        import asyncio
        while not os.path.exists("release"):
            await asyncio.sleep(0.01)
    if scope["path"] == "/block":
        open("release.fifo").read()
    body =""",
)


@pytest.fixture
def server(start: Start, folder: Path) -> Server:
    (folder / "app.py").write_text(HOLDING)
    os.mkfifo(folder / "release.fifo")
    return start("-w", "2", command=WATCHED).wait_until_ready()


def look(server: Server) -> dict[str, Any]:
    """What the rows say now."""
    path = server.folder / "rows.json"
    before = json.loads(path.read_text())["looks"]
    server.signal(signal.SIGCONT)
    server.wait_for("a look", lambda: json.loads(path.read_text())["looks"] > before)
    seen: dict[str, Any] = json.loads(path.read_text())
    return seen


def rows(server: Server) -> list[dict[str, Any]]:
    return list(look(server)["rows"].values())


def serving(server: Server, path: str) -> dict[str, Any]:
    """The row of the worker that serves ``path``."""
    found: list[dict[str, Any]] = []

    def is_served() -> bool:
        found[:] = [row for row in rows(server) if row["path"] == path]
        return bool(found)

    server.wait_for(f"serving {path}", is_served)
    return found[0]


def ask(server: Server, path: str) -> threading.Thread:
    thread = threading.Thread(target=server.get, args=(path,), daemon=True)
    thread.start()
    return thread


def test_who_holds_each_row_and_how_it_stands(server: Server) -> None:
    seen = rows(server)
    assert {row["holder"]["pid"] for row in seen} == server.worker_pids()
    for row in seen:
        holder = row["holder"]
        assert (holder["phase"], holder["generation"]) == ("ready", 1)
        assert 0.0 < holder["born"] < holder["ready_since"]
        assert row["rss"] > 0
        assert row["pss"] > 0
        assert row["beat"] >= holder["born"]
        assert row["accepting"]
    assert server.reload() == "done"
    server.wait_for("two rows", lambda: len(rows(server)) == 2)
    assert {row["holder"]["generation"] for row in rows(server)} == {2}
    assert {row["holder"]["pid"] for row in rows(server)} == server.worker_pids()
    assert server.stop() == 0


def test_requests_are_counted_and_shown(server: Server, folder: Path) -> None:
    for _ in range(5):
        server.get()
    held = ask(server, "/await?secret")
    row = serving(server, "/await")
    assert (row["method"], row["in_flight"]) == ("GET", 1)
    server.get()
    (folder / "release").touch()
    held.join(60)
    server.wait_for("all answered", lambda: look(server)["totals"]["requests"] == 7)
    totals = look(server)["totals"]
    assert (totals["accepts"], sum(totals["durations"]), totals["lost"]) == (7, 7, 0)
    assert totals["busy"] > 0.0
    # Two at the same time were busy for less long in all than they took, if in one worker.
    assert totals["busy"] <= totals["seconds"] + 0.001
    assert not any(row["serving_since"] for row in rows(server))
    assert server.stop() == 0


def test_a_blocked_loop_is_late_at_once_and_for_a_while(server: Server, folder: Path) -> None:
    held = ask(server, "/block")
    server.wait_for("late", lambda: serving(server, "/block")["lag"] > 1.5)
    number = serving(server, "/block")["holder"]["worker_id"]
    assert serving(server, "/block")["done"]["busy"] > 1.5
    (folder / "release.fifo").write_text("go")
    held.join(60)

    def row() -> dict[str, Any]:
        found: dict[str, Any] = look(server)["rows"][str(number)]
        return found

    server.wait_for("on time again", lambda: row()["lag"] < 1.0)
    assert row()["highest_lag"] > 1.5
    assert server.stop() == 0


def test_what_was_done_outlives_who_did_it(server: Server) -> None:
    for _ in range(5):
        server.get()
    held = threading.Thread(target=server.get_in_vain, args=("/block",), daemon=True)
    held.start()
    pid = serving(server, "/block")["holder"]["pid"]
    before = look(server)["totals"]
    os.kill(pid, signal.SIGKILL)
    held.join(60)
    server.wait_for_log(
        rf"\(pid {pid}, generation 1\) was ended by SIGKILL.* requests?, "
        r"serving GET /block for \d.* s, with up to \d+ MiB of memory; "
    )
    server.wait_for("its successor", lambda: len(server.worker_pids()) == 2)
    after = look(server)["totals"]
    assert (after["requests"], after["accepts"], after["lost"]) == (5, 6, 1)
    assert after["durations"] == before["durations"]
    assert after["busy"] >= before["busy"] > 0.0
    server.get()
    assert server.reload() == "done"
    server.wait_for("two rows", lambda: len(rows(server)) == 2)
    assert look(server)["totals"]["requests"] == 6
    assert server.stop() == 0

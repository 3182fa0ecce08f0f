"""``--reload``, and serving from Python."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import forkserve
from tests.system.server import APP, Server, is_gone, name_of

Start = Callable[..., Server]


def watched(server: Server) -> int:
    """Once files are watched: the pid of who does."""
    probe = server.folder / "probe.py"

    def noticed() -> bool:
        probe.write_text(f"{probe.exists() and probe.read_text()}#")
        return "probe.py has changed" in server.log

    server.wait_for("noticed", noticed)
    (watcher,) = [pid for pid in server.children() if name_of(pid) == "forkserve-watch"]
    return watcher


def test_a_file_that_changes_is_a_reload(start: Start) -> None:
    server = start("--reload").wait_until_ready()
    watcher = watched(server)
    server.write(APP.replace("VERSION", "CHANGED"))
    server.wait_for("reloaded", lambda: server.get("/").startswith("CHANGED"))
    server.wait_for_log(r"^[^/]* app\.py has changed")

    # Broken code is told, and what worked goes on.
    server.write("def (")
    server.wait_for_log(r"reload failed.*SyntaxError")
    assert server.get("/").startswith("CHANGED")
    server.write(APP)
    server.wait_for("reloaded", lambda: server.get("/").startswith("VERSION"))

    # Who watches is no child that anything depends on.
    os.kill(watcher, signal.SIGKILL)
    server.wait_for_log("files are watched no more")
    assert server.get("/").startswith("VERSION")
    assert server.stop() == 0


def test_a_directory_that_is_removed_is_no_fault(start: Start, folder: Path) -> None:
    clone = folder / "clone"
    clone.mkdir()
    (clone / "app.py").write_text(APP)
    server = start("--reload", folder=clone).wait_until_ready()
    watched(server)
    since = server.mark()
    shutil.rmtree(clone)
    server.wait_for_log(r"\w+\.py has changed", since=since)
    server.wait_for_log("reload failed", since=since)
    assert server.get().startswith("VERSION")
    assert server.stop() == 0


def test_who_watches_goes_with_the_master(start: Start) -> None:
    server = start("--reload").wait_until_ready()
    everybody = server.children()
    assert "forkserve-watch" in {name_of(pid) for pid in everybody}
    server.signal(signal.SIGKILL)
    server.wait_for("nobody left", lambda: all(is_gone(pid) for pid in everybody))


SCRIPT = """
import forkserve

if __name__ == "__main__":
    forkserve.run("app:app", workers=2, bind="127.0.0.1:0", {more})
"""


def test_serving_from_python(folder: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    (folder / "main.py").write_text(SCRIPT.format(more="graceful_timeout=1"))
    process = subprocess.Popen(
        [sys.executable, "main.py"], cwd=folder, env=environment, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr
    try:
        log = ""
        while "all 2 workers are ready" not in log:
            line = process.stderr.readline()
            assert line, log
            log += line
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_after_it_has_served_python_takes_signals_as_before(folder: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    (folder / "main.py").write_text(
        SCRIPT.format(more="graceful_timeout=1, surge=None")
        + "    os = __import__('os')\n    os.kill(os.getpid(), 2)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "main.py"], cwd=folder, env=environment, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr
    try:
        assert any("all 2 workers are ready" in line for line in process.stderr)
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
        assert process.wait(60) == -signal.SIGINT
        assert rest.endswith("KeyboardInterrupt\n")
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_another_thread_is_refused_in_a_sentence() -> None:
    with ThreadPoolExecutor() as pool:
        call = pool.submit(forkserve.run, "app:app")
        with pytest.raises(RuntimeError, match="has to be in the main thread"):
            call.result(60)


def test_wrong_settings_from_python_are_an_exception(folder: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    (folder / "main.py").write_text(SCRIPT.format(more="surge='x', wrokers=2"))
    done = subprocess.run(
        [sys.executable, "main.py"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert 'run(surge=…): "x" is no whole number from 1 to 512.' in done.stderr
    assert 'run(wrokers=…): there is no setting "wrokers"; did you mean "workers"?' in done.stderr

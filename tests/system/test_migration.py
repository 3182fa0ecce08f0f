"""Who ran gunicorn, or ``uvicorn --workers``, changes one word: the same command, the same file
and the same app are run under the old name and under ours."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

from tests.bench.peers import free_port
from tests.system.server import APP, PATIENCE, is_gone

TELLING = APP.replace("VERSION", "{os.environ.get('GREETING')} {scope['root_path']}")

GUNICORN_FILE = """
import os

_port = os.environ["TEST_PORT"]
bind = [f"127.0.0.1:{_port}"]
workers = 2
keepalive = 7
graceful_timeout = 20
worker_tmp_dir = "/tmp"
pidfile = "app.pid"
accesslog = "access.log"
access_log_format = "%(m)s %(U)s %(s)s"
raw_env = ["GREETING=hello"]
max_request = 1000

def when_ready(server):
    open(f"ready-{server.pid}", "w").close()

def post_fork(server, worker):
    open(f"forked-{worker.pid}", "w").close()
"""


def is_installed(*packages: str) -> bool:
    return all(importlib.util.find_spec(package) for package in packages)


@contextlib.contextmanager
def running(folder: Path, *command: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    (folder / "app.py").write_text(TELLING)
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), str(folder)]),
        "TEST_PORT": str(port),
    }
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        ) as process,
    ):
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def ask(folder: Path, port: int) -> str:
    """The first answer that there is."""
    deadline = monotonic() + PATIENCE
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/a", timeout=PATIENCE) as answer:
                return str(answer.read().decode())
        except OSError:
            assert monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.02)


def until(folder: Path, number: int, pattern: str) -> set[int]:
    """The pids in the names of so many files, once there are as many."""
    deadline = monotonic() + PATIENCE
    while len(found := list(folder.glob(pattern))) < number:
        assert monotonic() < deadline, (folder / "log").read_text()
        time.sleep(0.02)
    return {int(file.name.partition("-")[2]) for file in found}


@pytest.mark.parametrize("server", ["gunicorn", "forkserve"])
def test_one_word_of_a_gunicorn_command(tmp_path: Path, server: str) -> None:
    if not is_installed("gunicorn", "uvicorn_worker") and server == "gunicorn":
        pytest.skip("needs gunicorn and uvicorn_worker")
    (tmp_path / "gunicorn.conf.py").write_text(GUNICORN_FILE)
    port = free_port()
    words = ("-c", "gunicorn.conf.py", "-k", "uvicorn_worker.UvicornWorker", "app:app")
    with running(tmp_path, server, *words, port=port) as master:
        body = ask(tmp_path, port)
        assert body.startswith("hello ")
        assert until(tmp_path, 1, "ready-*") == {master.pid}
        workers = until(tmp_path, 2, "forked-*")
        assert int(body.split()[-1]) in workers
        assert (tmp_path / "app.pid").read_text() == f"{master.pid}\n"
        master.send_signal(signal.SIGHUP)
        workers = until(tmp_path, 4, "forked-*")
        assert ask(tmp_path, port).startswith("hello ")
        master.send_signal(signal.SIGTERM)
        assert master.wait(PATIENCE) == 0
        assert all(map(is_gone, workers))
        assert not (tmp_path / "app.pid").exists()
    if server == "forkserve":  # what they always missed
        log = (tmp_path / "log").read_text()
        assert "no setting, so without effect: max_request (did you mean max_requests?)" in log
        assert "worker_tmp_dir has no effect: heartbeats are in shared memory" in log
        assert "GET /a 200\n" in (tmp_path / "access.log").read_text()


@pytest.mark.parametrize("server", ["uvicorn", "forkserve"])
def test_one_word_of_a_uvicorn_command(tmp_path: Path, server: str) -> None:
    port = free_port()
    words = ("--host", "127.0.0.1", "--port", str(port), "--workers", "2", "--root-path", "/api")
    more = ("--timeout-keep-alive", "3", "--timeout-graceful-shutdown", "20", "--no-access-log")
    with running(tmp_path, server, *words, *more, "app:app", port=port) as master:
        assert re.fullmatch(r"None /api \d+", ask(tmp_path, port))
        master.send_signal(signal.SIGTERM)
        assert master.wait(PATIENCE) == 0 or server == "uvicorn"
        assert "GET /a" not in (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-k", "gevent"], '-k: worker_class "gevent" is for WSGI apps: leave it out, and give'),
        (["--daemon"], "--daemon: daemon is not possible: forkserve stays in the foreground,"),
        (["--uds", "a", "--fd", "3"], "--uds and --fd: uds and fd are two addresses"),
    ],
)
def test_what_cannot_be_had_is_refused_with_what_to_do(
    tmp_path: Path, words: list[str], said: str
) -> None:
    with running(tmp_path, "forkserve", *words, "app:app", port=0) as master:
        assert master.wait(PATIENCE) == 2
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert said in line

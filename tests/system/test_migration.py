"""Who ran gunicorn, or ``uvicorn --workers``, changes one word: the same command, the same file
and the same app are run under the old name and under ours.

What happens in them is told through a FIFO (fifo(7)), a line each.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import select
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

from tests.bench.peers import free_port
from tests.system.server import APP, PATIENCE, is_gone

TELL = """
import os
def tell(what, pid):
    with open("told", "w") as fifo:
        fifo.write(f"{what} {pid}\\n")
"""

TELLING = (
    TELL
    + "import asyncio"
    + APP.replace("VERSION", "{os.environ.get('GREETING')} {scope['root_path']}").replace(
        "            if message",
        """            if message["type"] == "lifespan.startup":
                # uvicorn has been woken before, and listens in the same turn of the loop.
                asyncio.get_running_loop().call_soon(tell, "serves", os.getpid())
            if message""",
    )
)

GUNICORN_FILE = """
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
    tell("ready", server.pid)

def post_fork(server, worker):
    tell("forked", worker.pid)
"""


def is_installed(*packages: str) -> bool:
    return all(importlib.util.find_spec(package) for package in packages)


class Running:
    """A server, and what is told of it."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path, fifo: int) -> None:
        self.process = process
        self.pid = process.pid
        self._log = folder / "log"
        self._fifo = fifo
        self._told = ""

    def wait_until(self, what: str, times: int = 1) -> set[int]:
        """Whom it was told of, once it was told of so many."""
        deadline = monotonic() + PATIENCE
        while len(found := re.findall(rf"^{what} (\d+)$", self._told, re.MULTILINE)) < times:
            left = deadline - monotonic()
            assert left > 0, self._log.read_text()
            if select.select([self._fifo], [], [], left)[0]:
                self._told += os.read(self._fifo, 4096).decode()
        return set(map(int, found))


@contextlib.contextmanager
def running(folder: Path, *command: str, port: int) -> Iterator[Running]:
    (folder / "app.py").write_text(TELLING)
    os.mkfifo(folder / "told")
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), str(folder)]),
        "TEST_PORT": str(port),
    }
    fifo = os.open(folder / "told", os.O_RDWR)  # so that nobody has to wait to open it
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
            yield Running(process, folder, fifo)
        finally:
            os.close(fifo)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def ask(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/a", timeout=PATIENCE) as answer:
        return str(answer.read().decode())


def ask_after_reload(port: int, server: str) -> str:
    while True:
        try:
            return ask(port)
        except ConnectionError:
            if server != "gunicorn":  # whose old workers leave with what they have just accepted
                raise


@pytest.mark.parametrize("server", ["gunicorn", "forkserve"])
def test_one_word_of_a_gunicorn_command(tmp_path: Path, server: str) -> None:
    if not is_installed("gunicorn", "uvicorn_worker") and server == "gunicorn":
        pytest.skip("needs gunicorn and uvicorn_worker")
    (tmp_path / "gunicorn.conf.py").write_text(TELL + GUNICORN_FILE)
    port = free_port()
    words = ("-c", "gunicorn.conf.py", "-k", "uvicorn_worker.UvicornWorker", "app:app")
    with running(tmp_path, server, *words, port=port) as master:
        master.wait_until("serves")
        body = ask(port)
        assert body.startswith("hello ")
        assert master.wait_until("ready") == {master.pid}
        workers = master.wait_until("forked", times=2)
        assert int(body.split()[-1]) in workers
        assert (tmp_path / "app.pid").read_text() == f"{master.pid}\n"
        master.process.send_signal(signal.SIGHUP)
        workers = master.wait_until("forked", times=4)
        assert ask_after_reload(port, server).startswith("hello ")
        master.process.send_signal(signal.SIGTERM)
        assert master.process.wait(PATIENCE) == 0
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
        master.wait_until("serves")
        assert re.fullmatch(r"None /api \d+", ask(port))
        master.process.send_signal(signal.SIGTERM)
        assert master.process.wait(PATIENCE) == 0 or server == "uvicorn"
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
        assert master.process.wait(PATIENCE) == 2
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert said in line

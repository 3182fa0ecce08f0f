"""The vocabulary of the system tests: a real forkserve, real signals, real requests.

Everything waits on events: a line of the log, the end of a process, an answer. No
test sleeps to give something time to happen.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

PATIENCE = 60.0
"""Seconds until a wait is given up; far beyond what even a loaded machine needs."""

TEMPLATE = "forkserve-tmpl"
SWITCHBOARD = "forkserve-swbd"
MONITOR = "forkserve-mntr"

APP = """
import os
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    body = f"VERSION {os.getpid()}".encode()
    await send({"type": "http.response.start", "status": 200,
                "headers": [(b"content-length", str(len(body)).encode())]})
    await send({"type": "http.response.body", "body": body})
"""


_SOMEBODY = r"(?:worker \d+|template|switchboard|monitor|new master) \(pid (\d+)"


class Server:
    """A running ``forkserve`` and its log.

    ``process`` is the master that was started; after an upgrade ``pid`` is another's, who is
    no child of ours, but of the same process group, and writes to the same log.
    """

    def __init__(
        self,
        folder: Path,
        *options: str,
        app: str = "app:app",
        stdout: int = subprocess.DEVNULL,
        bind: Sequence[str] = ("127.0.0.1:0",),
        under: Sequence[str] = (),
        pass_fds: Sequence[int] = (),
        command: Sequence[str] = (sys.executable, "-m", "forkserve"),
    ) -> None:
        self.folder = folder
        binds = [word for address in bind for word in ("-b", address)]
        environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            [*under, *command, *binds, *options, app],
            cwd=folder,
            env=environment
            | {"PYTHONPATH": str(Path(__file__).parents[2]), "PWD": os.fspath(folder)}
            | {"XDG_RUNTIME_DIR": os.fspath(folder)},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            pass_fds=pass_fds,
        )
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        self.seen_pids: set[int] = set()

    def _read_log(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            with self._news:
                self.lines.append(line.rstrip("\n"))
                for pid in re.findall(_SOMEBODY, line):
                    self.seen_pids.add(int(pid))
                self._news.notify_all()
        with self._news:
            self.lines.append("<end of log>")
            self._news.notify_all()

    # -- waiting --------------------------------------------------------------------

    def wait_for_log(self, pattern: str, *, since: int = 0, times: int = 1) -> re.Match[str]:
        """The ``times``-th line from number ``since`` on that matches ``pattern``."""
        deadline = monotonic() + PATIENCE
        with self._news:
            while True:
                found = [m for line in self.lines[since:] if (m := re.search(pattern, line))]
                if len(found) >= times:
                    return found[times - 1]
                left = deadline - monotonic()
                ended = self.lines and self.lines[-1] == "<end of log>"
                if ended or left <= 0 or not self._news.wait(left):
                    raise AssertionError(f"no {pattern!r} in the log:\n{self.log}")

    def wait_until_ready(self) -> Server:
        self.wait_for_log(r"workers are ready after")
        return self

    def wait_for(self, what: str, condition: Callable[[], bool]) -> None:
        """Until ``condition`` holds; it is looked at again whenever the log grows, and
        every few milliseconds for what leaves no trace there."""
        deadline = monotonic() + PATIENCE
        with self._news:
            while not condition():
                if monotonic() > deadline:
                    raise AssertionError(f"never {what}:\n{self.log}")
                self._news.wait(0.02)

    def wait_for_exit(self) -> int:
        code = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        assert not self._reader.is_alive(), f"somebody lives on and holds the log:\n{self.log}"
        if self.pid == self.process.pid:
            return code
        masters = [int(pid) for pid in re.findall(r"master pid (\d+) listens", self.log)]
        self.wait_for("all masters gone", lambda: all(map(is_gone, masters)))
        return int(self.wait_for_log(rf"\[{self.pid}\] .*exit code (\d+)")[1])

    # -- looking --------------------------------------------------------------------

    @property
    def log(self) -> str:
        return "\n".join(self.lines)

    def mark(self) -> int:
        """The number of the next log line, for ``since``."""
        with self._news:
            return len(self.lines)

    @property
    def pid(self) -> int:
        """The master that serves, or has served last."""
        heirs = re.findall(r"\(pid (\d+)\) (?:has taken over|goes on alone)", self.log)
        return int(heirs[-1]) if heirs else self.process.pid

    @property
    def port(self) -> int:
        return int(self.wait_for_log(r"listens on http://127\.0\.0\.1:(\d+)")[1])

    def worker_pids(self) -> set[int]:
        """The master's living children that serve, as the kernel has them."""
        # One without a name has gone between two looks.
        others = (TEMPLATE, SWITCHBOARD, MONITOR, "forkserve-conf", "forkserve-watch", "")
        return {pid for pid in self.children() if name_of(pid) not in others}

    def template_pids(self) -> set[int]:
        return {pid for pid in self.children() if name_of(pid) == TEMPLATE}

    def switchboard_pids(self) -> set[int]:
        return {pid for pid in self.children() if name_of(pid) == SWITCHBOARD}

    def the_switchboard(self, but: int | None = None) -> int:
        """The pid of the one that there is, or, after ``but``, will be."""
        self.wait_for("one switchboard", lambda: len(self.switchboard_pids() - {but}) == 1)
        return (self.switchboard_pids() - {but}).pop()

    def children(self) -> set[int]:
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            return {int(pid) for pid in children.read_text().split() if not is_zombie(int(pid))}
        return set()

    def zombies(self) -> set[int]:
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return {int(pid) for pid in children if is_zombie(int(pid))}

    def fds(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def rss(self) -> int:
        """The master's resident memory in pages."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])

    # -- doing ----------------------------------------------------------------------

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def write(self, source: str, name: str = "app.py") -> None:
        """Deploy ``source``: put it in place at once, as a careful deployment does."""
        temporary = self.folder / f".{name}.new"
        temporary.write_text(source)
        temporary.replace(self.folder / name)

    def get(self, path: str = "/", timeout: float = PATIENCE) -> str:
        return self.fetch(path, timeout)[0]

    def fetch(self, path: str = "/", timeout: float = PATIENCE) -> tuple[str, Mapping[str, str]]:
        """The body, and the headers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        with contextlib.closing(connection):
            connection.request("GET", path)
            with connection.getresponse() as response:
                return response.read().decode(), response.headers

    def get_in_vain(self, path: str) -> None:
        """A request whose worker does not live to answer it."""
        try:
            answer = self.get(path)
        except (OSError, http.client.HTTPException):
            return
        raise AssertionError(f"GET {path} was answered: {answer}")

    def reload(self) -> str:
        """HUP, and wait for the verdict."""
        since = self.mark()
        self.signal(signal.SIGHUP)
        return self.wait_for_log(r"reload (done|failed)", since=since)[1]

    def upgrade(self) -> str:
        """USR2, and wait for the verdict."""
        since = self.mark()
        self.signal(signal.SIGUSR2)
        return self.wait_for_log(r"upgrade (done|failed)", since=since)[1]

    def has_ended(self) -> bool:
        return self.process.poll() is not None and is_gone(self.pid)

    def stop(self) -> int:
        if not self.has_ended():
            self.signal(signal.SIGTERM)
        return self.wait_for_exit()

    def clean_up(self) -> None:
        """Kill what is left of it, by pid, and say whether anything was."""
        if self.process.poll() is None:
            self.process.kill()
        # Its process group is its own; a worker that a broken master has left is in it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        if self.process.stderr:
            self.process.stderr.close()


class Load:
    """A steady load from several clients; ``failed`` holds what went wrong.

    ``hesitate``: seconds, at most, between a client's connecting and its request; ``pause``:
    between an answer and its next request. Without a pause it takes all the processors there are.
    """

    def __init__(
        self,
        server: Server,
        clients: int = 4,
        keep_alive: bool = False,
        port: int | None = None,
        hesitate: float = 0.0,
        pause: float = 0.0,
        path: str = "/",
    ) -> None:
        self.asked = 0
        self._path = path
        self.failed: list[str] = []
        self.answers: list[str] = []
        self.connected = 0
        self._clients = clients
        self._port = port or server.port
        self._keep_alive = keep_alive
        self._hesitate = hesitate
        self._pause = pause
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    @property
    def reconnects(self) -> int:
        """How often a kept connection had to be replaced."""
        return self.connected - self._clients

    def _connection(self) -> http.client.HTTPConnection:
        load = self

        class Counted(http.client.HTTPConnection):
            def connect(self) -> None:
                super().connect()
                load.connected += 1

        return Counted("127.0.0.1", self._port, timeout=PATIENCE)

    def _run(self) -> None:
        connection = self._connection()
        while not self._stop.is_set():
            try:
                if self._hesitate:
                    connection.connect()
                    time.sleep(random.uniform(0.0, self._hesitate))
                connection.request("GET", self._path)
                self.asked += 1
                with connection.getresponse() as response:
                    body = response.read().decode()
                if response.status == 200:
                    self.answers.append(body)
                else:
                    self.failed.append(f"{response.status} {body}")
                if not self._keep_alive:
                    connection.close()
                if self._pause:
                    self._stop.wait(random.uniform(0.0, self._pause))
            except (OSError, http.client.HTTPException) as exc:
                self.failed.append(repr(exc))
                connection.close()
        connection.close()


def state_of(pid: int) -> str:
    """The letter of proc_pid_stat(5), or empty if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def name_of(pid: int) -> str:
    """What ps(1) calls the process, or empty if there is none."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().rstrip("\n")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def is_zombie(pid: int) -> bool:
    return state_of(pid) == "Z"


def is_gone(pid: int) -> bool:
    return state_of(pid) in ("", "Z", "X")


def port_is_free(port: int) -> bool:
    listening = subprocess.run(
        ["cat", "/proc/net/tcp"], capture_output=True, text=True, check=True
    ).stdout
    return not re.search(rf":{port:04X} \S+ 0A ", listening)


@contextlib.contextmanager
def serving(
    folder: Path, *options: str, app: str = "app:app", under: Sequence[str] = ()
) -> Iterator[Server]:
    server = Server(folder, *options, app=app, under=under)
    try:
        yield server
    finally:
        server.clean_up()

"""How to start, watch and end each server that is measured, in the same way for all.

A worker is known by its pid, which it tells in two ways. Its app announces it at the
end of its lifespan startup, the last thing before a server accepts, in a datagram with
the time: ``time.monotonic()`` counts alike in all processes. And ``GET /pid`` answers
it, which proves that the worker serves.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib.metadata
import importlib.util
import os
import platform
import random
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

PATIENCE = 60.0
"""Seconds until a wait is given up."""

CLIENTS = 4
"""Threads that ask for pids at once."""

BEACON = "BENCH_BEACON"
"""The variable that tells the app where to announce itself."""

APP = """
import os, socket, time
from contextlib import asynccontextmanager

from fastapi import FastAPI
from pydantic import BaseModel


@asynccontextmanager
async def lifespan(app):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as beacon:
        beacon.sendto(f"{os.getpid()} {time.monotonic()}".encode(), os.environ["BENCH_BEACON"])
    yield


class Item(BaseModel):
    name: str
    price: float
    tags: list[str] = []


app = FastAPI(lifespan=lifespan)


@app.get("/pid")
async def pid() -> int:
    # Blocks for a moment, on purpose: meanwhile other connections go to other workers.
    time.sleep(0.002)
    return os.getpid()


@app.get("/items/{number}")
async def item(number: int, short: bool = False) -> Item:
    return Item(name=f"item {number}", price=number)


@app.post("/items")
async def create(item: Item) -> Item:
    return item
"""


@dataclass(frozen=True, slots=True)
class Peer:
    """A server and how it is started; ``arguments`` follow ``python -m module``."""

    name: str
    module: str
    arguments: str
    needs: tuple[str, ...] = ()
    """What must be installed besides, as names of distributions."""

    def missing(self) -> list[str]:
        """What is not installed."""
        return [name for name in (self.module, *self.needs) if not _is_installed(name)]

    def versions(self) -> str:
        names = (self.module, *self.needs)
        return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)

    def command(self, port: int, workers: int, app: str) -> list[str]:
        arguments = self.arguments.format(port=port, workers=workers, app=app).split()
        return [sys.executable, "-m", self.module, *arguments]


_FORKSERVE = "-w {workers} -b 127.0.0.1:{port} {app}"
_GUNICORN = "-k uvicorn_worker.UvicornWorker -w {workers} -b 127.0.0.1:{port} {app}"
_GRANIAN = "--interface asgi --workers {workers} --host 127.0.0.1 --port {port} {app}"

PEERS = (
    Peer("forkserve", "forkserve", _FORKSERVE, ("uvicorn",)),
    Peer("forkserve --no-preload", "forkserve", f"--no-preload {_FORKSERVE}", ("uvicorn",)),
    Peer("gunicorn --preload", "gunicorn", f"--preload {_GUNICORN}", ("uvicorn-worker", "uvicorn")),
    Peer("gunicorn", "gunicorn", _GUNICORN, ("uvicorn-worker", "uvicorn")),
    Peer("uvicorn --workers", "uvicorn", "--workers {workers} --port {port} {app}"),
    Peer("granian --respawn-failed-workers", "granian", f"--respawn-failed-workers {_GRANIAN}"),
)


ACCEPTING_PEERS = (
    PEERS[0],
    Peer("gunicorn", "gunicorn", _GUNICORN, ("uvicorn-worker", "uvicorn")),
    Peer("uvicorn", "uvicorn", "--workers {workers} --port {port} --no-access-log {app}"),
    Peer("granian", "granian", _GRANIAN),
    Peer("hypercorn", "hypercorn", "-w {workers} -b 127.0.0.1:{port} {app}"),
)
"""Those that differ in who gets a connection: how the app was imported does not matter."""

_KEEPS = 75
"""Seconds that an idle connection is kept: longer than what is in front keeps it, as nobody
who uses a pool would have it otherwise. Granian has no such limit."""

POOLED_PEERS = (
    Peer("forkserve", "forkserve", f"--keep-alive {_KEEPS} {_FORKSERVE}", ("uvicorn",)),
    Peer(
        "forkserve --switchboard off",
        "forkserve",
        f"--switchboard off --keep-alive {_KEEPS} {_FORKSERVE}",
        ("uvicorn",),
    ),
    Peer(
        "uvicorn",
        "uvicorn",
        f"--timeout-keep-alive {_KEEPS} --no-access-log "
        "--workers {workers} --port {port} {app}",
    ),
    Peer(
        "gunicorn", "gunicorn", f"--keep-alive {_KEEPS} {_GUNICORN}", ("uvicorn-worker", "uvicorn")
    ),
    # It waits so long for each worker that it replaces; 3.5 s by default.
    Peer("granian", "granian", f"--respawn-interval 1 {_GRANIAN}"),
)
"""Those that differ in what a pool of kept connections meets."""


def installed_peers(peers: Sequence[Peer] = PEERS) -> list[Peer]:
    """The peers that can be measured; says which cannot."""
    for peer in peers:
        if missing := peer.missing():
            print(f"{peer.name} is left out: {', '.join(missing)} not installed", file=sys.stderr)
    return [peer for peer in peers if not peer.missing()]


def in_turns(peers: Sequence[Peer], rounds: int) -> Iterator[tuple[int, Peer]]:
    """Each round's number with each peer, in a new order every round; says which it is."""
    for number in range(rounds):
        for peer in random.sample(peers, len(peers)):
            print(f"round {number + 1} of {rounds}: {peer.name}", file=sys.stderr)
            yield number, peer


def machine() -> str:
    """Where this was measured, in one line."""
    return f"Python {platform.python_version()}, {os.cpu_count()} CPUs, Linux {platform.release()}"


class ServerEnded(Exception):
    """The server is not there any more."""


class Running:
    """A server that runs ``source`` in a folder of its own, with ``workers`` workers."""

    def __init__(self, peer: Peer, workers: int, folder: Path, source: str = APP) -> None:
        self.port = free_port()
        self._folder = folder
        (folder / "bench_app.py").write_text(source)
        self._beacon = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._beacon.bind(str(folder / "beacon"))
        with open(folder / "log", "wb") as log:
            self._process = subprocess.Popen(
                peer.command(self.port, workers, "bench_app:app"),
                cwd=folder,
                env=os.environ | {BEACON: str(folder / "beacon")} | _python_path(peer),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._end = os.pidfd_open(self._process.pid)

    @property
    def pid(self) -> int:
        return self._process.pid

    def log(self) -> str:
        return (self._folder / "log").read_text(errors="replace")

    def next_ready(self) -> tuple[int, float]:
        """The pid of the next worker that is ready, and when it was; waits for it.

        Raises TimeoutError, and ServerEnded.
        """
        ends: list[Any] = [self._beacon, self._end]
        happened, _, _ = select.select(ends, [], [], PATIENCE)
        if self._beacon in happened:
            pid, when = self._beacon.recv(64).decode().split()
            return int(pid), float(when)
        what = ServerEnded if happened else TimeoutError
        raise what(f"no new worker is ready:\n{self.log()[-4000:]}")

    def reload(self, workers: int) -> None:
        """Have the workers replaced; wait until so many new ones are ready.

        Raises what :meth:`next_ready` does.
        """
        while select.select([self._beacon], [], [], 0)[0]:
            self._beacon.recv(64)  # Of one that came in the place of a dead one.
        os.kill(self.pid, signal.SIGHUP)
        for _ in range(workers):
            self.next_ready()

    def answering(self, pids: set[int]) -> None:
        """Wait until each of ``pids`` has answered on a new connection."""
        missing = set(pids)
        deadline = monotonic() + PATIENCE

        def ask() -> None:
            while missing and monotonic() < deadline:
                # Refused before anybody listens, cut short where a worker was killed.
                with contextlib.suppress(OSError, http.client.HTTPException):
                    missing.discard(self.ask_pid())

        threads = [threading.Thread(target=ask) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if missing:
            raise TimeoutError(f"{missing} of {pids} never answered:\n{self.log()[-4000:]}")

    def ask_pid(self) -> int:
        """Who answers a request on a new connection."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.request("GET", "/pid", headers={"Connection": "close"})
            return int(connection.getresponse().read())

    def wait_for_workers(self, workers: int) -> dict[int, float]:
        """Wait until so many workers answer; when each of them was ready, by pid."""
        born = dict(self.next_ready() for _ in range(workers))
        self.answering(set(born))
        return born

    def end(self) -> None:
        end_tree(self.pid)
        self._process.wait()
        os.close(self._end)
        self._beacon.close()


@contextlib.contextmanager
def running(peer: Peer, workers: int, source: str = APP) -> Iterator[Running]:
    """``peer`` in a temporary folder; afterwards none of its processes is left."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        server = Running(peer, workers, Path(folder), source)
        try:
            yield server
        finally:
            server.end()


def children(pid: int) -> set[int]:
    """The living and dead children of ``pid``, of whichever thread."""
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").glob("*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found.update(map(int, (task / "children").read_text().split()))
    return found


def descendants(pid: int) -> set[int]:
    """The children of ``pid``, their children and so on."""
    below = children(pid)
    return below.union(*map(descendants, below))


def end_tree(root: int) -> None:
    """Kill ``root`` and all below it, and wait until they have ended."""
    handles: dict[int, int] = {}
    # Stopped first, so that none replaces another that is killed; again and again, as
    # one may have forked before it was stopped.
    while new := ({root} | descendants(root)) - handles.keys():
        for pid in new:
            with contextlib.suppress(ProcessLookupError):
                handles[pid] = os.pidfd_open(pid)
                signal.pidfd_send_signal(handles[pid], signal.SIGSTOP)
    for handle in handles.values():
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    for handle in handles.values():
        select.select([handle], [], [], PATIENCE)
        os.close(handle)


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        # The project's own modules need not be installed to be measured.
        return importlib.util.find_spec(name) is not None
    return True


def _python_path(peer: Peer) -> dict[str, str]:
    """Makes this very checkout what is measured, not an installed one."""
    if peer.module != "forkserve" and not peer.module.startswith("tests."):
        return {}
    return {"PYTHONPATH": str(Path(__file__).parents[2])}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port

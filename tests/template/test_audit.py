"""The audit: what an app has really opened is named, and nothing else is blamed on it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")

OPENED = {
    "a thread": (
        "import threading; t = threading.Thread(target=threading.Event().wait, daemon=True, "
        "name='loader'); t.start()",
        'the thread "loader"',
    ),
    "a native thread": (
        "import ctypes; libc = ctypes.CDLL(None); "
        "libc.pthread_create(ctypes.byref(ctypes.c_ulong()), None, libc.pause, None)",
        "1 native thread (",
    ),
    "a connection": (
        "import socket; s = socket.create_server(('127.0.0.1', 0)); "
        "c = socket.create_connection(s.getsockname()); port = s.getsockname()[1]; "
        "a = s.accept(); a[0].close(); s.close()",
        "a TCP connection to 127.0.0.1:{port}",
    ),
    "a listener": (
        "import socket; s = socket.create_server(('127.0.0.1', 0)); port = s.getsockname()[1]",
        "a TCP socket listening on 127.0.0.1:{port}",
    ),
    "an IPv6 listener": (
        "import socket; s = socket.create_server(('::1', 0), family=socket.AF_INET6); "
        "port = s.getsockname()[1]",
        "a TCP socket listening on [::1]:{port}",
    ),
    "UDP": (
        "import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.bind(('127.0.0.1', 0)); "
        "port = s.getsockname()[1]",
        "a UDP socket on 127.0.0.1:{port}",
    ),
    "a Unix connection": (
        "import socket; s = socket.socket(socket.AF_UNIX); s.bind('db.sock'); s.listen(); "
        "c = socket.socket(socket.AF_UNIX); c.connect('db.sock')",
        "a Unix connection to db.sock",
    ),
    "a socket pair": ("import socket; s = socket.socketpair()", "a socket pair"),
    "a pipe": ("import os; p = os.pipe()", "a pipe"),
    "an epoll": ("import select; e = select.epoll()", "an epoll"),
    "an eventfd": ("import os; e = os.eventfd(0)", "an eventfd"),
    "an inotify": (
        "import ctypes; e = ctypes.CDLL(None).inotify_init()",
        "an inotify watch",
    ),
    "an event loop": ("import asyncio; l = asyncio.new_event_loop()", "an event loop"),
    "a file for writing": ("f = open('out.bin', 'wb')", "out.bin, open for writing"),
    "SQLite": (
        "import sqlite3; d = sqlite3.connect('orders.db'); d.execute('create table o (id)')",
        "the SQLite database",
    ),
    "a child": (
        "import subprocess; c = subprocess.Popen(['sleep', '60'])",
        '("sleep")',
    ),
    "a descriptor's number used again": (
        "import os, socket; os.close(spare); s = socket.socket(); assert s.fileno() == spare",
        "an unconnected TCP socket",
    ),
}

INNOCENT = {
    "the server's own modules": (
        "import uvicorn, uvloop, fastapi, httptools, websockets, ssl, asyncio, multiprocessing\n"
        "uvicorn.Config(lambda: None).load()"
    ),
    "a log that is appended to": "f = open('app.log', 'a')",
    "a file that is read": "f = open('/etc/passwd')",
    "a device of nothing": "f = open('/dev/null', 'w'), open('/dev/urandom', 'rb')",
    "memory made to be shared": (
        "from multiprocessing.shared_memory import SharedMemory\n"
        "m = SharedMemory(create=True, size=100)"
    ),
    "a child that has ended": (
        "import subprocess; subprocess.run(['true']); c = subprocess.Popen(['true']); "
        "import os; os.waitid(os.P_PID, c.pid, os.WEXITED | os.WNOWAIT)"
    ),
    "a thread that has ended": (
        "import threading; t = threading.Thread(target=int); t.start(); t.join()"
    ),
    "forkserve's own": ("import os; r, w = os.pipe(); os.dup2(r, ours); os.close(r); os.close(w)"),
}

SCRIPT = """
import contextlib, json, os, warnings
warnings.simplefilter("ignore")
spare, ours = os.open("/dev/null", os.O_RDONLY), os.open("/dev/null", os.O_RDONLY)
from forkserve.template import audit
before = audit.Baseline.take([ours])
os.chdir({folder!r})
port = None
exec({source!r})
findings = audit.audit(before)
with contextlib.suppress(NameError, AttributeError):
    c.kill()
with contextlib.suppress(NameError):
    m.unlink()
print(json.dumps([port, audit.summary(findings), [f.what for f in findings]]), flush=True)
os._exit(0)
"""


def audited(source: str, folder: Path) -> tuple[int | None, str, list[str]]:
    """The port it has opened, the summary and each finding, of a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", dedent(SCRIPT).format(source=source, folder=str(folder))],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    port, summary, found = json.loads(done.stdout.splitlines()[-1])
    return port, summary, found


@pytest.mark.parametrize("what", OPENED)
def test_what_the_app_has_opened_is_named(what: str, tmp_path: Path) -> None:
    source, name = OPENED[what]
    port, summary, found = audited(source, tmp_path)
    assert name.format(port=port) in summary
    assert "lifespan startup" in summary
    assert found


@pytest.mark.parametrize("what", INNOCENT)
def test_nothing_else_is_blamed_on_it(what: str, tmp_path: Path) -> None:
    assert audited(INNOCENT[what], tmp_path)[2] == []


def test_several_findings_share_one_piece_of_advice(tmp_path: Path) -> None:
    _, summary, found = audited("import select; a, b = select.epoll(), open('x', 'w')", tmp_path)
    assert len(found) == 2
    assert summary.count("open it in the lifespan startup") == 1

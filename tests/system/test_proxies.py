"""Behind a real nginx and a real HAProxy, and against a real slowhttptest.

The proxies are told to try nothing twice, so that whatever a worker loses is seen.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import pytest

from tests.system.server import PATIENCE, Load, Server

Start = Callable[..., Server]

NGINX = """
daemon off;
master_process off;
error_log stderr warn;
pid {folder}/nginx.pid;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream app {{ server 127.0.0.1:{upstream}; keepalive 16; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://app;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_next_upstream off;
        }}
    }}
}}
"""

HAPROXY = """
defaults
    mode http
    timeout connect 10s
    timeout client 60s
    timeout server 60s
    retries 0
frontend front
    bind 127.0.0.1:{port}
    default_backend app
backend app
    http-reuse always
    server app 127.0.0.1:{upstream}
"""


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _wait_until_it_listens(port: int) -> None:
    deadline = monotonic() + PATIENCE
    while True:
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port)).close()
            return
        assert monotonic() < deadline


@contextlib.contextmanager
def _proxy(name: str, folder: Path, upstream: int) -> Iterator[int]:
    """Runs the proxy in front of ``upstream``; the port that it listens on."""
    port = _free_port()
    file = folder / f"{name}.conf"
    config = NGINX if name == "nginx" else HAPROXY
    file.write_text(config.format(folder=folder, upstream=upstream, port=port))
    command = {
        "nginx": ["nginx", "-p", str(folder), "-c", str(file), "-e", "stderr"],
        "haproxy": ["haproxy", "-db", "-f", str(file)],
    }
    with (
        open(folder / f"{name}.log", "wb") as log,
        subprocess.Popen(command[name], stdout=log, stderr=log) as process,
    ):
        try:
            _wait_until_it_listens(port)
            yield port
        finally:
            process.kill()


def _needs(program: str) -> None:
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed")


@pytest.mark.parametrize("proxy", ["nginx", "haproxy"])
def test_reloads_behind_a_proxy_lose_no_request(start: Start, folder: Path, proxy: str) -> None:
    _needs(proxy)
    server = start("-w", "3", "--max-requests", "500").wait_until_ready()
    with _proxy(proxy, folder, server.port) as port:
        with (
            Load(server, clients=8, port=port) as new,
            Load(server, clients=8, keep_alive=True, port=port) as kept,
        ):
            for _ in range(15):
                assert server.reload() == "done"
        log = (folder / f"{proxy}.log").read_text()
    assert new.failed == [], log
    assert kept.failed == [], log
    assert len(new.answers) > 200
    assert len(kept.answers) > 200


def test_slow_heads_hold_nobody_up(start: Start) -> None:
    _needs("slowhttptest")
    server = start("-w", "2", "--header-timeout", "2", "--worker-concurrency", "4")
    server.wait_until_ready()
    url = f"http://127.0.0.1:{server.port}/"
    command = ["slowhttptest", "-H", "-c", "200", "-r", "200", "-i", "1", "-l", "20", "-u", url]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process,
        Load(server, clients=2) as load,
    ):
        out, _ = process.communicate(timeout=PATIENCE)
    assert load.failed == []
    assert len(load.answers) > 100
    # It says how it ended: all its connections were closed before its time was over.
    assert "No open connections left" in out, out[-2000:]

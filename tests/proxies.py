"""A real nginx and a real HAProxy in front of a server.

They keep connections to it, and are told to try nothing twice, so that whatever it loses
is seen.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

from tests.bench.peers import PATIENCE, free_port

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
    upstream app {{ server {upstream}; keepalive 16; }}
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
    server app {upstream}
"""

CONFIGS = {"nginx": NGINX, "haproxy": HAPROXY}
COMMANDS = {"nginx": "nginx -p {folder} -c {file} -e stderr", "haproxy": "haproxy -db -f {file}"}


@contextlib.contextmanager
def proxy(name: str, folder: Path, upstream: int | str) -> Iterator[int]:
    """Runs the proxy in front of ``upstream``, a port or an address as it is written there,
    with its files in ``folder``; the port that it listens on."""
    port = free_port()
    file = folder / f"{name}.conf"
    address = f"127.0.0.1:{upstream}" if isinstance(upstream, int) else upstream
    file.write_text(CONFIGS[name].format(folder=folder, upstream=address, port=port))
    command = COMMANDS[name].format(folder=folder, file=file).split()
    with (
        open(folder / f"{name}.log", "wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as process,
    ):
        try:
            _wait_until_it_listens(port, process)
            yield port
        finally:
            process.kill()


def _wait_until_it_listens(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = monotonic() + PATIENCE
    while process.poll() is None and monotonic() < deadline:
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port)).close()
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.01)  # or until it has ended, in vain
    raise RuntimeError(f"{process.args!r} does not listen")

"""The listening sockets: opened by the master before anything else, shared by all."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forkserve.config.bind import Bind

BACKLOG = 2048


class BindError(Exception):
    """An address that cannot be listened on; the message is one sentence."""


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening socket and the address that clients use."""

    socket: socket.socket
    url: str


def open_listeners(binds: Sequence[Bind], backlog: int = BACKLOG) -> list[Listener]:
    """Listen on every address, or on none. Raises BindError."""
    with contextlib.ExitStack() as undo:
        listeners = []
        for bind in binds:
            listener = _open(bind, backlog, v6only=_has_ipv4_twin(bind, binds))
            undo.callback(listener.socket.close)
            listeners.append(listener)
        undo.pop_all()
    return listeners


def _has_ipv4_twin(bind: Bind, binds: Sequence[Bind]) -> bool:
    """Whether IPv4 has a listener of its own at the same port, so that the IPv6 one must
    not take it too (ipv6(7), IPV6_V6ONLY)."""
    return any(":" not in b.host and b.port == bind.port != 0 for b in binds)


def _open(bind: Bind, backlog: int, v6only: bool) -> Listener:
    family, address = _resolve(bind)
    # With proto 0 asyncio does not set TCP_NODELAY on what it accepts, and a request on
    # a keep-alive connection takes 44 ms.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6 and v6only:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(backlog)
        sock.setblocking(False)
    except OSError as exc:
        sock.close()
        raise BindError(_why(bind, exc)) from exc
    port = sock.getsockname()[1]
    return Listener(sock, f"http://{Bind(bind.host, port)}")


def _resolve(bind: Bind) -> tuple[socket.AddressFamily, Any]:
    try:
        found = socket.getaddrinfo(bind.host, bind.port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as exc:
        raise BindError(
            f"cannot listen on {bind}: the host name {bind.host} cannot be resolved; check --bind."
        ) from exc
    # A name like localhost has both; clients of old try IPv4.
    first = next((f for f in found if f[0] == socket.AF_INET), found[0])
    return first[0], first[4]


def _why(bind: Bind, exc: OSError) -> str:
    if exc.errno == errno.EADDRINUSE:
        holder = _holder(bind.port) or "another process"
        return (
            f"{bind} is already in use by {holder}; stop it, or choose another address with --bind."
        )
    if exc.errno == errno.EACCES:
        return f"no permission to listen on {bind}; ports below 1024 are root's, see --bind."
    if exc.errno == errno.EADDRNOTAVAIL:
        return f"cannot listen on {bind}: this machine has no such address, see --bind."
    return f"cannot listen on {bind}: {exc.strerror}."


def _holder(port: int) -> str:
    """Who listens on ``port``, where /proc allows to know (proc_net(5)), or empty."""
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    if not sockets:
        return ""
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and _holds_one_of(process, sockets):
            with contextlib.suppress(OSError):
                return f"pid {process.name} ({(process / 'comm').read_text().strip()})"
    return ""


def _listening_inodes(port: int) -> set[str]:
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                columns = line.split()
                if columns[3] == "0A" and columns[1].endswith(f":{port:04X}"):
                    inodes.add(columns[9])
    return inodes


def _holds_one_of(process: Path, sockets: set[str]) -> bool:
    with contextlib.suppress(OSError):
        for fd in (process / "fd").iterdir():
            with contextlib.suppress(OSError):
                if os.readlink(fd) in sockets:
                    return True
    return False

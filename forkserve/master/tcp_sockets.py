"""Listening on TCP ports."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass

from forkserve.config.bind import Bind, BindError
from forkserve.master.holders import already_in_use, holder_of_port


@dataclass(frozen=True, slots=True)
class Target:
    """A bind and the one address it was resolved to."""

    bind: Bind
    family: socket.AddressFamily
    sockaddr: tuple[str, int] | tuple[str, int, int, int]

    @property
    def is_ipv4(self) -> bool:
        return self.family == socket.AF_INET


def resolve(bind: Bind) -> Target:
    """Look the host up. Raises BindError."""
    try:
        found = socket.getaddrinfo(bind.host, bind.port, socket.AF_UNSPEC, socket.SOCK_STREAM)
    except socket.gaierror as exc:
        raise BindError(
            f"{bind.host} cannot be resolved to an address ({exc.strerror}); "
            "choose another host with --bind"
        ) from exc
    except ValueError as exc:  # a name that no resolver could even be asked for
        raise BindError(
            f"{bind.host!r} is not a host name; choose another host with --bind"
        ) from exc
    # "localhost" is both, often IPv6 first; who says it expects 127.0.0.1 to work.
    best = next((info for info in found if info[0] == socket.AF_INET), found[0])
    # The stubs allow for a Python built without IPv6, whose addresses are raw.
    sockaddr: tuple[str, int] | tuple[str, int, int, int] = best[4]  # type: ignore[assignment]
    return Target(bind, best[0], sockaddr)


def listen_on_port(target: Target, backlog: int, reuse_port: bool, v6only: bool) -> socket.socket:
    """Raises BindError."""
    # With proto 0 asyncio does not see a TCP socket and does not set TCP_NODELAY on
    # what it accepts; a request on a kept-alive connection then takes 44 ms.
    sock = socket.socket(target.family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if target.family == socket.AF_INET6 and v6only:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        _listen(sock, target, backlog)
    except OSError as exc:
        sock.close()
        raise BindError(_sentence(target, exc, reuse_port)) from exc
    return sock


def _listen(sock: socket.socket, target: Target, backlog: int) -> None:
    # Connections of the previous run may linger in TIME_WAIT for a minute.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(target.sockaddr)
    sock.listen(backlog)
    # A connection wakes several workers; those that come late must not block in accept().
    sock.setblocking(False)


def _sentence(target: Target, exc: OSError, reuse_port: bool) -> str:
    bind = target.bind
    if exc.errno == errno.EADDRINUSE:
        holder = holder_of_port(str(target.sockaddr[0]), bind.port)
        hint = "; to share it, that has to say --reuse-port too" if reuse_port else ""
        return already_in_use(str(bind), holder) + hint
    if exc.errno == errno.EACCES:
        return (
            f"{bind} may not be listened on by this user; ports below 1024 usually need "
            "privileges, choose a higher one with --bind"
        )
    if exc.errno == errno.EADDRNOTAVAIL:
        return (
            f"{bind} cannot be listened on because {target.sockaddr[0]} is not an address of "
            f"this machine; choose one that is with --bind, or :{bind.port} for every interface"
        )
    return f"{bind} cannot be listened on ({exc.strerror}); choose another address with --bind"

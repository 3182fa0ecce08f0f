"""The listening sockets: opened once by the master, inherited by every worker."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from time import monotonic
from typing import TypeAlias

from forkserve.config.bind import Bind
from forkserve.master.estate import Estate

LONGEST_SEARCH = 0.2
"""Seconds. The name of an address's holder is worth no longer wait."""

# Listener has a field of the module's name.
_Socket: TypeAlias = socket.socket
_Address: TypeAlias = IPv4Address | IPv6Address


class BindError(Exception):
    """An address cannot be listened on. The message is one sentence for the user."""


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket that listens, not blocking and closed on exec."""

    socket: _Socket

    url: str
    """``http://host:port``: the host as asked for, the port as it really is."""


@dataclass(frozen=True, slots=True)
class _Target:
    """A bind and the one address it was resolved to."""

    bind: Bind
    family: socket.AddressFamily
    sockaddr: tuple[str, int] | tuple[str, int, int, int]


def open_listeners(
    binds: Sequence[Bind], backlog: int = 2048, inherited: Sequence[_Socket] = ()
) -> list[Listener]:
    """Listen on every address, in order.

    ``backlog`` is how many connections may wait to be accepted, per socket; the system
    may cap it (Linux: net.core.somaxconn). ``inherited``: sockets of the master before this
    one, which are taken over where they fit, and closed where they are not wanted. Raises
    BindError if any address fails; then none is left open.
    """
    targets = [_resolve(bind) for bind in binds]
    ipv4_ports = {t.bind.port for t in targets if t.family == socket.AF_INET and t.bind.port}
    listeners: list[Listener] = []
    estate = Estate(inherited)
    try:
        for target in targets:
            if found := estate.claim(target.family, target.sockaddr):
                listeners.append(_take_over(found, target, backlog))
            else:
                listeners.append(_open(target, backlog, v6only=target.bind.port in ipv4_ports))
    except BaseException:
        for listener in listeners:
            listener.socket.close()
        raise
    finally:
        estate.close()
    return listeners


def _resolve(bind: Bind) -> _Target:
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
    return _Target(bind, best[0], sockaddr)


def _open(target: _Target, backlog: int, *, v6only: bool) -> Listener:
    sock: socket.socket | None = None
    try:
        # With proto 0 asyncio does not see a TCP socket and does not set TCP_NODELAY on
        # what it accepts; a request on a kept-alive connection then takes 44 ms.
        sock = socket.socket(target.family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        _listen(sock, target, backlog, v6only)
        url = f"http://{Bind(target.bind.host, sock.getsockname()[1])}"
    except BaseException as exc:
        if sock is not None:
            sock.close()
        if isinstance(exc, OSError):
            raise BindError(_sentence(target, exc)) from exc
        raise
    return Listener(sock, url)


def _take_over(sock: _Socket, target: _Target, backlog: int) -> Listener:
    # It listens already: this changes no more than the length of its queue.
    sock.listen(backlog)
    sock.setblocking(False)
    return Listener(sock, f"http://{Bind(target.bind.host, sock.getsockname()[1])}")


def _listen(sock: socket.socket, target: _Target, backlog: int, v6only: bool) -> None:
    # Connections of the previous run may linger in TIME_WAIT for a minute.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if target.family == socket.AF_INET6 and v6only:
        # [::] would take the IPv4 side of the port too, which has a socket of its own.
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind(target.sockaddr)
    sock.listen(backlog)
    # A connection wakes several workers; those that come late must not block in accept().
    sock.setblocking(False)


def _sentence(target: _Target, exc: OSError) -> str:
    bind = target.bind
    if exc.errno == errno.EADDRINUSE:
        return _in_use(target)
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


def _in_use(target: _Target) -> str:
    taken = f"{target.bind} is already in use by"
    pid = _find_holder(target)
    if pid is None:
        return f"{taken} another process; stop it or choose another address with --bind"
    holder = f"pid {pid}{_name_of(pid)}"
    if pid == os.getpid():
        return f"{taken} {holder}, this process itself; give each address only once with --bind"
    return f"{taken} {holder}; stop it or choose another address with --bind"


# Who holds an address. Linux only; elsewhere there is no /proc and so no answer.


def _find_holder(target: _Target) -> int | None:
    """The pid of a process that listens where ``target`` would, if it can be seen."""
    give_up = monotonic() + LONGEST_SEARCH
    wanted = ip_address(target.sockaddr[0])
    links = {f"socket:[{inode}]" for inode in _conflicting_inodes(wanted, target.bind.port)}
    if not links:
        return None
    # Of a master and its forked workers the lowest pid is the one to stop.
    for pid, link in _open_descriptors():
        if link in links:
            return pid
        if monotonic() > give_up:
            break
    return None


def _conflicting_inodes(wanted: _Address, port: int) -> Iterator[str]:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for held, held_port, inode in _listening(table):
            if held_port == port and _overlap(wanted, held):
                yield inode


def _listening(table: str) -> Iterator[tuple[_Address, int, str]]:
    """Address, port and inode of each listening socket (proc_net_tcp.txt of the kernel)."""
    try:
        with open(table) as lines:
            next(lines, None)
            for line in lines:
                _, local, _, state, *_, inode = line.split(maxsplit=10)[:10]
                # The listening ones come first; a busy machine has 100,000 others.
                if state != "0A":
                    return
                address, _, port = local.partition(":")
                yield _decode(address), int(port, 16), inode
    except (OSError, ValueError):
        return


def _decode(text: str) -> _Address:
    # 32-bit words, each printed as the machine's own byte order makes it a number.
    words = [int(text[i : i + 8], 16) for i in range(0, len(text), 8)]
    address = ip_address(struct.pack(f"={len(words)}I", *words))
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address


def _overlap(one: _Address, other: _Address) -> bool:
    if one.version == other.version:
        return one == other or one.is_unspecified or other.is_unspecified
    # [::] takes IPv4 too unless it was told not to, which cannot be seen here.
    return any(a.version == 6 and a.is_unspecified for a in (one, other))


def _open_descriptors() -> Iterator[tuple[int, str]]:
    """Each pid, lowest first, with what one of its descriptors is (``socket:[inode]``)."""
    for pid in sorted(int(name) for name in _listdir("/proc") if name.isdigit()):
        for fd in _listdir(f"/proc/{pid}/fd"):
            # Any process or descriptor may vanish meanwhile.
            with contextlib.suppress(OSError):
                yield pid, os.readlink(f"/proc/{pid}/fd/{fd}")


def _listdir(path: str) -> list[str]:
    # Other users' processes refuse.
    try:
        return os.listdir(path)
    except OSError:
        return []


def _name_of(pid: int) -> str:
    """``" (name)"`` or nothing. Never the arguments: they may hold secrets."""
    try:
        with open(f"/proc/{pid}/comm", errors="replace") as comm:
            name = comm.read().rstrip("\n")
    except OSError:
        return ""
    # A process chooses its own name; it shall not write escapes to our terminal.
    return f" ({''.join(c if c.isprintable() else '?' for c in name)})"

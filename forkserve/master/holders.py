"""Who holds an address. Linux only; elsewhere there is no /proc and so no answer."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from time import monotonic
from typing import TypeAlias

LONGEST_SEARCH = 0.2
"""Seconds. The name of an address's holder is worth no longer wait."""

_Address: TypeAlias = IPv4Address | IPv6Address

_ACCEPTS = 0x00010000
"""``__SO_ACCEPTCON`` of linux/net.h: the socket listens."""


def holder_of_port(host: str, port: int) -> int | None:
    """The pid of a process that listens where ``host`` (an IP address) and ``port`` would,
    if it can be seen."""
    return _lowest_pid(_conflicting_inodes(ip_address(host), port))


def holder_of_unix(address: str) -> int | None:
    """The pid of a process that listens on a Unix socket, if it can be seen. ``address`` is as
    it was bound, with an ``@`` in front if it is an abstract name."""
    return _lowest_pid(_unix_inodes(address))


def already_in_use(shown: str, pid: int | None, option: str = "--bind") -> str:
    """A sentence for the user. ``pid``: who holds what he calls ``shown``, by ``option``."""
    taken = f"{shown} is already in use by"
    if pid is None:
        return f"{taken} another process; stop it or choose another address with {option}"
    holder = _introduce(pid)
    if pid == os.getpid():
        return f"{taken} {holder}, this process itself; give each address only once with {option}"
    return f"{taken} {holder}; stop it or choose another address with {option}"


def _introduce(pid: int) -> str:
    """``pid 7 (name)``, or ``pid 7``. Never the arguments: they may hold secrets."""
    try:
        with open(f"/proc/{pid}/comm", errors="replace") as comm:
            name = comm.read().rstrip("\n")
    except OSError:
        return f"pid {pid}"
    # A process chooses its own name; it shall not write escapes to our terminal.
    return f"pid {pid} ({''.join(c if c.isprintable() else '?' for c in name)})"


def _lowest_pid(inodes: Iterator[str]) -> int | None:
    give_up = monotonic() + LONGEST_SEARCH
    links = {f"socket:[{inode}]" for inode in inodes}
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


def _unix_inodes(address: str) -> Iterator[str]:
    """The inode of each socket that listens on ``address`` (proc_pid_net(5), unix)."""
    try:
        with open("/proc/net/unix", errors="surrogateescape") as lines:
            next(lines, None)
            for line in lines:
                # Num, RefCount, Protocol, Flags, Type, St, Inode and, if it is bound, Path.
                fields = line.rstrip("\n").split(maxsplit=7)
                if fields[7:] == [address] and int(fields[3], 16) & _ACCEPTS:
                    yield fields[6]
    except (OSError, ValueError, IndexError):
        return


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

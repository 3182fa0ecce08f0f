"""What has the app opened that cannot be shared across a fork?

A fork copies memory and the table of descriptors, but only the thread that calls it
(fork(2)). So a thread, with whatever lock it holds, is missing in the child; and a
socket, an epoll or a database file is one object that all children then use at once.
The audit compares what the process has with what it had before the app was imported,
through /proc (proc(5); Linux only).
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import stat
import sys
import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from time import sleep

LOOKS, PAUSE = 5, 0.01
"""How often, and after how many seconds, it is looked whether an unknown thread lasts."""

IN_LIFESPAN = "open it in the lifespan startup, which runs in each worker"
START_IN_LIFESPAN = "start it in the lifespan startup, which runs in each worker"

_ANONYMOUS = {
    "eventpoll": "an epoll",
    "eventfd": "an eventfd",
    "inotify": "an inotify watch",
    "timerfd": "a timerfd",
    "signalfd": "a signalfd",
    "io_uring": "an io_uring",
    "fanotify": "a fanotify watch",
}
_DEVICES = re.compile(r"/dev/(nvidia|dri/|kfd|accel|neuron|habanalabs|davinci)")
_DATABASE = b"SQLite format 3\0"
_NATIVE_POOLS = {
    "libgomp": "OpenMP",
    "libiomp": "Intel OpenMP",
    "libomp": "OpenMP",
    "libtorch": "PyTorch",
    "libtensorflow": "TensorFlow",
    "libonnxruntime": "ONNX Runtime",
    "onnxruntime_pybind": "ONNX Runtime",
    "libmkl": "Intel MKL",
    "cygrpc": "gRPC",
    "polars": "Polars",
    "libopenblas": "OpenBLAS",
    "libscipy_openblas": "OpenBLAS",
}
"""What a library whose file name holds the key is known as; most telling first."""

_FORK_SAFE_POOLS = {"OpenBLAS"}
"""OpenBLAS ends its threads before a fork and starts others after it, by
pthread_atfork(3)."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that cannot be shared, and what to do about it."""

    what: str
    advice: str


@dataclass(frozen=True, slots=True)
class Baseline:
    """What was there before the app was imported."""

    fds: frozenset[tuple[int, str]]
    threads: frozenset[int]
    children: frozenset[int]

    @classmethod
    def take(cls, ours: Collection[int] = ()) -> Baseline:
        """``ours``: descriptors of forkserve itself, whatever becomes of them."""
        fds = {*_open_fds(), *((fd, "") for fd in ours)}
        return cls(frozenset(fds), frozenset(_threads()), frozenset(_children()))


def audit(before: Baseline) -> list[Finding]:
    """What there is now, was not there before, and cannot be shared."""
    return [
        *_new_threads(before),
        *_new_children(before),
        *_new_fds(before),
        *_mapped_devices(),
    ]


def summary(findings: Sequence[Finding]) -> str:
    """All of it in one phrase, for the log: what, and for each advice once what to do."""
    by_advice: dict[str, list[str]] = {}
    for finding in findings:
        by_advice.setdefault(finding.advice, []).append(finding.what)
    return "; ".join(f"{', '.join(whats)} ({advice})" for advice, whats in by_advice.items())


# -- threads ------------------------------------------------------------------------------


def _threads() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc/self/task")]
    except OSError:
        return [t.native_id for t in threading.enumerate() if t.native_id]


def _lasting_threads() -> set[int]:
    """The threads that there are, without those that are just ending.

    One that Python has joined still shows for a moment, until the kernel is done with it.
    """
    known = {t.native_id for t in threading.enumerate()}
    threads = set(_threads())
    for _ in range(LOOKS):
        if threads <= known:
            break
        sleep(PAUSE)
        threads &= set(_threads())
    return threads


def _new_threads(before: Baseline) -> Iterator[Finding]:
    named = {t.native_id: t.name for t in threading.enumerate()}
    native = []
    for tid in sorted(_lasting_threads() - before.threads - {threading.get_native_id()}):
        if tid in named:
            yield Finding(f'the thread "{named[tid]}"', START_IN_LIFESPAN)
        else:
            native.append(_comm(f"/proc/self/task/{tid}/comm"))
    pools = _pools_loaded()
    if native and not (pools and set(pools) <= _FORK_SAFE_POOLS):
        guilty = [pool for pool in pools if pool not in _FORK_SAFE_POOLS]
        names = ", ".join(guilty or sorted({f'"{name}"' for name in native}))
        count = "1 native thread" if len(native) == 1 else f"{len(native)} native threads"
        yield Finding(f"{count} ({names})", START_IN_LIFESPAN)


def _pools_loaded() -> list[str]:
    """The libraries in memory that are known to keep threads, without repetition."""
    maps = _read("/proc/self/maps").lower()
    return list(dict.fromkeys(name for mark, name in _NATIVE_POOLS.items() if mark in maps))


# -- children -----------------------------------------------------------------------------


def _children() -> list[int]:
    pids: list[int] = []
    for tid in _threads():
        pids += map(int, _read(f"/proc/self/task/{tid}/children").split())
    return pids


def _new_children(before: Baseline) -> Iterator[Finding]:
    tracker = _resource_tracker("_pid")
    for pid in sorted(set(_children()) - before.children):
        state = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()[:1]
        if pid != tracker and state not in ([], ["Z"], ["X"]):
            what = f'the child process {pid} ("{_comm(f"/proc/{pid}/comm")}")'
            yield Finding(what, START_IN_LIFESPAN)


def _resource_tracker(attribute: str) -> int | None:
    """Of the helper that Python itself starts for shared memory; made to be inherited."""
    module = sys.modules.get("multiprocessing.resource_tracker")
    return getattr(getattr(module, "_resource_tracker", None), attribute, None)


# -- descriptors --------------------------------------------------------------------------


def _open_fds() -> Iterator[tuple[int, str]]:
    """Each descriptor and what it is, such as ``socket:[1234]`` or a path."""
    for folder in ("/proc/self/fd", "/dev/fd"):
        with contextlib.suppress(OSError):
            for name in os.listdir(folder):
                with contextlib.suppress(OSError):  # the one that lists them
                    link = os.readlink(f"{folder}/{name}") if folder.startswith("/proc") else ""
                    yield int(name), link
            return


def _new_fds(before: Baseline) -> Iterator[Finding]:
    ours = {fd for fd, link in before.fds if not link} | {0, 1, 2, _resource_tracker("_fd")}
    loops: list[tuple[int, str]] = []
    found: list[tuple[int, str]] = []
    for fd, link in sorted(set(_open_fds()) - before.fds):
        if fd in ours:
            continue
        with contextlib.suppress(OSError):
            if what := _trouble(fd, link):
                (loops if _may_be_of_a_loop(what) else found).append((fd, what))
    # An event loop holds an epoll and a socket pair, at least.
    kinds = " ".join(what for _, what in loops)
    if "an epoll" in kinds and ("a socket pair" in kinds or "an eventfd" in kinds):
        fds = ", ".join(str(fd) for fd, _ in loops)
        yield Finding(f"an event loop (fds {fds})", IN_LIFESPAN)
    else:
        found += loops
    for fd, what in found:
        yield Finding(f"{what} (fd {fd})", IN_LIFESPAN)


def _may_be_of_a_loop(what: str) -> bool:
    return what.startswith(("an epoll", "an eventfd", "a socket pair", "a pipe"))


def _trouble(fd: int, link: str) -> str:
    """What a descriptor is, if it cannot be shared; else an empty string."""
    mode = os.fstat(fd).st_mode
    if stat.S_ISSOCK(mode):
        return _socket(fd)
    if stat.S_ISFIFO(mode):
        return "a pipe"
    if link.startswith("anon_inode:"):
        kind = link.removeprefix("anon_inode:").strip("[]")
        return _ANONYMOUS.get(kind, "" if kind == "pidfd" else f"an anonymous {kind}")
    if _DEVICES.match(link):
        return f"the accelerator device {link}"
    return _file(fd, link) if stat.S_ISREG(mode) else ""


def _socket(fd: int) -> str:
    with socket.socket(fileno=os.dup(fd)) as sock:
        if sock.family == socket.AF_UNIX:
            return _unix_socket(sock)
        kind = {socket.SOCK_STREAM: "TCP", socket.SOCK_DGRAM: "UDP"}.get(sock.type, "raw")
        with contextlib.suppress(OSError):
            return f"a {kind} connection to {_address(sock.getpeername())}"
        with contextlib.suppress(OSError):
            if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                return f"a {kind} socket listening on {_address(sock.getsockname())}"
        with contextlib.suppress(OSError, IndexError, TypeError):
            if (name := sock.getsockname())[1]:
                return f"a {kind} socket on {_address(name)}"
        return f"an unconnected {kind} socket"


def _unix_socket(sock: socket.socket) -> str:
    name = sock.getsockname()
    if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return f"a Unix socket listening on {_printable(name)}"
    try:
        peer = sock.getpeername()
    except OSError:
        return f"a Unix socket {_printable(name)}".rstrip()
    return f"a Unix connection to {_printable(peer)}" if peer else "a socket pair"


def _address(name: tuple[object, ...] | str) -> str:
    if not isinstance(name, tuple):
        return str(name)
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"


def _printable(name: str | bytes) -> str:
    text = name.decode("utf-8", "replace") if isinstance(name, bytes) else name
    return "".join(c if c.isprintable() else "@" for c in text)


def _file(fd: int, link: str) -> str:
    flags = _flags(fd)
    # What is only read can be shared, though not its position. What is only appended to,
    # such as a log, can too: the kernel puts each write at the end (open(2), O_APPEND).
    if flags & os.O_ACCMODE == os.O_RDONLY or flags & os.O_APPEND:
        return ""
    if link.startswith(("/memfd:", "/dev/shm/")):
        return ""  # memory, made to be shared
    with contextlib.suppress(OSError):
        # Closing any descriptor of a database drops SQLite's locks on it, so not ours to open.
        if os.pread(fd, len(_DATABASE), 0) == _DATABASE:
            return f"the SQLite database {link}"
    return f"the file {link}, open for writing"


def _flags(fd: int) -> int:
    found = re.search(r"^flags:\s*([0-7]+)", _read(f"/proc/self/fdinfo/{fd}"), re.M)
    return int(found[1], 8) if found else os.O_RDONLY


def _mapped_devices() -> Iterator[Finding]:
    found = {m[0] for m in re.finditer(r"/dev/\S+", _read("/proc/self/maps"))}
    held = {os.path.realpath(link) for _, link in _open_fds()}
    for path in sorted(found - held):
        if _DEVICES.match(path):
            yield Finding(f"a mapping of the accelerator device {path}", IN_LIFESPAN)


# -- reading /proc ------------------------------------------------------------------------


def _read(path: str) -> str:
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _comm(path: str) -> str:
    """A name that its owner has chosen: it shall not write escapes into our log."""
    return "".join(c if c.isprintable() else "?" for c in _read(path).rstrip("\n"))

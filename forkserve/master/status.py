"""How it goes, as one document: what the supervisor knows, what the workers show, what the
kernel says. Read by ``forkserve status``, ``forkserve top`` and the monitor.

Times are in seconds, sizes in bytes; ``at``, ``now`` and ``started`` are by the wall clock
(unix seconds), everything else is measured by the monotonic one. What is not known is None.
"""

from __future__ import annotations

import os
import platform
import socket
import struct
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from forkserve import __version__
from forkserve.config.settings import Settings
from forkserve.master.chronicle import Chronicle
from forkserve.master.family import Family, WorkerChild
from forkserve.master.listeners import Listener
from forkserve.memory import of_kinds, resident
from forkserve.scoreboard import Snapshot, SwitchboardRow
from forkserve.supervisor import Supervisor
from forkserve.supervisor.state import Phase, State, Template, Worker

Document = dict[str, Any]

_TCP_INFO = struct.Struct("=24xII")
"""``tcpi_unacked`` and ``tcpi_sacked`` of linux/tcp.h. Of a socket that listens they are how
many wait to be accepted, and how many may (tcp_get_info() of the kernel)."""


class Memory:
    """What each process has in memory. The kernel walks every page to tell somebody's share
    (PSS), so that is looked up again only now and then, and never for long."""

    FRESH = 5.0
    """Seconds for which a share counts as known."""

    LONGEST_LOOK = 0.01
    """Seconds that a status may take for it: the others have to wait for the next one."""

    def __init__(self) -> None:
        self._shares: dict[int, tuple[float, int]] = {}

    def look(self, pids: Sequence[int]) -> None:
        """Look up shares that are unknown or old, those first that have waited longest."""
        began = monotonic()
        self._shares = {pid: self._shares[pid] for pid in pids if pid in self._shares}
        for pid in sorted(pids, key=lambda pid: self._shares.get(pid, (0.0, 0))[0]):
            now = monotonic()
            seen, _ = self._shares.get(pid, (float("-inf"), 0))
            if now - seen < self.FRESH or now - began > self.LONGEST_LOOK:
                break
            self._shares[pid] = now, of_kinds(pid, "Pss")[0]

    def share(self, pid: int | None) -> int | None:
        return self._shares.get(pid or 0, (0.0, 0))[1] or None


@dataclass(slots=True)
class Status:
    """Writes the document."""

    settings: Callable[[], Settings]
    """Those in force."""

    supervisor: Supervisor
    family: Family
    listeners: Sequence[Listener]
    chronicle: Chronicle
    board: SwitchboardRow | None
    faults: Callable[[], int]
    _memory: Memory = field(default_factory=Memory)
    _began: float = field(default_factory=monotonic)
    _started: float = field(default_factory=time.time)

    def document(self) -> Document:
        now, state, chronicle = monotonic(), self.supervisor.state, self.chronicle
        settings = self.settings()
        self._memory.look([w.pid for w in self.family.workers.values() if w.pid])
        return {
            "version": __version__,
            "python": platform.python_version(),
            "pid": os.getpid(),
            "name": settings.name,
            "app": settings.app,
            "binds": [listener.url for listener in self.listeners],
            "state": stage(state),
            "generation": state.wanted_generation,
            "trying": state.trial if state.current else None,
            "started": round(self._started, 3),
            "now": round(time.time(), 3),
            "uptime": _seconds(now - self._began),
            "workers_wanted": state.target,
            "workers_ready": len(state.serving()),
            "workers": [self._worker(worker, now) for worker in state.workers.values()],
            "templates": [_template(one, now) for one in state.templates.values()],
            "switchboard": self._switchboard(state),
            "queues": [_queue(listener) for listener in self.listeners],
            "reloads": {"done": chronicle.reloads_done, "failed": chronicle.reloads_failed},
            "restarts": dict(chronicle.restarts),
            "last_failure": chronicle.last_failure,
            "deaths": list(chronicle.deaths),
            "events": list(chronicle.lines),
            "faults": self.faults(),
        }

    def _worker(self, worker: Worker, now: float) -> Document:
        child = self.family.workers.get(worker.id)
        ready = worker.ready_at
        return {
            "id": worker.id,
            "slot": worker.slot,
            "pid": worker.pid,
            "generation": worker.generation,
            "phase": worker.phase.value,
            "spare": worker.spare,
            "age": _seconds(now - worker.born),
            "ready_for": _seconds(now - ready) if ready is not None else None,
            "boot": _seconds(ready - worker.born) if ready is not None else None,
            "slow": worker.slow,
            "rss": (resident(worker.pid) or None) if worker.pid else None,
            "pss": self._memory.share(worker.pid),
        } | (_row(child, now) if child is not None else {})

    def _switchboard(self, state: State) -> Document | None:
        boards = [b for b in state.switchboards.values() if b.phase is Phase.READY]
        if not boards or self.board is None:
            return None
        idle, waiting = self.board.held()
        return {"pid": boards[-1].pid, "idle": idle, "waiting": waiting}


def stage(state: State) -> str:
    """Where the service is, in one word."""
    if state.stopping:
        return "stopping"
    if state.current and (state.trial is not None or state.reload_began is not None):
        return "reloading"
    return "serving" if state.all_ready_once else "starting"


def _row(child: WorkerChild, now: float) -> Document:
    seen = child.row.snapshot()
    return {
        "requests": seen.requests,
        "in_flight": seen.in_flight,
        "serving": _serving(seen, now),
    }


def _serving(seen: Snapshot, now: float) -> Mapping[str, Any] | None:
    if not seen.serving:
        return None
    method, _, path = seen.serving.partition(" ")
    return {"method": method, "path": path, "for": _seconds(max(0.0, now - seen.serving_since))}


def _template(template: Template, now: float) -> Document:
    return {
        "id": template.id,
        "pid": template.pid,
        "generation": template.generation,
        "phase": template.phase.value,
        "age": _seconds(now - template.born),
        "rss": (resident(template.pid) or None) if template.pid else None,
    }


def _queue(listener: Listener) -> Document:
    length, limit = queue_of(listener.socket)
    return {"bind": listener.url, "length": length, "limit": limit}


def queue_of(listening: socket.socket) -> tuple[int | None, int | None]:
    """How many connections wait to be accepted, and how many may. The kernel says so of TCP
    on Linux."""
    if sys.platform != "linux" or listening.family == socket.AF_UNIX:
        return None, None
    try:
        said = listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
        length, limit = _TCP_INFO.unpack(said)
    except (OSError, struct.error):
        return None, None  # it has been closed, or is no TCP socket at all
    return length, limit


def _seconds(time: float) -> float:
    return round(time, 3)

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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from forkserve import __version__
from forkserve.config.settings import Settings
from forkserve.master.chronicle import Chronicle
from forkserve.master.listeners import Listener
from forkserve.master.rows import Rows
from forkserve.memory import resident
from forkserve.readings import BOUNDS, Snapshot, Totals
from forkserve.scoreboard import Scoreboard, SwitchboardRow
from forkserve.supervisor.brain import Supervisor
from forkserve.supervisor.phases import Phase
from forkserve.supervisor.state import State, Template, Worker

Document = dict[str, Any]

NOTHING = Scoreboard(1).row(0).snapshot(0.0)
"""What a row says that nobody has written to."""

_TCP_INFO = struct.Struct("=24xII")
"""``tcpi_unacked`` and ``tcpi_sacked`` of linux/tcp.h. Of a socket that listens they are how
many wait to be accepted, and how many may (tcp_get_info() of the kernel)."""


@dataclass(slots=True)
class Status:
    """Writes the document."""

    settings: Callable[[], Settings]
    """Those in force."""

    supervisor: Supervisor
    rows: Rows
    listeners: Sequence[Listener]
    chronicle: Chronicle
    board: SwitchboardRow | None
    faults: Callable[[], int]
    _began: float = field(default_factory=monotonic)
    _started: float = field(default_factory=time.time)

    def document(self) -> Document:
        now, state, chronicle = monotonic(), self.supervisor.state, self.chronicle
        settings = self.settings()
        self.rows.weigh(now, share_out=True)
        seen = self.rows.snapshots(now)
        totals = self.rows.totals(seen)
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
            "upgrading_to": state.successor.pid if state.successor else None,
            "succeeded_by": state.succeeded_by,
            "replaced": state.replaced,
            "started": round(self._started, 3),
            "now": round(time.time(), 3),
            "uptime": _seconds(now - self._began),
            "workers_wanted": state.target,
            "workers_ready": len(state.serving()),
            "workers": [
                _worker(worker, seen.get(worker.id, NOTHING), now)
                for worker in state.workers.values()
            ],
            "templates": [_template(one, now) for one in state.templates.values()],
            "switchboard": self._switchboard(state),
            "queues": [_queue(listener) for listener in self.listeners],
            "reloads": {"done": chronicle.reloads_done, "failed": chronicle.reloads_failed},
            "restarts": dict(chronicle.restarts),
            "last_failure": chronicle.last_failure,
            "deaths": list(chronicle.deaths),
            "events": list(chronicle.lines),
            "durations": _durations(totals),
            "totals": {
                "requests": totals.requests,
                "lost": totals.lost,
                "accepts": totals.accepts,
                "busy": _seconds(totals.busy),
            },
            "faults": self.faults(),
        }

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


def _worker(worker: Worker, seen: Snapshot, now: float) -> Document:
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
        "requests": seen.requests,
        "in_flight": seen.in_flight,
        "websockets": seen.websockets,
        "busy": _seconds(seen.done.busy),
        "lag": _seconds(seen.lag),
        "highest_lag": _seconds(seen.highest_lag),
        "accepting": seen.accepting,
        "accepts": seen.done.accepts,
        "connections": seen.connections,
        "serving": _serving(seen, now),
        "rss": seen.rss or None,
        "pss": seen.pss or None,
        "slow": seen.slow,
    }


def _serving(seen: Snapshot, now: float) -> Document | None:
    if not seen.method:
        return None
    since = _seconds(max(0.0, now - seen.serving_since))
    return {"method": seen.method, "path": seen.path, "for": since}


def _durations(totals: Totals) -> Document:
    """Not cumulative: one count more than there are bounds, for what took longer than all."""
    counts = list(totals.durations)
    return {"bounds": list(BOUNDS), "counts": counts, "sum": _seconds(totals.seconds)}


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

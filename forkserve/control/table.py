"""The status for people, without anything that a terminal would act on."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from forkserve.control.instances import Instance

MOST_DEATHS = 10
"""So many are shown; the document has more."""

Status = Mapping[str, Any]

_HEAD = ("ID", "PID", "GEN", "PHASE", "AGE", "REQUESTS", "NOW", "BUSY", "LAG", "MEMORY", "SERVING")
_LEFT = ("PHASE", "SERVING")


def table(status: Status) -> str:
    """The whole of it."""
    return "\n".join(printable(line) for line in _lines(status))


def instances_table(found: Sequence[Instance]) -> str:
    """One row for each control socket, with what its master says."""
    rows = [("PID", "NAME", "STATE", "WORKERS", "UP", "APP", "BINDS", "CONTROL")]
    for one in found:
        status = one.status
        if status is None:
            rows.append((str(one.pid or "?"), "", "unknown", "", "", "", "", one.path))
            continue
        ready = f"{status['workers_ready']} of {status['workers_wanted']}"
        up, binds = duration(status["uptime"]), " ".join(status["binds"])
        who = (str(status["pid"]), status["name"] or "-", status["state"])
        rows.append((*who, ready, up, status["app"], binds, one.path))
    return "\n".join(printable(line) for line in _aligned(rows, rows[0]))


def _lines(status: Status) -> Iterator[str]:
    name = status["name"] or "forkserve"
    binds = ", ".join(status["binds"])
    yield f"{name} (pid {status['pid']}): {status['state']} {status['app']} on {binds}"
    trying = f", generation {status['trying']} is tried" if status["trying"] else ""
    yield (
        f"{status['workers_ready']} of {status['workers_wanted']} workers ready; generation "
        f"{status['generation']}{trying}; up {duration(status['uptime'])}; forkserve "
        f"{status['version']}, Python {status['python']}"
    )
    yield _counts(status)
    yield from _waiting(status)
    yield ""
    yield from _aligned([_HEAD, *map(_row, status["workers"])], _LEFT)
    if failure := status["last_failure"]:
        yield ""
        yield f"last failure: {_when(failure['at'])} {failure['text']}"
    deaths = [death for death in status["deaths"] if not death["planned"]]
    if deaths:
        yield ""
        yield "last deaths:"
        yield from (f"  {_when(death['at'])} {death['text']}" for death in deaths[-MOST_DEATHS:])


def _counts(status: Status) -> str:
    reloads = status["reloads"]
    counts = [f"{reloads['done']} reloads done, {reloads['failed']} failed"]
    replaced = [f"{n} {cause.replace('_', ' ')}" for cause, n in status["restarts"].items()]
    if replaced:
        counts.append(f"workers replaced: {', '.join(replaced)}")
    if status["faults"]:
        counts.append(f"{status['faults']} faults in forkserve itself (see the log)")
    return "; ".join(counts)


def _waiting(status: Status) -> Iterator[str]:
    for queue in status["queues"]:
        if queue["length"] is not None:
            yield (
                f"{queue['length']} connections wait to be accepted on {queue['bind']} (at most "
                f"{queue['limit']})"
            )
    if board := status["switchboard"]:
        yield (
            f"switchboard (pid {board['pid']}): {board['idle']} idle connections, "
            f"{board['waiting']} with a request"
        )


def _row(worker: Mapping[str, Any]) -> tuple[str, ...]:
    busy = worker["busy"] / worker["ready_for"] if worker["ready_for"] else 0.0
    serving = worker["serving"]
    doing = (
        f"{serving['method']} {serving['path']} for {duration(serving['for'])}" if serving else ""
    )
    memory = worker["pss"] or worker["rss"]
    return (
        str(worker["id"]),
        str(worker["pid"] or "-"),
        str(worker["generation"]),
        "spare" if worker["spare"] and worker["phase"] == "ready" else worker["phase"],
        duration(worker["age"]),
        str(worker["requests"]),
        str(worker["in_flight"]),
        f"{min(busy, 1.0):.0%}",
        f"{worker['lag'] * 1000:.0f} ms",
        f"{memory / (1 << 20):.0f} MiB" if memory else "-",
        doing,
    )


def _aligned(rows: Sequence[Sequence[str]], left: Sequence[str]) -> Iterator[str]:
    """Columns, those called ``left`` at their left edge and all others at their right."""
    head = rows[0]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    for row in rows:
        cells = (
            cell.ljust(width) if name in left else cell.rjust(width)
            for name, cell, width in zip(head, row, widths, strict=True)
        )
        yield "  ".join(cells).rstrip()


def duration(seconds: float) -> str:
    """``3.4 s``, ``12 min``, ``5 h 3 min``, ``2 d 4 h``."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = int(seconds) // 60
    hours, days = minutes // 60, minutes // 1440
    if hours < 1:
        return f"{minutes} min"
    return f"{days} d {hours % 24} h" if days else f"{hours} h {minutes % 60} min"


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def printable(text: str) -> str:
    """Whoever answers could be anybody; nothing of it shall steer a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)

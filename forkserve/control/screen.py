"""What ``forkserve top`` shows: two looks at the status, as a picture that fits the terminal.

Pure: no terminal, no clock. What comes from outside, such as the path of a request, reaches the
terminal through :func:`printable` only, and never as markup.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from forkserve.control.rates import Rate, Status, answered, between
from forkserve.control.table import printable
from forkserve.memory import mebibytes

Worker = Mapping[str, Any]
"""One that has only been asked for yet has done nothing: what it would have done is not there."""

LONG = 1.0
"""Seconds after which a request in flight, or ..."""

VERY_LONG = 10.0

FEWEST_EVENTS = 3
"""So many of the last events are shown before all workers are."""

TALL = 12
"""Lines from which on there is room for events at all, where workers are many."""

GAP = 2
"""Columns between two columns, and two facts."""

REQUEST = 24
"""Columns that the request in flight should have, at least."""

NOTHING = "–"

_PHASES = {
    "ready": "green",
    "spare": "cyan",
    "starting": "cyan",
    "draining": "yellow",
    "killed": "red",
    "serving": "green",
    "reloading": "cyan",
    "stopping": "yellow",
}
_LEVELS = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "bold red"}


def picture(
    now: Status, before: Status | None, width: int, height: int, trouble: str = ""
) -> RenderableType:
    """The screen, ``width`` columns and at most ``height`` lines of it. ``trouble``: why there
    is no later look than this, if that is worth telling."""
    rates = between(before, now)
    head = [_facts(_of_the_service(now, trouble), width), _facts(_of_the_load(now, before), width)]
    if now["last_failure"] and height >= TALL:
        head.append(_failure(now["last_failure"]))
    room = height - len(head) - 1  # the titles of the columns
    workers, events = now["workers"], now["events"]
    spared = min(FEWEST_EVENTS, len(events)) + 1 if events and height >= TALL else 0
    shown = _most_telling(workers, max(1, room - spared))
    lines: list[RenderableType] = [*head, _table(shown, rates, width)]
    used = len(shown)
    if len(shown) < len(workers):
        lines.append(_one_line(_the_others(workers, shown)))
        used += 1
    if (left := room - used - 1) > 0:
        lines.append(Rule(Text("last events · q quits"), align="left", style="dim"))
        lines += [_event(event) for event in events[-left:]]
    return Group(*lines)


# -- the head -------------------------------------------------------------------------------


def _of_the_service(now: Status, trouble: str) -> list[Text]:
    reloads = now["reloads"]
    told = [
        Text(printable(now["name"] or now["app"]), style="bold"),
        Text(printable(now["state"]), style=_PHASES.get(now["state"], "")),
        Text(f"generation {now['generation']}"),
    ]
    if trouble:
        told.insert(1, Text(trouble, style="red"))
    if now.get("upgrading_to") is not None:
        told.append(Text(f"upgrading to pid {now['upgrading_to']}", style="cyan"))
    if now["trying"] is not None:
        told.append(Text(f"trying {now['trying']}", style="cyan"))
    told.append(Text(f"up {_time(now['uptime'])}"))
    wanted, ready = now["workers_wanted"], now["workers_ready"]
    told.append(Text(f"{ready} of {wanted} ready", style="yellow" if ready < wanted else ""))
    told.append(Text(f"reloads {reloads['done']}"))
    if reloads["failed"]:
        told.append(Text(f"failed {reloads['failed']}", style="red"))
    told += [Text(f"pid {now['pid']}"), Text(f"forkserve {printable(now['version'])}", style="dim")]
    return told


def _of_the_load(now: Status, before: Status | None) -> list[Text]:
    rate = answered(before, now)
    a_second = NOTHING if rate is None else f"{rate:.1f}"
    in_flight = sum(worker.get("in_flight", 0) for worker in now["workers"])
    told = [Text(f"{a_second} requests/s"), Text(f"{in_flight} in flight")]
    told += [_queue(queue) for queue in now["queues"]]
    if board := now["switchboard"]:
        told.append(Text(f"switchboard {board['idle']} idle, {board['waiting']} waiting"))
    return told


def _queue(queue: Mapping[str, Any]) -> Text:
    length, limit = queue["length"], queue["limit"]
    waiting = NOTHING if length is None else str(length)
    most = "" if limit is None else f" of {limit}"
    return Text(
        f"queue {waiting}{most} at {printable(queue['bind'])}",
        style="yellow" if length else "",
    )


def _facts(facts: Sequence[Text], width: int) -> Text:
    """As many as fit, the first ones first."""
    line = facts[0].copy()
    for fact in facts[1:]:
        if line.cell_len + GAP + fact.cell_len > width:
            break
        line = Text.assemble(line, " " * GAP, fact)
    return _one_line(line)


def _failure(failure: Mapping[str, Any]) -> Text:
    told = f"last failure {_clock(failure['at'])}  {printable(failure['text'])}"
    return _one_line(Text(told, style="red"))


# -- the workers ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Column:
    title: str
    width: int
    needed: int
    """Of those with the highest number there is none where they do not all fit."""

    cell: Callable[[Worker, Rate | None], RenderableType]
    justify: Literal["left", "right"] = "right"


def _columns() -> list[_Column]:
    return [
        _Column("worker", 6, 0, lambda w, _: Text(str(w["id"]))),
        _Column("pid", 7, 6, lambda w, _: Text(str(w["pid"] or NOTHING))),
        _Column("gen", 4, 5, lambda w, _: Text(str(w["generation"]))),
        _Column("phase", 8, 0, lambda w, _: _phase(w), justify="left"),
        _Column("age", 8, 8, lambda w, _: Text(_time(w["age"]))),
        _Column("requests", 9, 10, lambda w, _: Text(str(w.get("requests", 0)))),
        _Column("req/s", 7, 2, lambda _, r: Text(f"{r.requests:.1f}" if r else NOTHING)),
        _Column("busy", 5, 3, lambda _, r: Text(f"{r.busy:.0%}" if r else NOTHING)),
        _Column("", 8, 9, lambda _, r: _bar(r), justify="left"),
        _Column("lag", 8, 5, lambda w, _: _lag(w)),
        _Column("memory", 9, 4, lambda w, _: Text(_memory(w))),
        _Column("flight", 6, 7, lambda w, _: Text(str(w.get("in_flight") or ""))),
        _Column("for", 8, 1, lambda w, _: _since(w)),
    ]


def _table(workers: Sequence[Worker], rates: Mapping[int, Rate], width: int) -> Table:
    columns = _fitting(_columns(), width)
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), width=width, header_style="dim")
    for column in columns:
        table.add_column(column.title, width=column.width, justify=column.justify, no_wrap=True)
    table.add_column("request", ratio=1, no_wrap=True)
    for worker in workers:
        rate = rates.get(worker["id"])
        cells = [column.cell(worker, rate) for column in columns]
        table.add_row(*cells, _one_line(_request(worker)))
    return table


def _fitting(columns: Sequence[_Column], width: int) -> list[_Column]:
    left = list(columns)
    while sum(c.width + GAP for c in left) + REQUEST > width and any(c.needed for c in left):
        left.remove(max(left, key=lambda c: c.needed))
    return left


def _most_telling(workers: Sequence[Worker], room: int) -> Sequence[Worker]:
    """All of them or, where that is too many, those that are held up, longest first, then those
    that come and go; shown in their order."""
    if len(workers) <= room:
        return workers
    chosen = {w["id"] for w in sorted(workers, key=_interest)[: max(0, room - 1)]}
    return [w for w in workers if w["id"] in chosen]


def _interest(worker: Worker) -> tuple[float, bool, bool]:
    """The less, the more. The same for all that do well, or they would change places all the
    time."""
    held_up = max((worker.get("serving") or {"for": 0.0})["for"], worker.get("lag", 0.0))
    comes_or_goes = worker["phase"] != "ready"
    return -held_up if held_up >= LONG else 0.0, not comes_or_goes, not worker["slow"]


def _the_others(workers: Sequence[Worker], shown: Sequence[Worker]) -> Text:
    told = {worker["id"] for worker in shown}
    left = [worker for worker in workers if worker["id"] not in told]
    phases = Counter(map(_stands, left))
    which = ", ".join(f"{n} {printable(phase)}" for phase, n in phases.items())
    return Text(f"… and {len(left)} more: {which}", style="dim")


def _stands(worker: Worker) -> str:
    ready = worker["phase"] == "ready"
    return "spare" if worker["spare"] and ready else str(worker["phase"])


def _phase(worker: Worker) -> Text:
    phase = _stands(worker)
    return Text(printable(phase), style=_PHASES.get(phase, ""))


def _bar(rate: Rate | None) -> RenderableType:
    return ProgressBar(total=1.0, completed=rate.busy, width=8) if rate else Text()


def _lag(worker: Worker) -> Text:
    if (lag := worker.get("lag")) is None:
        return Text(NOTHING)
    return Text(_time(lag), style=_urgency(lag) or ("yellow" if worker["slow"] else ""))


def _memory(worker: Worker) -> str:
    size = worker["rss"] if worker["pss"] is None else worker["pss"]
    return NOTHING if size is None else mebibytes(size)


def _since(worker: Worker) -> Text:
    if not (serving := worker.get("serving")):
        return Text()
    return Text(_time(serving["for"]), style=_urgency(serving["for"]))


def _request(worker: Worker) -> Text:
    if not (serving := worker.get("serving")):
        return Text()
    told = printable(f"{serving['method']} {serving['path']}")
    return Text(told, style=_urgency(serving["for"]))


def _urgency(seconds: float) -> str:
    return "red" if seconds >= VERY_LONG else "yellow" if seconds >= LONG else ""


# -- words ----------------------------------------------------------------------------------


def _event(event: Mapping[str, Any]) -> Text:
    text = Text.assemble(
        (_clock(event["at"]), "dim"),
        " " * GAP,
        (printable(event["text"]), _LEVELS.get(str(event["level"]).upper(), "")),
    )
    return _one_line(text)


def _one_line(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _clock(at: float) -> str:
    return f"{datetime.fromtimestamp(at):%H:%M:%S}"


def _time(seconds: float) -> str:
    """``3 ms``, ``2.5 s``, ``48 s``, ``3 min``, ``2 h 05``, ``4 d``."""
    if seconds < 0.1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    if minutes < 120:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h {minutes % 60:02}" if hours < 48 else f"{hours // 24} d"

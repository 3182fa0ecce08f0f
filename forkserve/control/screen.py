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

from forkserve.control.fitting import facts, one_line, wrapped
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

HIGH = 20
"""Lines from which on there is room for the reason of what went wrong, which is at the end ..."""

MOST_LINES = 3
"""... in so many."""

SHORT_NAME = 12
"""Columns that a name may have on any terminal."""

REQUEST = 16
"""Columns that the request in flight should have, at least ..."""

WHOLE_REQUEST = 32
"""... and before there are other columns than the ..."""

ESSENTIAL = 6
"""... first ones, by how much they are needed."""

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
    most = MOST_LINES if height >= HIGH else 1
    service = [_name(now, width), *_of_the_service(now, trouble)]
    head = [facts(service, width), facts(_of_the_load(now, before), width)]
    if now["last_failure"] and height >= TALL:
        head += _failure(now["last_failure"], width, most)
    room = height - len(head) - 1  # the titles of the columns
    workers, events = now["workers"], now["events"]
    spared = min(FEWEST_EVENTS, len(events)) + 1 if events and height >= TALL else 0
    shown = _most_telling(workers, max(1, room - spared))
    lines: list[RenderableType] = [*head, _table(shown, rates, width)]
    used = len(shown)
    if len(shown) < len(workers):
        lines.append(one_line(_the_others(workers, shown)))
        used += 1
    if (left := room - used - 1) > 0:
        lines.append(Rule(Text("last events · q quits"), align="left", style="dim"))
        lines += _last(events, width, left, most)
    return Group(*lines)


# -- the head -------------------------------------------------------------------------------


def _name(now: Status, width: int) -> Text:
    """It must not take the room of all else."""
    name = Text(printable(now["name"] or now["app"]), style="bold")
    name.truncate(max(width // 3, SHORT_NAME), overflow="ellipsis")
    return name


def _of_the_service(now: Status, trouble: str) -> list[Text]:
    reloads, wanted, ready = now["reloads"], now["workers_wanted"], now["workers_ready"]
    told = [
        Text(printable(now["state"]), style=_PHASES.get(now["state"], "")),
        Text(f"{ready} of {wanted} ready", style="yellow" if ready < wanted else ""),
        Text(f"generation {now['generation']}"),
    ]
    if trouble:
        told.insert(0, Text(trouble, style="red"))
    if now.get("upgrading_to") is not None:
        told.append(Text(f"upgrading to pid {now['upgrading_to']}", style="cyan"))
    if now["trying"] is not None:
        told.append(Text(f"trying {now['trying']}", style="cyan"))
    told.append(Text(f"up {_time(now['uptime'])}"))
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
    queues = sorted(now["queues"], key=lambda queue: -(queue["length"] or 0))
    told += [_queue(queue, named=len(queues) > 1) for queue in queues]
    if board := now["switchboard"]:
        told.append(Text(f"switchboard {board['idle']} idle, {board['waiting']} waiting"))
    if len(queues) == 1:
        told.append(Text(printable(queues[0]["bind"])))
    return told


def _queue(queue: Mapping[str, Any], named: bool) -> Text:
    length, limit = queue["length"], queue["limit"]
    waiting = NOTHING if length is None else str(length)
    most = "" if limit is None else f" of {limit}"
    which = f" at {printable(queue['bind'])}" if named else ""
    return Text(f"queue {waiting}{most}{which}", style="yellow" if length else "")


def _failure(failure: Mapping[str, Any], width: int, most: int) -> list[Text]:
    before = Text(f"last failure {_clock(failure['at'])}  ", style="red")
    return wrapped(before, Text(printable(failure["text"]), style="red"), width, most)


# -- the workers ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Column:
    title: str
    width: int
    needed: int
    """0: always. The one with the highest number is left out first where not all fit."""

    cell: Callable[[Worker, Rate | None], RenderableType]
    justify: Literal["left", "right"] = "right"


def _columns() -> list[_Column]:
    return [
        _Column("worker", 6, 0, lambda w, _: Text(str(w["id"]))),
        _Column("pid", 7, 7, lambda w, _: Text(str(w["pid"] or NOTHING))),
        _Column("gen", 4, 6, lambda w, _: Text(str(w["generation"]))),
        _Column("phase", 8, 0, lambda w, _: _phase(w), justify="left"),
        _Column("age", 7, 9, lambda w, _: Text(_time(w["age"]))),
        _Column("requests", 9, 11, lambda w, _: Text(str(w.get("requests", 0)))),
        _Column("req/s", 7, 2, lambda _, r: Text(f"{r.requests:.1f}" if r else NOTHING)),
        _Column("busy", 4, 3, lambda _, r: Text(f"{r.busy:.0%}" if r else NOTHING)),
        _Column("", 8, 10, lambda _, r: _bar(r), justify="left"),
        _Column("lag", 7, 4, lambda w, _: _lag(w)),
        _Column("memory", 8, 5, lambda w, _: Text(_memory(w))),
        _Column("flight", 6, 8, lambda w, _: Text(str(w.get("in_flight") or ""))),
        _Column("for", 7, 1, lambda w, _: _since(w)),
    ]


def _table(workers: Sequence[Worker], rates: Mapping[int, Rate], width: int) -> Table:
    columns = _fitting(_columns(), width)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), width=width, header_style="dim")
    for column in columns:
        table.add_column(column.title, width=column.width, justify=column.justify, no_wrap=True)
    table.add_column("request", ratio=1, no_wrap=True)
    for worker in workers:
        rate = rates.get(worker["id"])
        cells = [column.cell(worker, rate) for column in columns]
        table.add_row(*cells, one_line(_request(worker)))
    return table


def _fitting(columns: Sequence[_Column], width: int) -> list[_Column]:
    left = list(columns)
    while (least := max(left, key=lambda column: column.needed)).needed:
        request = REQUEST if least.needed <= ESSENTIAL else WHOLE_REQUEST
        if sum(column.width + 1 for column in left) + request <= width:
            break
        left.remove(least)
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


def _last(events: Sequence[Mapping[str, Any]], width: int, room: int, most: int) -> list[Text]:
    """The last ones, in so many lines."""
    lines: list[Text] = []
    for event in reversed(events):
        if (left := room - len(lines)) <= 0:
            break
        lines = _event(event, width, min(left, most)) + lines
    return lines


def _event(event: Mapping[str, Any], width: int, most: int) -> list[Text]:
    style = _LEVELS.get(str(event["level"]).upper(), "")
    before = Text(f"{_clock(event['at'])}  ", style="dim")
    # Of what is as it should be, the beginning will do.
    return wrapped(before, Text(printable(event["text"]), style=style), width, most if style else 1)


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

"""The picture of ``forkserve top``: what is shown, in which room, and that it cannot be misused."""

from __future__ import annotations

import io
from typing import Any

import pytest

pytest.importorskip("rich")

from rich.cells import cell_len
from rich.console import Console

from forkserve.control.screen import picture


def worker(id: int, **facts: Any) -> dict[str, Any]:
    return {
        "id": id,
        "pid": 4000 + id,
        "generation": 2,
        "phase": "ready",
        "spare": False,
        "age": 125.0,
        "requests": 1000,
        "in_flight": 0,
        "busy": 10.0,
        "lag": 0.004,
        "serving": None,
        "rss": 60 << 20,
        "pss": 31 << 20,
        "slow": False,
    } | facts


def serving(path: str, seconds: float) -> dict[str, Any]:
    return {"method": "GET", "path": path, "for": seconds}


def event(text: str, level: str = "INFO") -> dict[str, Any]:
    return {"at": 1_700_000_000.0, "level": level, "text": text}


def status(**facts: Any) -> dict[str, Any]:
    return {
        "version": "0.1.0",
        "pid": 4000,
        "name": "",
        "app": "demo_app:app",
        "state": "serving",
        "generation": 2,
        "trying": None,
        "uptime": 7500.0,
        "workers_wanted": 2,
        "workers_ready": 2,
        "workers": [worker(1), worker(2)],
        "switchboard": None,
        "queues": [{"bind": "http://127.0.0.1:8000", "length": 0, "limit": 2048}],
        "reloads": {"done": 1, "failed": 0},
        "totals": {"requests": 2000},
        "last_failure": None,
        "events": [],
    } | facts


def shown(
    now: dict[str, Any],
    before: dict[str, Any] | None = None,
    width: int = 120,
    height: int = 30,
    colours: bool = False,
) -> list[str]:
    console = Console(
        file=io.StringIO(), width=width, height=height, force_terminal=colours, color_system="auto"
    )
    console.print(picture(now, before, width, height))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def row(lines: list[str], id: int) -> str:
    [found] = [line.split() for line in lines if line.split()[:1] == [str(id)]]
    return " ".join(found)


def test_the_head_says_what_it_is_and_how_it_does() -> None:
    board = {"pid": 9, "idle": 12, "waiting": 3}
    lines = shown(status(workers=[worker(1, in_flight=2), worker(2)], switchboard=board))
    assert lines[0] == (
        "demo_app:app  serving  2 of 2 ready  generation 2  up 2 h 05  reloads 1  pid 4000  "
        "forkserve 0.1.0"
    )
    assert lines[1] == (
        "– requests/s  2 in flight  queue 0 of 2048  switchboard 12 idle, 3 waiting  "
        "http://127.0.0.1:8000"
    )


def test_of_several_queues_the_longest_comes_first() -> None:
    queues = [
        {"bind": "http://127.0.0.1:8000", "length": 0, "limit": 128},
        {"bind": "https://127.0.0.1:8443", "length": 7, "limit": 128},
        {"bind": "unix:/run/shop.sock", "length": None, "limit": None},
    ]
    first = (
        "– requests/s  0 in flight  queue 7 of 128 at https://127.0.0.1:8443  "
        "queue 0 of 128 at http://127.0.0.1:8000"
    )
    assert shown(status(queues=queues))[1] == first
    assert shown(status(queues=queues), width=150)[1] == f"{first}  queue – at unix:/run/shop.sock"


def test_the_head_of_a_narrow_one_has_what_matters() -> None:
    long = status(name="company.services.shop.frontend:create_app")
    assert shown(long, width=50)[:2] == [
        "company.service…  serving  2 of 2 ready",
        "– requests/s  0 in flight  queue 0 of 2048",
    ]
    wide = status(name="長" * 8)
    assert shown(wide, width=45)[0] == "長" * 7 + "…  serving  2 of 2 ready"
    upgrading = status(upgrading_to=4711)
    assert "generation 2  upgrading to pid 4711  up" in shown(upgrading)[0]


def test_a_reload_and_its_failure_are_in_the_head() -> None:
    failure = {"at": 1_700_000_000.0, "text": "reload failed: no module", "details": "…"}
    reloads = {"done": 1, "failed": 2}
    lines = shown(status(state="reloading", trying=3, reloads=reloads, last_failure=failure))
    assert "reloading  2 of 2 ready  generation 2  trying 3" in lines[0]
    assert "reloads 1  failed 2" in lines[0]
    assert "reload failed: no module" in lines[2]


def test_a_worker_is_a_row() -> None:
    before = status(
        uptime=7498.0,
        workers=[worker(1, requests=800, busy=9.5)],
        totals={"requests": 600},
    )
    busy = worker(1, in_flight=2, serving=serving("/predict", 2.5))
    lines = shown(status(workers=[busy, worker(2, phase="draining", pss=None)]), before, 160)
    assert " ".join(lines[2].split()) == (
        "worker pid gen phase age requests req/s busy lag memory flight for request"
    )
    told = "1 4001 2 ready 2 min 1000 100.0 25% ━━ 4 ms 31 MiB 2 2.5 s GET /predict"
    assert row(lines, 1) == told
    # One that has come since has done all of it since.
    assert row(lines, 2).startswith("2 4002 2 draining 2 min 1000 500.0 100% ━")
    assert row(lines, 2).endswith("4 ms 60 MiB")
    # ... and of all, also what one did that has gone.
    assert lines[1].startswith("700.0 requests/s")


def test_before_the_second_look_there_are_no_rates() -> None:
    assert row(shown(status()), 1) == "1 4001 2 ready 2 min – – 4 ms 31 MiB"


def test_a_spare_and_one_without_a_pid() -> None:
    unborn = worker(2, phase="starting", pid=None, rss=None, pss=None)
    for fact in ("requests", "in_flight", "busy", "lag", "serving"):
        del unborn[fact]
    now = status(workers=[worker(1, spare=True), unborn])
    lines = shown(now, now | {"uptime": 7499.0, "workers": []})
    assert row(lines, 1).startswith("1 4001 2 spare ")
    assert row(lines, 2) == "2 – 2 starting 2 min 0.0 0% – –"


def test_a_master_that_is_silent_is_told_first() -> None:
    console = Console(file=io.StringIO(), width=120)
    console.print(picture(status(), None, 120, 30, trouble="no answer for 12 s"))
    assert isinstance(console.file, io.StringIO)
    told = console.file.getvalue()
    assert told.startswith("demo_app:app  no answer for 12 s  serving  2 of 2 ready")


def test_the_last_events_take_what_room_is_left() -> None:
    many = status(events=[event(f"event {n}") for n in range(50)])
    assert [line.split()[-1] for line in shown(many, height=10)[6:]] == ["46", "47", "48", "49"]


def ids(lines: list[str]) -> list[int]:
    return [int(word) for line in lines if (word := line.split()[0]).isdecimal()]


def test_with_many_workers_those_are_shown_that_are_held_up_longest() -> None:
    workers = [worker(n, serving=serving("/quick", 0.1 + n % 7 / 10)) for n in range(1, 41)]
    workers[30] = worker(31, serving=serving("/slow", 9.0))
    workers[10] = worker(11, serving=serving("/slower", 20.0))
    workers[20] = worker(21, lag=15.0)
    workers[39] = worker(40, slow=True)
    lines = shown(status(workers=workers, events=[event("it")]), height=12)
    # What takes no time worth telling counts for nothing, or they would jump about.
    assert ids(lines) == [1, 2, 11, 21, 31, 40]
    assert lines[9] == "… and 34 more: 34 ready"
    assert lines[-1].endswith("  it")
    assert len(lines) == 12
    assert ids(shown(status(workers=workers), height=5)) == [11]
    assert ids(shown(status(workers=workers), height=6)) == [11, 21]


def test_with_many_workers_those_that_come_and_go_are_shown_too() -> None:
    workers = [worker(n, generation=1) for n in range(1, 63)]
    workers[40] = worker(41, phase="draining")
    workers[60] = worker(61, phase="killed", serving=serving("/hangs", 40.0))
    workers += [worker(63, phase="starting"), worker(64, spare=True)]
    assert ids(shown(status(workers=workers), height=24)) == [*range(1, 18), 41, 61, 63]
    assert shown(status(workers=workers), height=24)[-1] == "… and 44 more: 43 ready, 1 spare"


def test_the_reason_of_what_went_wrong_is_shown_though_it_is_at_the_end() -> None:
    died = (
        "worker 7 (pid 2628, generation 2) was ended by SIGKILL (from outside, not by the kernel's "
        "OOM killer) after 2.1 s and 31 requests; it was serving GET /pay for 1.4 s"
    )
    worked = "reload done: " + "all workers are of generation 2 and all of them do well " * 3
    happened = [event("old"), event(worked), event(died, "ERROR"), event("new")]
    failed = status(events=happened, last_failure=happened[2] | {"details": ""})
    lines = shown(failed, width=80, height=20)
    clock = lines[-1].split()[0]
    assert lines[2:5] == [
        f"last failure {clock}  worker 7 (pid 2628, generation 2) was ended by SIGKILL",
        " " * 23 + "(from outside, not by the kernel's OOM killer) after 2.1",
        " " * 23 + "s and 31 requests; it was serving GET /pay for 1.4 s",
    ]
    # What is well is one line.
    assert lines[-6:] == [
        f"{clock}  old",
        f"{clock}  reload done: all workers are of generation 2 and all of them do well …",
        f"{clock}  worker 7 (pid 2628, generation 2) was ended by SIGKILL (from outside,",
        " " * 10 + "not by the kernel's OOM killer) after 2.1 s and 31 requests; it was",
        " " * 10 + "serving GET /pay for 1.4 s",
        f"{clock}  new",
    ]
    # Where there is no room for three lines, two or one have to do.
    longer = status(events=[event(died * 2, "ERROR")] * 2, workers=[worker(1)] * 12)
    assert shown(longer, width=80, height=20)[-4:] == [
        f"{clock}  worker 7 (pid 2628, generation 2) was ended by SIGKILL (from outside,…",
        *shown(longer, width=80, height=50)[-3:],
    ]
    assert shown(longer, width=80, height=50)[-1].endswith("…")
    low = shown(failed, width=80, height=19)
    assert low[2].endswith("SIGKILL (…")
    assert low[-2].endswith("outside,…")


@pytest.mark.parametrize("width", [20, 30, 40, 60, 80, 100, 120, 200])
@pytest.mark.parametrize("height", [5, 8, 11, 12, 13, 24, 50])
@pytest.mark.parametrize("word", ["long", "長い", "e\u0301\u0301"])
def test_it_fits(width: int, height: int, word: str) -> None:
    workers = [worker(n, serving=serving("/" + word * 90, 3.0)) for n in range(1, 10)]
    events = [event(f"a very {word} line " * 20, "ERROR") for _ in range(50)]
    facts = {"name": word * 40, "last_failure": events[0] | {"details": ""}}
    full = status(workers=workers, events=events, **facts)
    lines = shown(full, full | {"uptime": 7499.0}, width, height)
    assert len(lines) <= height
    assert max(map(cell_len, lines)) <= width
    assert height < 12 or len(lines) == height


def test_what_matters_less_goes_first_where_it_is_narrow() -> None:
    widths = (133, 132, 120, 80, 60, 40, 20)
    titles = [" ".join(shown(status(), width=width)[2].split()) for width in widths]
    assert titles == [
        "worker pid gen phase age requests req/s busy lag memory flight for request",
        "worker pid gen phase age req/s busy lag memory flight for request",
        "worker pid gen phase age req/s busy lag memory flight for request",
        "worker gen phase req/s busy lag memory for request",
        "worker phase req/s busy for request",
        "worker phase for request",
        "worker phase req…",
    ]


# -- what comes from outside --------------------------------------------------------------


def test_nothing_from_outside_reaches_the_terminal_as_it_is() -> None:
    # Clears the screen, in both ways; rich's markup; turns the direction of writing; a lone
    # surrogate, which could not even be written.
    evil = "\x1b[2J\x9b2J[bold red]x[/] \u202e\udc80"
    facts: dict[str, Any] = dict.fromkeys(["version", "name", "app", "state"], evil)
    facts["workers"] = [worker(1, phase=evil, serving=serving(evil, 1.0) | {"method": evil})]
    facts["queues"] = [{"bind": evil, "length": 1, "limit": 1}]
    facts["events"] = [event(evil, evil)]
    facts["last_failure"] = {"at": 0.0, "text": evil, "details": evil}
    lines = shown(status(**facts), width=200)
    text = "\n".join(lines)
    assert text.count("?[2J?2J[bold red]x[/] ??") == 8
    assert all(character.isprintable() for line in lines for character in line)
    facts["queues"] *= 2
    facts["workers"] = [worker(n, phase=evil) for n in range(40)]
    lines = shown(status(**facts), width=200, height=10)
    assert "… and 3" in "".join(lines)
    assert all(character.isprintable() for line in lines for character in line)


def coloured(**facts: Any) -> str:
    return "\n".join(shown(status(**facts), colours=True))


def test_what_wants_to_be_seen_has_a_colour() -> None:
    red, yellow, green = "\x1b[31m", "\x1b[33m", "\x1b[32m"
    for seconds, colour in ((0.9, ""), (1.0, yellow), (9.9, yellow), (10.0, red)):
        shown_as = coloured(workers=[worker(1, serving=serving("/it", seconds))])
        assert f"{colour}GET /it" in shown_as
        assert (red in shown_as, yellow in shown_as) == (colour == red, colour == yellow)
    assert yellow not in coloured()
    assert f"{green}serving" in coloured()
    assert f"{yellow}1 of 2 ready" in coloured(workers_ready=1)
    assert f"{yellow}queue 7" in coloured(queues=[{"bind": "x", "length": 7, "limit": 128}])
    assert yellow in coloured(workers=[worker(1, slow=True)])
    assert yellow in coloured(workers=[worker(1, lag=1.5)])
    assert f"{yellow}draining" in coloured(workers=[worker(1, phase="draining")])
    assert f"{red}killed" in coloured(workers=[worker(1, phase="killed")])
    assert f"{red}it" in coloured(events=[event("it", "ERROR")])
    assert f"{yellow}it" in coloured(events=[event("it", "WARNING")])
    assert f"{red}failed 1" in coloured(reloads={"done": 0, "failed": 1})


def test_colours_are_rich_s_own_business() -> None:
    busy = status(workers=[worker(1, serving=serving("/", 20.0))])
    assert any("\x1b[31m" in line for line in shown(busy, colours=True))
    assert not any("\x1b" in line for line in shown(busy))

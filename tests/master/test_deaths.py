"""Each kind of death in one line, with all that is known of it, and the last of them kept."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from time import monotonic
from typing import Any

import pytest

from forkserve.master.chronicle import MOST, Chronicle
from forkserve.master.family import Family
from forkserve.master.logbook import Logbook
from forkserve.master.persons import Person, Persons
from forkserve.readings import Snapshot, Totals
from forkserve.supervisor.actions import (
    Departure,
    GenerationDropped,
    ReloadDone,
    SwitchboardGone,
    TemplateGone,
    WorkerGone,
    WorkerLeaves,
)
from forkserve.supervisor.events import Exit
from forkserve.supervisor.failures import BootFailure
from forkserve.supervisor.state import State

MIB = 1 << 20
FAILURE = BootFailure("RuntimeError: no table", "app.py:3", "Traceback\nRuntimeError: no table")


class Mourned(Persons):
    """One that has just died, while it was serving a request."""

    def __init__(self) -> None:
        super().__init__(Family())
        self.person = Person("worker 7 (pid 4711, generation 2)", 4711, _row(), peak=48 * MIB)

    def worker(self, number: int) -> Person:
        return self.person


def _row() -> Snapshot:
    seen: dict[str, Any] = dict.fromkeys(Snapshot.__dataclass_fields__, 0)
    seen |= {"in_flight": 2, "method": "POST", "path": "/predict", "done": Totals(requests=12)}
    return Snapshot(**seen | {"serving_since": monotonic() - 3.5})


class Mourning:
    """A logbook, and whoever remembers what it says."""

    def __init__(self, log: logging.Logger) -> None:
        self.persons = Mourned()
        self.logbook = Logbook(self.persons, [], "app:app")
        self.chronicle = Chronicle(log)

    def tell(self, note: Any) -> str:
        with self.chronicle.of(note, State(target=2)):
            self.logbook.tell(note)
        return self.chronicle.said

    def worker_gone(self, departure: Departure, exit: Exit, **more: Any) -> str:
        more = {"planned": False, "next": "1 of 2 ready"} | more
        return self.tell(WorkerGone(7, departure, exit, 61.5, **more))


@pytest.fixture
def mourning(monkeypatch: pytest.MonkeyPatch) -> Mourning:
    log = logging.getLogger("forkserve")
    monkeypatch.setattr(log, "handlers", [])
    monkeypatch.setattr(log, "propagate", False)
    monkeypatch.setattr(log, "level", logging.INFO)
    return Mourning(log)


BUSY = "after 61.5 s and 12 requests, serving POST /predict for 3.5 s and 1 more"
PEAK = ", with up to 48 MiB of memory"


@pytest.mark.parametrize(
    ("departure", "exit", "line"),
    [
        (Departure.CRASHED, Exit(7), f"exited with 7 {BUSY}{PEAK}; 1 of 2 ready"),
        (Departure.CRASHED, Exit(-11), f"was ended by SIGSEGV {BUSY}{PEAK}; 1 of 2 ready"),
        (
            Departure.CRASHED,
            Exit(-9, oom=False),
            "was ended by SIGKILL (from outside, not by the kernel's OOM killer) "
            f"{BUSY}{PEAK}; 1 of 2 ready",
        ),
        (
            Departure.CRASHED,
            Exit(-9, oom=True, peak=290 * MIB, limit=300 * MIB),
            "was ended by SIGKILL (out of memory: the cgroup's limit is 300 MiB, and it had up to "
            f"290 MiB) {BUSY}; 1 of 2 ready",
        ),
        (Departure.HUNG, Exit(-9), f"was ended by SIGKILL (hung) {BUSY}{PEAK}; 1 of 2 ready"),
        (
            Departure.BOOT_TIMED_OUT,
            Exit(-9),
            f"was ended by SIGKILL (was not ready in time) {BUSY}{PEAK}; 1 of 2 ready",
        ),
        (
            Departure.CUT_OFF,
            Exit(-9),
            f"was ended by SIGKILL (did not drain in time) {BUSY}{PEAK}; 1 of 2 ready",
        ),
        (Departure.LEFT, Exit(0), f"exited with 0 (left by itself) {BUSY}; 1 of 2 ready"),
        (Departure.DRAINED, Exit(0), f"has left {BUSY}; 1 of 2 ready"),
    ],
    ids=lambda value: value.name if isinstance(value, Departure) else None,
)
def test_all_that_is_known_is_in_one_line(
    mourning: Mourning, departure: Departure, exit: Exit, line: str
) -> None:
    said = mourning.worker_gone(departure, exit)
    # A busy machine may have taken a moment since.
    assert re.sub(r"for 3\.\d s", "for 3.5 s", said) == f"worker 7 (pid 4711, generation 2) {line}"


def test_one_that_leaves_as_planned_is_told_of_without_what_does_not_matter(
    mourning: Mourning,
) -> None:
    assert mourning.persons.person.seen
    idle = replace(mourning.persons.person.seen, in_flight=0)
    mourning.persons.person = replace(mourning.persons.person, seen=idle)
    said = mourning.worker_gone(Departure.DRAINED, Exit(0), planned=True, next="2 of 2 ready")
    assert said == (
        "worker 7 (pid 4711, generation 2) has left after 61.5 s and 12 requests; 2 of 2 ready"
    )


def test_of_the_hung_the_stack_stands_below(mourning: Mourning) -> None:
    mourning.worker_gone(Departure.HUNG, Exit(-9), stack="in predict")
    (line,) = mourning.chronicle.lines
    assert line["details"] == "in predict"
    assert mourning.chronicle.deaths[0]["details"] == "in predict"


def test_of_one_that_cannot_start_the_end_of_its_traceback_stands_below(
    mourning: Mourning,
) -> None:
    said = mourning.worker_gone(Departure.FAILED_TO_BOOT, Exit(3), failure=FAILURE)
    assert said.endswith("; 1 of 2 ready: RuntimeError: no table (app.py:3)")
    (line,) = mourning.chronicle.lines
    assert line["details"] == FAILURE.details
    assert mourning.chronicle.deaths[0]["details"] == FAILURE.details


def test_a_traceback_is_not_shown_again_and_again(mourning: Mourning) -> None:
    """In the log; whoever asks for the deaths gets it with each."""
    mourning.tell(GenerationDropped(3, 2, FAILURE))
    mourning.worker_gone(Departure.FAILED_TO_BOOT, Exit(3), failure=FAILURE)
    mourning.worker_gone(Departure.CRASHED, Exit(7))
    mourning.worker_gone(Departure.FAILED_TO_BOOT, Exit(3), failure=FAILURE)
    mourning.tell(
        TemplateGone(1, Departure.FAILED_TO_BOOT, Exit(3), 5.0, False, "", FAILURE, "again")
    )
    other = BootFailure("OSError: gone", "app.py:4", "Traceback\nOSError: gone")
    mourning.worker_gone(Departure.FAILED_TO_BOOT, Exit(3), failure=other)
    shown = [line["details"] for line in mourning.chronicle.lines]
    assert shown == [FAILURE.details, "", "", "", "", other.details]
    kept = [death["details"] for death in mourning.chronicle.deaths]
    assert kept == [FAILURE.details, "", FAILURE.details, FAILURE.details, other.details]


def test_of_a_template_that_cannot_import_the_app_it_stands_below_too(mourning: Mourning) -> None:
    """Another one of the same generation, when the code on the disk is broken by then."""
    mourning.tell(
        TemplateGone(2, Departure.FAILED_TO_BOOT, Exit(3), 5.0, False, "", FAILURE, "again")
    )
    assert mourning.chronicle.lines[0]["details"] == FAILURE.details


def test_the_last_fifty_are_kept(mourning: Mourning) -> None:
    assert MOST == 50
    for age in range(51):
        mourning.tell(
            WorkerGone(7, Departure.CRASHED, Exit(1), float(age), False, next="1 of 2 ready")
        )
    kept = [death["text"] for death in mourning.chronicle.deaths]
    assert len(kept) == 50
    assert "after 1.0 s" in kept[0]
    assert "after 50.0 s" in kept[-1]


def test_those_that_left_as_planned_make_room_first(mourning: Mourning) -> None:
    """A reload of many workers does not make the one forgotten that has crashed."""
    mourning.worker_gone(Departure.DRAINED, Exit(0), planned=True)
    mourning.worker_gone(Departure.CRASHED, Exit(7))
    for _ in range(60):
        mourning.worker_gone(Departure.DRAINED, Exit(0), planned=True)
    deaths = mourning.chronicle.deaths
    assert len(deaths) == 50
    assert [death["planned"] for death in deaths] == [False] + 49 * [True]
    assert "exited with 7" in deaths[0]["text"]


def test_whose_death_it_was(mourning: Mourning) -> None:
    mourning.tell(TemplateGone(1, Departure.CRASHED, Exit(-9), 5.0, False, next="again"))
    mourning.tell(TemplateGone(1, Departure.DRAINED, Exit(0), 5.0, True))
    mourning.tell(SwitchboardGone(1, Departure.CRASHED, Exit(-9), 5.0, False, next="again"))
    mourning.worker_gone(Departure.CRASHED, Exit(1))
    whose = [death["who"] for death in mourning.chronicle.deaths]
    assert whose == ["template", "switchboard", "worker 7"]


@pytest.mark.parametrize(
    ("departure", "exit", "cause"),
    [
        (Departure.CRASHED, Exit(1), "crashed"),
        (Departure.CRASHED, Exit(-9, oom=True), "out_of_memory"),
        (Departure.FAILED_TO_BOOT, Exit(3), "failed_to_boot"),
        (Departure.BOOT_TIMED_OUT, Exit(-9), "boot_timed_out"),
        (Departure.HUNG, Exit(-9), "hung"),
        (Departure.LEFT, Exit(0), "left"),
    ],
)
def test_why_another_one_was_made_is_counted(
    mourning: Mourning, departure: Departure, exit: Exit, cause: str
) -> None:
    mourning.worker_gone(departure, exit)
    assert mourning.chronicle.restarts == {cause: 1}


def test_the_last_failure_is_over_with_the_next_reload(mourning: Mourning) -> None:
    mourning.tell(GenerationDropped(3, 2, FAILURE))
    failure = mourning.chronicle.last_failure
    assert failure is not None
    assert failure["text"].startswith("reload failed: generation 3 is dropped")
    assert failure["details"] == FAILURE.details
    mourning.tell(WorkerLeaves(7, "generation 3 takes its place"))
    assert mourning.chronicle.last_failure == failure
    mourning.tell(ReloadDone(4, 2, 1.5))
    assert mourning.chronicle.last_failure is None
    assert (mourning.chronicle.reloads_done, mourning.chronicle.reloads_failed) == (1, 1)

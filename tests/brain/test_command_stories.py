"""What is asked for over the control socket, and what the master does about it."""

from __future__ import annotations

from forkserve.supervisor.actions import (
    GenerationAccepted,
    Ignored,
    ReloadBegins,
    ReloadDone,
    Scaled,
    ScaleRefused,
    Stopping,
    WorkerGone,
    WorkerLeaves,
    WorkerServes,
    WorkerWorn,
)
from tests.brain.story import (
    at,
    born,
    close,
    drain,
    exits,
    fork,
    new,
    ready,
    recycle,
    reload,
    serving,
    start,
    term,
    wants,
)


def test_a_number_of_workers() -> None:
    serving(2).tell(
        at(10.0, wants(4), Scaled, fork(3), fork(4)),
        at(10.1, wants(2), Scaled, WorkerLeaves, WorkerLeaves),  # before they were born
        at(10.2, wants(1), Scaled, drain(1), WorkerLeaves),
        at(10.3, wants(1), Scaled),
        at(10.4, wants(0), ScaleRefused),
        at(10.5, wants(513), ScaleRefused),
    )


def test_one_worker_is_recycled_its_replacement_first() -> None:
    serving(2).tell(
        at(10.0, recycle(2), WorkerWorn, fork(3)),
        at(10.1, recycle(2)),  # it is under way
        at(10.1, born(3)),
        at(11.0, ready(3), WorkerServes, drain(2), WorkerLeaves),
        at(11.1, recycle(2), Ignored),
        at(11.2, exits(2), WorkerGone),
    )


def test_all_are_recycled_one_after_the_other() -> None:
    serving(2).tell(
        at(10.0, recycle(), WorkerWorn, WorkerWorn, fork(3)),
        at(10.1, born(3)),
        at(11.0, ready(3), WorkerServes, drain(1), WorkerLeaves, fork(4)),
        at(11.1, born(4)),
        at(11.2, exits(1), WorkerGone),
        at(12.0, ready(4), WorkerServes, drain(2), WorkerLeaves),
        at(12.1, exits(2), WorkerGone),
        at(13.0, recycle(1), Ignored),
    )


def test_who_is_not_ready_yet_is_fresh_enough() -> None:
    serving(1).tell(
        at(10.0, wants(2), Scaled, fork(2)),
        at(10.1, recycle(2), Ignored),
        at(10.2, recycle(), WorkerWorn, fork(3)),
    )


def test_a_reload_replaces_who_is_to_be_recycled() -> None:
    serving(1).tell(
        at(10.0, reload, ReloadBegins, fork(2, 2)),
        at(10.1, recycle(), WorkerWorn),
        at(10.2, born(2)),
        at(
            11.0,
            ready(2),
            GenerationAccepted,
            WorkerServes,
            drain(1),
            WorkerLeaves,
            ReloadDone,
        ),
    )


def test_nothing_is_commanded_of_a_master_that_stops_or_has_not_begun() -> None:
    serving(1).tell(
        at(10.0, term, Stopping, close, drain(1)),
        at(10.1, wants(3), Ignored),
        at(10.2, recycle(), Ignored),
        at(10.3, recycle(1), Ignored),
    )
    new(1).tell(at(0.0, recycle()), at(0.1, recycle(1), Ignored), at(0.2, start, fork(1)))

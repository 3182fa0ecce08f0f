"""A loop that is blocked for a while, told as stories: it shows where, and is left alone."""

from __future__ import annotations

import pytest

from forkserve.supervisor.actions import (
    Departure,
    GenerationAccepted,
    LivenessExcused,
    LoopBlocked,
    LoopTurns,
    ReloadBegins,
    ReloadDone,
    Stopped,
    Stopping,
    WorkerGone,
    WorkerLeaves,
    WorkerOverdue,
    WorkerServes,
)
from forkserve.supervisor.state import Policy
from tests.brain.story import (
    Story,
    at,
    beats,
    born,
    close,
    drain,
    dump,
    exits,
    fork,
    kill,
    leave,
    new,
    quit_,
    read_stacks,
    ready,
    reload_with,
    resumed,
    serving,
    stacks_read,
    start,
    term,
    unblocked,
)

KILLED = -9


def watched(workers: int, **policy: float) -> Story:
    """A master whose workers were all ready at second 1, and beat ten times a second."""
    return serving(workers, **{"slow_threshold": 1.0, "timeout": 30.0, **policy})


def blocked(**policy: float) -> Story:
    """... of which one has been found blocked at 2.1."""
    return watched(1, **policy).tell(
        at(2.1, beats({1: 1.0}), dump(1)),
        at(2.2, beats({1: 1.0}), read_stacks(1)),
        at(2.2, stacks_read(1), LoopBlocked),
    )


def test_a_blocked_loop_shows_where_and_is_left_alone() -> None:
    story = watched(2).tell(
        at(2.1, beats({1: 1.0, 2: 2.05}), dump(1)),
        at(2.2, beats({1: 1.0, 2: 2.15}), read_stacks(1)),
        at(2.2, stacks_read(1, "in crunch"), LoopBlocked),
    )
    told = story.last(LoopBlocked)
    assert (told.worker_id, told.stack) == (1, "in crunch")
    assert told.seconds == pytest.approx(1.0)
    story.tell(at(4.0, unblocked(1, 2.9), read_stacks(1), LoopTurns))
    assert story.last(LoopTurns).seconds == 2.9


def test_a_loop_that_turns_is_left_in_peace() -> None:
    story = watched(2).tell(at(2.1, beats({1: 2.05, 2: 2.0})))
    assert story.next_alarm == pytest.approx(3.1)


def test_one_that_has_just_missed_its_next_beat_is_not_blocked_for_so_long_yet() -> None:
    """It beats every tenth of a second, so it may have begun to block a tenth later."""
    assert watched(1).next_alarm == pytest.approx(2.1)


def test_without_the_setting_nobody_looks() -> None:
    assert serving(1, timeout=0).sleeps
    assert serving(1, timeout=30).next_alarm == 31.0


def test_it_works_without_a_liveness_timeout() -> None:
    assert blocked(timeout=0).sleeps


def test_each_blockage_is_told_once() -> None:
    story = blocked()
    assert story.next_alarm == 31.0
    story.tell(
        at(5.0, unblocked(1), read_stacks(1), LoopTurns),
        at(6.1, beats({1: 5.0}), dump(1)),
        at(6.2, beats({1: 5.0}), read_stacks(1)),
        at(6.2, stacks_read(1), LoopBlocked),
    )


def test_many_blockages_in_a_row_are_told_once_a_second() -> None:
    story = watched(1, slow_threshold=0.1).tell(
        at(1.2, beats({1: 1.0}), dump(1)),
        at(1.25, unblocked(1, 0.2), read_stacks(1)),
        at(1.25, stacks_read(1), LoopBlocked, LoopTurns),
    )
    assert story.next_alarm == pytest.approx(2.2)


def test_each_of_several_blocked_workers_shows_where() -> None:
    stale = {1: 1.0, 2: 1.0}
    watched(2).tell(
        at(2.1, beats(stale), dump(1), dump(2)),
        at(2.2, beats(stale), read_stacks(1), read_stacks(2)),
        at(2.2, stacks_read(2), LoopBlocked),
        at(2.2, stacks_read(1), LoopBlocked),
    )


def test_one_that_turns_again_before_its_stacks_were_read_is_told_at_once() -> None:
    story = watched(1).tell(
        at(2.1, beats({1: 1.0}), dump(1)),
        at(2.15, unblocked(1, 1.05), read_stacks(1)),
        at(2.15, stacks_read(1), LoopBlocked, LoopTurns),
    )
    assert story.next_alarm > 3.0


def test_who_needs_longer_to_write_its_stacks_is_waited_for() -> None:
    story = watched(1).tell(
        at(2.1, beats({1: 1.0}), dump(1)),
        at(2.2, beats({1: 1.0}), read_stacks(1)),
        at(2.2, stacks_read(1, "")),
    )
    assert story.next_alarm == pytest.approx(2.3)
    story.tell(at(2.31, beats({1: 1.0}), read_stacks(1)), at(2.31, stacks_read(1), LoopBlocked))


def test_who_is_stopped_cannot_show_where() -> None:
    story = watched(1).tell(
        at(2.1, beats({1: 1.0}), dump(1)),
        at(3.2, beats({1: 1.0}), read_stacks(1)),
        at(3.2, stacks_read(1, ""), LoopBlocked),
    )
    assert story.last(LoopBlocked).stack == ""
    # What it writes once it goes on is taken away, and is not what it died of.
    story.tell(
        at(4.0, unblocked(1), read_stacks(1), LoopTurns), at(4.0, stacks_read(1, "too late"))
    )


def test_one_that_stays_blocked_is_hung_in_the_end() -> None:
    story = blocked(timeout=5.0).tell(
        at(6.0, beats({1: 1.0}), WorkerOverdue, dump(1), fork(2)),
        at(6.5, unblocked(1, 5.4)),  # too late
        at(7.0, beats({1: 6.5}), kill(1)),
        at(7.1, exits(1, KILLED), WorkerGone),
    )
    assert story.last(WorkerGone).departure is Departure.HUNG


def test_who_is_found_hung_before_its_stacks_are_read_shows_them_as_that() -> None:
    story = watched(1, timeout=1.15).tell(
        at(2.1, beats({1: 1.0}), dump(1)),
        at(2.15, beats({1: 1.0}), WorkerOverdue, dump(1), fork(2)),
        at(2.16, stacks_read(1)),
    )
    assert story.next_alarm == 3.15


def test_a_draining_worker_is_watched_too_until_its_loop_ends() -> None:
    story = watched(1, graceful_timeout=30).tell(
        at(1.5, term, Stopping, close, drain(1)),
        at(2.1, beats({1: 1.0}), dump(1)),
        at(2.2, beats({1: 1.0}), read_stacks(1)),
        at(2.2, stacks_read(1), LoopBlocked),
        at(4.0, unblocked(1), read_stacks(1), LoopTurns),
        at(5.1, beats({})),  # it has taken leave of its loop
    )
    assert story.next_alarm > 30.0
    story.tell(at(9.0, exits(1), WorkerGone, Stopped, leave(0)))


def test_who_was_never_ready_does_not_beat() -> None:
    story = new(1, slow_threshold=1.0, boot_timeout=20).tell(
        at(0.0, start, fork(1)),
        at(0.1, born(1)),
    )
    assert story.next_alarm == 20.0
    story.tell(at(0.2, term, Stopping, close, drain(1)))
    assert story.next_alarm > 2.0


def test_what_happened_while_the_master_did_not_run_is_no_blockage() -> None:
    """Neither did the workers, for all it knows."""
    story = watched(1).tell(at(9.0, beats({1: 1.0})))
    assert story.next_alarm == pytest.approx(10.1)
    story.tell(at(9.5, resumed))
    assert story.next_alarm == pytest.approx(10.6)
    story.tell(at(10.6, beats({1: 1.0}), dump(1)))


def test_who_drained_while_everybody_was_stopped_was_not_blocked_by_that() -> None:
    story = watched(1, graceful_timeout=30).tell(
        at(1.5, term, Stopping, close, drain(1)),
        at(9.0, resumed),
    )
    assert story.next_alarm == pytest.approx(10.1)


def test_a_master_that_is_late_each_time_still_finds_the_hung() -> None:
    story = watched(1, timeout=4.0)
    for now in (3.0, 4.7):
        story.tell(at(now, beats({1: 1.0})))
    story.tell(at(5.0, beats({1: 1.0}), WorkerOverdue, dump(1), fork(2)))


def test_who_is_excused_as_not_hung_is_not_blocked_either() -> None:
    watched(1, timeout=4.0).tell(at(9.0, beats({1: 1.0}), LivenessExcused))


def test_the_threshold_belongs_to_the_generation() -> None:
    """The old worker beats once a second, and was not asked to do so more often."""
    wanted = Policy(workers=1, timeout=30.0, slow_threshold=0.2)
    story = serving(1, timeout=30.0).tell(
        at(2.0, reload_with(wanted), ReloadBegins, fork(2, 2)),
        at(2.1, born(2)),
    )
    assert story.next_alarm == 31.0
    story.tell(
        at(3.0, ready(2), GenerationAccepted, WorkerServes, drain(1), WorkerLeaves, ReloadDone),
        at(3.22, beats({1: 1.0, 2: 3.0}), dump(2)),
        at(3.33, beats({1: 1.0, 2: 3.0}), read_stacks(2)),
        at(3.33, stacks_read(2), LoopBlocked),
    )


def test_a_reload_takes_the_threshold_away() -> None:
    story = watched(1).tell(
        at(1.2, reload_with(Policy(workers=1, timeout=30.0)), ReloadBegins, fork(2, 2)),
        at(1.3, born(2)),
        at(1.4, ready(2), GenerationAccepted, WorkerServes, drain(1), WorkerLeaves, ReloadDone),
    )
    assert story.next_alarm == pytest.approx(2.1)  # the old one's
    story.tell(at(2.0, exits(1), WorkerGone))
    assert story.next_alarm == pytest.approx(31.4)


def test_what_is_heard_of_somebody_who_is_gone_or_condemned_is_nothing() -> None:
    story = blocked(timeout=0).tell(at(3.0, exits(1), WorkerGone, fork(2, slot=0)))
    story.tell(at(3.0, stacks_read(1)), at(3.0, unblocked(1)))
    blocked().tell(
        at(3.0, quit_, Stopping, close, kill(1)), at(3.1, unblocked(1)), at(3.1, stacks_read(1))
    )

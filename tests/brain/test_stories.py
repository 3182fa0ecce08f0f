"""What a master does, told as stories: when, what happens, what it does about it."""

from __future__ import annotations

from itertools import pairwise

import pytest

from forkserve.supervisor import events as on
from forkserve.supervisor.actions import (
    AllReady,
    BackingOff,
    Departure,
    FirstBootFailed,
    ForkRefused,
    GenerationAccepted,
    GenerationDropped,
    Ignored,
    LivenessExcused,
    ReloadBegins,
    ReloadDone,
    ReloadRefused,
    Scaled,
    ScaleRefused,
    Stopped,
    Stopping,
    WorkerGone,
    WorkerImmortal,
    WorkerLeaves,
    WorkerOverdue,
    WorkerServes,
)
from forkserve.supervisor.phases import Phase
from forkserve.supervisor.state import Policy
from tests.brain.story import (
    FAILURE,
    Story,
    alarm,
    at,
    boot_fails,
    born,
    close,
    drain,
    dump,
    exits,
    fork,
    interrupt,
    kill,
    leave,
    leaving,
    new,
    quit_,
    ready,
    refused,
    reload,
    reload_with,
    resumed,
    serving,
    start,
    term,
    ttin,
    ttou,
)

KILLED = -9
SEGFAULT = -11


# -- life without trouble -------------------------------------------------------------


def test_start() -> None:
    story = new(2).tell(
        at(0.0, start, fork(1), fork(2)),
        at(0.1, born(1)),
        at(0.1, born(2)),
        at(1.0, ready(2), WorkerServes),
        at(1.2, ready(1), WorkerServes, AllReady),
    )
    assert story.last(AllReady).after == 1.2
    assert story.last(WorkerServes).ready == 2


def test_ready_may_be_heard_before_the_fork_is_confirmed() -> None:
    new(1).tell(
        at(0.0, start, fork(1)),
        at(0.5, ready(1), WorkerServes, AllReady),
        at(0.6, born(1)),
        at(9.0, term, Stopping, close, drain(1)),
    )


def test_reload_of_four_workers_with_a_surge_of_one() -> None:
    """The canary first; then one by one, each old worker after its replacement."""
    story = serving(4).tell(
        at(10.0, reload, ReloadBegins, fork(5, generation=2)),
        at(10.1, born(5)),
        at(11.0, ready(5), GenerationAccepted, WorkerServes, drain(1), WorkerLeaves, fork(6, 2)),
        at(11.1, born(6)),
        at(11.5, exits(1), WorkerGone),
        at(12.0, ready(6), WorkerServes, drain(2), WorkerLeaves, fork(7, 2, slot=0)),
        at(12.1, born(7)),
        at(12.5, exits(2), WorkerGone),
        at(13.0, ready(7), WorkerServes, drain(3), WorkerLeaves, fork(8, 2, slot=1)),
        at(13.1, born(8)),
        at(13.5, exits(3), WorkerGone),
        at(14.0, ready(8), WorkerServes, drain(4), WorkerLeaves, ReloadDone),
        at(14.5, exits(4), WorkerGone),
    )
    assert {w.generation for w in story.brain.state.workers.values()} == {2}
    assert len(story.brain.state.workers) == 4


def test_reload_with_a_surge_of_two() -> None:
    serving(4, surge=2).tell(
        at(10.0, reload, ReloadBegins, fork(5, 2)),
        at(
            11.0,
            ready(5),
            GenerationAccepted,
            WorkerServes,
            drain(1),
            WorkerLeaves,
            fork(6, 2),
            fork(7, 2),
        ),
    )


def test_one_worker_is_replaced_before_it_leaves() -> None:
    serving(1).tell(
        at(10.0, reload, ReloadBegins, fork(2, 2)),
        at(11.0, born(2)),
        at(12.0, ready(2), GenerationAccepted, WorkerServes, drain(1), WorkerLeaves, ReloadDone),
        at(13.0, exits(1), WorkerGone),
    )


def test_term_stops_everyone_gracefully() -> None:
    story = serving(2).tell(
        at(10.0, term, Stopping, close, drain(1), drain(2)),
        at(10.5, exits(2), WorkerGone),
        at(11.0, exits(1), WorkerGone, Stopped, leave(0)),
    )
    assert story.sleeps


def test_term_before_the_start() -> None:
    new(2).tell(
        at(0.0, term, Stopping, close, Stopped, leave(0)),
        at(0.1, start),
    )


def test_scaling() -> None:
    serving(2).tell(
        at(10.0, ttin, Scaled, fork(3)),
        at(10.1, born(3)),
        at(11.0, ready(3), WorkerServes),
        at(12.0, ttou, Scaled, drain(1), WorkerLeaves),
        at(12.5, exits(1), WorkerGone),
        at(13.0, ttou, Scaled, drain(2), WorkerLeaves),
        at(14.0, ttou, ScaleRefused),
    )


def test_scaling_down_prefers_the_worker_that_does_not_serve_yet() -> None:
    serving(2).tell(
        at(10.0, ttin, Scaled, fork(3)),
        at(10.1, born(3)),
        at(10.2, ttou, Scaled, drain(3), WorkerLeaves),
    )


def test_nothing_is_wanted_of_a_master_that_stops() -> None:
    serving(1).tell(
        at(10.0, term, Stopping, close, drain(1)),
        at(10.1, reload, Ignored),
        at(10.2, ttin, Ignored),
        at(10.3, term),
        at(10.4, ready(1)),
    )


# -- workers that die -----------------------------------------------------------------


def test_a_dead_worker_is_replaced_at_once() -> None:
    story = serving(2).tell(at(10.0, exits(1, SEGFAULT), WorkerGone, fork(3, slot=0)))
    gone = story.last(WorkerGone)
    assert gone.departure is Departure.CRASHED
    assert not gone.planned
    story.tell(at(10.1, born(3)), at(11.0, ready(3), WorkerServes))


def test_four_that_die_together_are_one_round() -> None:
    """Otherwise the fourth would already have to wait."""
    story = serving(4).tell(
        at(2.0, exits(1, SEGFAULT), WorkerGone, fork(5, slot=0)),
        at(2.1, exits(2, SEGFAULT), WorkerGone, fork(6, slot=1)),
        at(2.2, exits(3, SEGFAULT), WorkerGone, fork(7, slot=2)),
        at(2.3, exits(4, SEGFAULT), WorkerGone, fork(8, slot=3)),
    )
    assert story.brain.state.backoff.rounds == 1


def crash_young(story: Story, worker_id: int, now: float) -> float | None:
    """Worker ``worker_id`` is born, ready and dead at once. Returns the delay, if any."""
    brain = story.brain
    for happening in (born(worker_id), ready(worker_id)):
        brain.handle(happening(now))
    noted = [a for a in brain.handle(exits(worker_id, 1)(now)) if isinstance(a, BackingOff)]
    return noted[0].delay if noted else None


def test_a_crash_loop_backs_off_and_a_stable_worker_ends_it() -> None:
    story, now, delays = serving(1), 2.0, list[float]()
    free = [crash_young(story, worker_id, now) for worker_id in (1, 2, 3)]
    assert free == [None] * 3  # the first rounds are free
    for worker_id in range(4, 16):
        delay = crash_young(story, worker_id, now)
        assert delay is not None
        assert story.next_alarm == pytest.approx(now + delay)
        now = story.next_alarm
        story.tell(at(now, alarm(), fork(worker_id + 1, slot=0)))
        delays.append(delay)
    assert 0.375 <= delays[0] <= 0.5
    assert all(later > earlier for earlier, later in pairwise(delays[:7]))
    assert all(22.5 <= delay <= 30.0 for delay in delays[7:])
    story.tell(
        at(now, born(16)),
        at(now, ready(16), WorkerServes),
        at(now + 5.1, exits(16, 1), WorkerGone, fork(17, slot=0)),
    )
    assert story.brain.state.backoff.rounds == 0


def test_capacity_that_works_goes_on_working_in_a_crash_loop() -> None:
    story = serving(2)
    for worker_id in (2, 3, 4, 5):
        crash_young(story, worker_id, 2.0)
    assert story.brain.state.backoff.looping
    assert story.brain.state.workers[1].phase is Phase.READY
    story.tell(at(2.1, ttou, Scaled), at(2.2, term, Stopping, close, drain(1)))


def test_a_refused_fork_is_tried_again() -> None:
    story = new(1).tell(
        at(0.0, start, fork(1)),
        at(0.1, refused(1), ForkRefused),
    )
    assert story.last(ForkRefused).delay == 0.5
    story.tell(
        at(0.6, alarm(), fork(2, slot=0)),
        at(0.7, born(2)),
        at(1.0, ready(2), WorkerServes, AllReady),
    )


def test_refusals_far_apart_are_no_row() -> None:
    """Each is followed by a worker that lives; only a row of them is worth a long wait."""
    story, now = serving(1), 100.0
    for worker_id in range(2, 22, 2):
        story.brain.handle(exits(worker_id - 1, KILLED)(now))
        story.tell(at(now, refused(worker_id), ForkRefused))
        assert story.last(ForkRefused).delay == 0.5
        story.tell(
            at(now + 0.5, alarm(), fork(worker_id + 1, slot=0)),
            at(now + 0.6, born(worker_id + 1)),
            at(now + 0.7, ready(worker_id + 1), WorkerServes),
        )
        now += 100.0


def test_a_worker_given_up_before_its_birth_is_killed_at_birth() -> None:
    new(1).tell(
        at(0.0, start, fork(1)),
        at(0.1, quit_, Stopping, close),
        at(0.2, born(1), kill(1)),
        at(0.3, exits(1, KILLED), WorkerGone, Stopped, leave(0)),
    )


def test_a_worker_not_wanted_any_more_before_its_birth_is_drained_at_birth() -> None:
    new(1).tell(
        at(0.0, start, fork(1)),
        at(0.1, term, Stopping, close),
        at(0.2, born(1), drain(1)),
        at(0.3, exits(1), WorkerGone, Stopped, leave(0)),
    )


def test_a_refused_fork_ends_a_stop_as_well() -> None:
    new(1).tell(
        at(0.0, start, fork(1)),
        at(0.1, term, Stopping, close),
        at(0.2, refused(1), ForkRefused, Stopped, leave(0)),
    )


def test_a_worker_that_is_sent_away_by_hand_is_replaced() -> None:
    story = serving(2).tell(
        at(10.0, leaving(1), WorkerLeaves, fork(3)),
        at(10.1, born(3)),
        at(11.0, ready(3), WorkerServes),
        at(12.0, exits(1), WorkerGone),
    )
    gone = story.last(WorkerGone)
    assert gone.departure is Departure.LEFT
    assert gone.planned


# -- deadlines ------------------------------------------------------------------------


def test_a_hung_worker_writes_its_stacks_and_is_killed_a_second_later() -> None:
    """Its replacement does not wait for its end."""
    story = serving(2, timeout=30).tell(
        at(31.0, alarm(2), WorkerOverdue, dump(1), fork(3)),
        at(31.1, born(3)),
    )
    assert story.next_alarm == 32.0
    story.tell(
        at(32.0, alarm(2), kill(1)),
        at(32.1, exits(1, KILLED), WorkerGone),
    )
    assert story.last(WorkerGone).departure is Departure.HUNG


def test_a_worker_that_beats_is_left_alone() -> None:
    story = serving(1, timeout=30).tell(at(31.0, alarm(1)))
    assert story.next_alarm == 61.0


def test_without_a_timeout_nobody_is_hung() -> None:
    assert serving(1, timeout=0).sleeps


def test_a_master_that_was_stopped_itself_judges_nobody() -> None:
    """Nobody knows whether the workers were stopped with it."""
    story = serving(1, timeout=30).tell(at(500.0, alarm(), LivenessExcused))
    assert story.next_alarm == 530.0
    story.tell(at(600.0, resumed))
    assert story.next_alarm == 630.0


def test_a_process_that_survives_its_kill_is_killed_again() -> None:
    serving(1, timeout=30, kill_retry=5).tell(
        at(31.0, alarm(), WorkerOverdue, dump(1), fork(2)),
        at(31.1, born(2)),
        at(31.2, ready(2), WorkerServes),
        at(32.0, alarm(2), kill(1)),
        at(37.0, alarm(2), WorkerImmortal, kill(1)),
    )


def test_a_draining_worker_is_cut_off() -> None:
    story = serving(1, graceful_timeout=10, cutoff_grace=0.8).tell(
        at(20.0, term, Stopping, close, drain(1)),
        at(30.8, alarm(), WorkerOverdue, kill(1)),
        at(30.9, exits(1, KILLED), WorkerGone, Stopped, leave(0)),
    )
    assert story.brain.state.exit_code == 0


def test_boot_timeout_of_an_ordinary_worker() -> None:
    """The serving generation is known to be good: the worker is replaced."""
    serving(2, boot_timeout=20, timeout=0).tell(
        at(10.0, exits(1, SEGFAULT), WorkerGone, fork(3, slot=0)),
        at(10.1, born(3)),
        at(30.0, alarm(), WorkerOverdue, dump(3), fork(4, slot=2)),
        at(30.1, born(4)),
        at(31.0, alarm(), kill(3)),
    )


def test_boot_timeout_of_the_first_generation_ends_the_master() -> None:
    new(2, boot_timeout=20).tell(
        at(0.0, start, fork(1), fork(2)),
        at(0.1, born(1)),
        at(0.1, born(2)),
        # the verdict on the first is the verdict on all
        at(20.0, alarm(), WorkerOverdue, dump(1), FirstBootFailed, close, kill(2)),
        at(20.1, exits(2, KILLED), WorkerGone),
        at(21.0, alarm(), kill(1)),
        at(21.1, exits(1, KILLED), WorkerGone, Stopped, leave(3)),
    )


# -- code that cannot boot ------------------------------------------------------------


def test_the_first_boot_fails() -> None:
    story = new(3).tell(
        at(0.0, start, fork(1), fork(2), fork(3)),
        at(0.1, born(1)),
        at(0.1, born(2)),
        at(0.5, boot_fails(2), FirstBootFailed, close, kill(1)),
    )
    assert story.last(FirstBootFailed).failure == FAILURE
    story.tell(
        at(0.6, born(3), kill(3)),
        at(0.6, exits(1, KILLED), WorkerGone),
        at(0.6, exits(2, 3), WorkerGone),
        at(0.7, exits(3, KILLED), WorkerGone, Stopped, leave(3)),
    )


def test_a_first_worker_that_dies_of_itself_cannot_boot() -> None:
    new(1).tell(
        at(0.0, start, fork(1)),
        at(0.1, born(1)),
        at(0.5, exits(1, SEGFAULT), WorkerGone, FirstBootFailed, close, Stopped, leave(3)),
    )


def test_once_a_worker_was_ready_a_failure_is_no_first_boot_failure() -> None:
    new(2).tell(
        at(0.0, start, fork(1), fork(2)),
        at(0.1, born(1)),
        at(0.1, born(2)),
        at(0.5, ready(1), WorkerServes),
        at(0.6, boot_fails(2), fork(3)),
    )


def test_a_broken_reload_changes_nothing() -> None:
    story = serving(2).tell(
        at(10.0, reload, ReloadBegins, fork(3, 2)),
        at(10.1, born(3)),
        at(11.0, boot_fails(3), GenerationDropped),
        at(11.1, exits(3, 3), WorkerGone),
    )
    serve = [w for w in story.brain.state.workers.values() if w.phase is Phase.READY]
    assert [(w.id, w.generation) for w in serve] == [(1, 1), (2, 1)]
    # The next try is generation 3, with the code that is on disk by then.
    story.tell(at(20.0, reload, ReloadBegins, fork(4, 3, slot=2)))


def test_a_reload_that_is_not_ready_in_time_is_dropped() -> None:
    serving(1, boot_timeout=20, timeout=0).tell(
        at(10.0, reload, ReloadBegins, fork(2, 2)),
        at(10.1, born(2)),
        at(30.0, alarm(), WorkerOverdue, dump(2), GenerationDropped),
        at(31.0, alarm(), kill(2)),
        at(31.1, exits(2, KILLED), WorkerGone),
    )


def test_a_canary_killed_from_outside_gets_three_tries() -> None:
    """SIGKILL says nothing about the code; but not for ever."""
    serving(1).tell(
        at(10.0, reload, ReloadBegins, fork(2, 2)),
        at(10.1, born(2)),
        at(10.2, exits(2, KILLED), WorkerGone, fork(3, 2, slot=1)),
        at(10.3, born(3)),
        at(10.4, exits(3, KILLED), WorkerGone, fork(4, 2, slot=1)),
        at(10.5, born(4)),
        at(10.6, exits(4, KILLED), WorkerGone, GenerationDropped),
    )


def test_a_canary_that_ends_by_its_own_fault_gets_one_try() -> None:
    serving(1).tell(
        at(10.0, reload, ReloadBegins, fork(2, 2)),
        at(10.1, born(2)),
        at(10.2, exits(2, 1), WorkerGone, GenerationDropped),
    )


def test_a_reload_with_other_settings_scales_once_they_can_be_served() -> None:
    story = serving(2).tell(
        at(10.0, reload_with(Policy(workers=3)), ReloadBegins, fork(3, 2)),
        at(10.1, born(3)),
        at(11.0, ready(3), Scaled, GenerationAccepted, WorkerServes, fork(4, 2)),
    )
    assert story.brain.state.target == 3


def test_what_a_broken_reload_wanted_is_forgotten() -> None:
    story = serving(2).tell(
        at(10.0, reload_with(Policy(workers=3, timeout=5.0)), ReloadBegins, fork(3, 2)),
        at(10.1, born(3)),
        at(11.0, boot_fails(3), GenerationDropped),
        at(11.1, exits(3, 3), WorkerGone),
    )
    assert (story.brain.state.target, story.brain.policy.timeout) == (2, 30.0)


def test_the_canary_is_given_the_time_that_its_own_settings_grant() -> None:
    serving(1, boot_timeout=20, timeout=0).tell(
        at(10.0, reload_with(Policy(boot_timeout=50.0, timeout=0)), ReloadBegins, fork(2, 2)),
        at(10.1, born(2)),
        at(60.0, alarm(), WorkerOverdue, dump(2), GenerationDropped),
    )


def test_scaling_by_hand_outlives_a_reload_that_asks_for_nothing_else() -> None:
    story = serving(1).tell(
        at(5.0, ttin, Scaled, fork(2)),
        at(5.1, born(2)),
        at(6.0, ready(2), WorkerServes),
        at(10.0, reload_with(Policy(workers=1)), ReloadBegins, fork(3, 2)),
        at(10.1, born(3)),
        at(
            11.0,
            ready(3),
            GenerationAccepted,
            WorkerServes,
            drain(1),
            WorkerLeaves,
            fork(4, 2),
        ),
    )
    assert story.brain.state.target == 2


def test_wrong_settings_change_nothing() -> None:
    rejected = on.SettingsRejected(10.0, FAILURE)
    story = serving(2).tell(at(10.0, lambda _: rejected, ReloadRefused))
    assert story.last(ReloadRefused).serving == 1


# -- one thing in the middle of another -----------------------------------------------


def test_a_reload_in_a_reload_the_newest_code_wins() -> None:
    serving(2).tell(
        at(10.0, reload, ReloadBegins, fork(3, 2)),
        at(10.1, born(3)),
        at(11.0, reload, ReloadBegins, drain(3), WorkerLeaves, fork(4, 3)),
        at(11.1, born(4)),
        at(11.5, ready(3)),  # too late: generation 2 is not wanted any more
        at(11.6, exits(3), WorkerGone),
        at(
            12.0,
            ready(4),
            GenerationAccepted,
            WorkerServes,
            drain(1),
            WorkerLeaves,
            fork(5, 3, slot=2),
        ),
        at(12.1, born(5)),
        at(13.0, ready(5), WorkerServes, drain(2), WorkerLeaves, ReloadDone),
    )


def test_a_reload_while_the_one_before_is_half_done() -> None:
    serving(2).tell(
        at(10.0, reload, ReloadBegins, fork(3, 2)),
        at(10.1, born(3)),
        at(11.0, ready(3), GenerationAccepted, WorkerServes, drain(1), WorkerLeaves, fork(4, 2)),
        at(11.1, born(4)),
        # 2 (of generation 1) and 3 (of generation 2) serve; 4 is not needed any more
        at(11.5, reload, ReloadBegins, drain(4), WorkerLeaves, fork(5, 3)),
        at(11.6, born(5)),
        at(12.0, ready(5), GenerationAccepted, WorkerServes, drain(2), WorkerLeaves, fork(6, 3)),
        at(12.1, born(6)),
        at(13.0, ready(6), WorkerServes, drain(3), WorkerLeaves, ReloadDone),
    )


def test_before_the_start_a_reload_is_nothing_and_a_stop_is_the_end() -> None:
    """The hook on_starting may take its time."""
    new(2).tell(
        at(0.0, reload),
        at(0.1, ttin, Scaled),
        at(0.2, start, fork(1), fork(2), fork(3)),
    )
    new(2).tell(at(0.0, term, Stopping, close, Stopped, leave(0)))


def test_reloads_before_the_canary_is_born_are_one() -> None:
    story = serving(1).tell(
        at(10.0, reload, ReloadBegins, fork(2, 2)),
        at(10.1, refused(2), ForkRefused),
        at(10.2, reload, fork(3, 2, slot=1)),  # and whoever asks again need not wait
    )
    assert story.brain.state.newest == 2


def test_a_stop_in_a_reload() -> None:
    serving(2).tell(
        at(10.0, reload, ReloadBegins, fork(3, 2)),
        at(10.1, term, Stopping, close, drain(1), drain(2)),
        at(10.2, born(3), drain(3)),
        at(10.3, exits(3), WorkerGone),
        at(10.4, exits(1), WorkerGone),
        at(10.5, exits(2), WorkerGone, Stopped, leave(0)),
    )


def test_more_workers_in_a_reload() -> None:
    """They are of the generation that is known to work, until the new one is."""
    serving(2).tell(
        at(10.0, reload, ReloadBegins, fork(3, 2)),
        at(10.1, ttin, Scaled, fork(4, 1)),
        at(10.2, born(3)),
        at(10.3, born(4)),
        # 4 would be replaced next, so it need not even come up
        at(
            11.0,
            ready(3),
            GenerationAccepted,
            WorkerServes,
            drain(4),
            WorkerLeaves,
            fork(5, 2),
        ),
    )


def test_fewer_workers_in_a_reload() -> None:
    serving(2).tell(
        at(10.0, reload, ReloadBegins, fork(3, 2)),
        at(10.1, ttou, Scaled, drain(1), WorkerLeaves),
        at(10.2, born(3)),
        at(11.0, ready(3), GenerationAccepted, WorkerServes, drain(2), WorkerLeaves, ReloadDone),
    )


def test_a_crash_in_a_reload_is_made_up_for_with_the_old_code() -> None:
    serving(2).tell(
        at(10.0, reload, ReloadBegins, fork(3, 2)),
        at(10.1, born(3)),
        at(10.2, exits(1, SEGFAULT), WorkerGone, fork(4, 1, slot=0)),
    )


def test_a_superseded_canary_does_not_take_the_place_of_a_replacement() -> None:
    """Worker 4 makes up for the one that crashed and is still needed."""
    serving(2).tell(
        at(10.0, reload, ReloadBegins, fork(3, 2)),
        at(10.1, born(3)),
        at(10.2, exits(1, SEGFAULT), WorkerGone, fork(4, 1, slot=0)),
        at(10.3, born(4)),
        at(10.4, reload, ReloadBegins, drain(3), WorkerLeaves, fork(5, 3, slot=3)),
    )


def test_a_reload_before_anyone_is_ready_starts_over() -> None:
    new(2).tell(
        at(0.0, start, fork(1), fork(2)),
        at(0.1, born(1)),
        at(0.2, reload, ReloadBegins, drain(1), WorkerLeaves, WorkerLeaves, fork(3, 2), fork(4, 2)),
        at(0.3, born(2), drain(2)),
        at(0.4, boot_fails(1)),  # of no interest any more
    )


def test_a_storm_of_reloads_before_anyone_is_ready_does_not_pile_up() -> None:
    story = new(4)
    story.brain.handle(start(0.0))
    for n in range(100):
        story.brain.handle(reload(0.1 + n / 100))
    assert len(story.brain.state.workers) <= 12


def test_a_storm_of_reloads_does_not_pile_up() -> None:
    story = serving(4)
    for n in range(100):
        story.brain.handle(reload(10.0 + n / 100))
    assert len(story.brain.state.workers) <= 4 + 1 + 5


def test_a_storm_of_scaling_stays_within_the_slots() -> None:
    story = serving(1, most_workers=2)
    for n in range(100):
        story.brain.handle(ttin(10.0 + n / 100))
        story.brain.handle(ttou(10.0 + n / 100))
    slots = [worker.slot for worker in story.brain.state.workers.values()]
    assert max(slots) < story.brain.policy.slots == 6


# -- impatience -----------------------------------------------------------------------


def test_interrupt_does_not_wait_for_idle_clients_and_twice_for_nobody() -> None:
    serving(2).tell(
        at(10.0, interrupt, Stopping, close, drain(1, patient=False), drain(2, patient=False)),
        at(10.5, exits(1), WorkerGone),
        at(11.0, interrupt, Stopping, kill(2)),
        at(11.1, exits(2, KILLED), WorkerGone, Stopped, leave(0)),
    )


def test_quit_stops_at_once() -> None:
    serving(2).tell(
        at(10.0, quit_, Stopping, close, kill(1), kill(2)),
        at(10.1, exits(1, KILLED), WorkerGone),
        at(10.1, exits(2, KILLED), WorkerGone, Stopped, leave(0)),
    )


def test_an_interrupt_hurries_a_stop_that_is_under_way() -> None:
    serving(1).tell(
        at(10.0, term, Stopping, close, drain(1)),
        at(11.0, interrupt, drain(1, patient=False)),
        at(12.0, quit_, Stopping, kill(1)),
    )


def test_an_interrupt_hurries_the_unborn_too() -> None:
    new(1).tell(
        at(0.0, start, fork(1)),
        at(0.1, term, Stopping, close),
        at(0.2, interrupt),
        at(0.3, born(1), drain(1, patient=False)),
    )

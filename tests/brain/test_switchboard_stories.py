"""What a master does with its switchboard, told as stories."""

from __future__ import annotations

from itertools import pairwise

import pytest

from forkserve.supervisor.actions import (
    AllReady,
    Departure,
    FirstBootFailed,
    ForkRefused,
    GenerationAccepted,
    GenerationDropped,
    LivenessExcused,
    ParkingBegins,
    ParkingEnds,
    ReloadBegins,
    ReloadDone,
    Stopped,
    Stopping,
    SwitchboardGone,
    SwitchboardLeaves,
    SwitchboardOverdue,
    SwitchboardServes,
    TemplateGone,
    WorkerGone,
    WorkerLeaves,
    WorkerOverdue,
    WorkerServes,
)
from forkserve.supervisor.backoff import FREE_ROUNDS
from forkserve.supervisor.phases import Phase
from forkserve.supervisor.reconcile import MOST_SWITCHBOARDS
from forkserve.supervisor.state import Preload
from forkserve.supervisor.verdicts import HAND_BACK
from tests.brain.story import (
    alarm,
    at,
    board_born,
    board_exits,
    board_leaving,
    board_ready,
    board_refused,
    boot_fails,
    born,
    close,
    dismiss,
    dismiss_board,
    drain,
    dump,
    dump_board,
    exits,
    fast,
    fork,
    fork_board,
    fork_template,
    interrupt,
    kill,
    kill_board,
    leave,
    leaving,
    new,
    quit_,
    ready,
    reload,
    resumed,
    serving,
    slow,
    start,
    switched,
    template_born,
    template_exits,
    term,
)

KILLED = -9


# -- its life -----------------------------------------------------------------------------


def test_it_is_the_first_to_be_made() -> None:
    story = new(2, switchboard=True).tell(
        at(0.0, start, fork_board(1), fork(1), fork(2)),
        at(0.1, board_born(1)),
        at(0.1, born(1)),
        at(0.1, born(2)),
        at(0.2, board_ready(1), SwitchboardServes),
    )
    assert story.last(SwitchboardServes).after == 0.2
    story.tell(
        at(1.0, ready(1), WorkerServes),
        at(1.0, ready(2), WorkerServes, AllReady),
    )


def test_before_the_template_too() -> None:
    new(1, switchboard=True, preload=Preload.AUTO).tell(
        at(0.0, start, fork_board(1), fork_template(1, 1)),
    )


def test_ready_may_be_heard_before_the_fork_is_confirmed() -> None:
    new(1, switchboard=True).tell(
        at(0.0, start, fork_board(1), fork(1)),
        at(0.1, board_ready(1), SwitchboardServes),
        at(0.2, board_born(1)),
        at(0.3, term, Stopping, close, dismiss_board(1)),
    )


def test_without_one_nothing_is_different() -> None:
    story = serving(2).tell(
        at(10.0, slow(1)),
        at(10.1, fast(1)),
        at(11.0, term, Stopping, close, drain(1), drain(2)),
    )
    assert not story.brain.state.switchboards


def test_one_that_beats_is_left_alone() -> None:
    story = switched(1).tell(
        at(6.0, alarm(1, board=True)),
        at(11.0, alarm(1, board=True)),
    )
    assert story.next_alarm == 16.0


def test_an_old_beat_is_not_its() -> None:
    """What its predecessor left in the scoreboard says nothing of it."""
    story = switched(1)
    story.brain.handle(alarm(1, board=True)(6.0))
    story.tell(
        at(7.0, board_exits(1, KILLED), SwitchboardGone, fork_board(2)),
        at(7.1, board_born(2)),
        at(8.0, board_ready(2), SwitchboardServes),
    )
    assert story.next_alarm == 13.0


def test_a_reload_does_not_replace_it() -> None:
    story = switched(1).tell(
        at(2.0, reload, ReloadBegins, fork(2, 2)),
        at(2.1, born(2)),
        at(3.0, ready(2), GenerationAccepted, WorkerServes, drain(1), WorkerLeaves, ReloadDone),
        at(3.5, exits(1), WorkerGone),
    )
    assert [b.phase for b in story.brain.state.switchboards.values()] == [Phase.READY]


# -- its death ----------------------------------------------------------------------------


def test_a_dead_one_is_replaced_at_once_and_nobody_else_is_touched() -> None:
    story = switched(2).tell(
        at(10.0, board_exits(1, KILLED), SwitchboardGone, fork_board(2)),
    )
    gone = story.last(SwitchboardGone)
    assert (gone.departure, gone.planned) == (Departure.CRASHED, False)
    assert gone.next == "another is made"
    story.tell(
        at(10.1, board_born(2)),
        at(10.2, board_ready(2), SwitchboardServes),
    )


def test_one_that_keeps_dying_is_made_again_with_delay() -> None:
    """Meanwhile the service goes on without."""
    story, now, delays = switched(1, timeout=0), 2.0, list[float]()
    for number in range(1, FREE_ROUNDS + 1):
        story.tell(
            at(now, board_exits(number, 1), SwitchboardGone, fork_board(number + 1)),
            at(now, board_born(number + 1)),
        )
    for number in range(FREE_ROUNDS + 1, FREE_ROUNDS + 10):
        story.tell(at(now, board_exits(number, 1), SwitchboardGone))
        delay = story.next_alarm - now
        assert story.last(SwitchboardGone).next == f"another is made in {delay:.1f} s"
        delays.append(delay)
        now = story.next_alarm
        story.tell(
            at(now, alarm(), fork_board(number + 1)),
            at(now, board_born(number + 1)),
        )
    assert 0.375 <= delays[0] <= 0.5
    assert all(later > earlier for earlier, later in pairwise(delays[:7]))
    assert all(22.5 <= delay <= 30.0 for delay in delays[7:])
    assert story.brain.state.backoff.rounds == 0
    assert story.brain.state.workers[1].phase is Phase.READY


def test_one_that_lived_ends_the_row() -> None:
    story, number = switched(1), 1
    for number in range(1, FREE_ROUNDS + 1):
        story.brain.handle(board_exits(number, 1)(2.0))
        story.brain.handle(board_born(number + 1)(2.0))
    story.tell(
        at(3.0, board_ready(number + 1), SwitchboardServes),
        at(8.0, board_exits(number + 1, 1), SwitchboardGone, fork_board(number + 2)),
    )
    assert story.brain.state.switchboard_backoff.rounds == 0


def test_a_refused_fork_is_tried_again_later() -> None:
    story = new(1, switchboard=True).tell(
        at(0.0, start, fork_board(1), fork(1)),
        at(0.0, board_refused(1), ForkRefused),
        at(0.1, born(1)),
    )
    assert story.brain.state.backoff.rounds == 0
    story.tell(at(0.5, alarm(), fork_board(2)))


def test_refusals_far_apart_are_no_row() -> None:
    story, now = switched(1, timeout=0), 100.0
    for number in range(1, 21, 2):
        story.tell(
            at(now, board_leaving(number), SwitchboardLeaves, fork_board(number + 1)),
            at(now, board_refused(number + 1), ForkRefused),
        )
        assert story.last(ForkRefused).delay == 0.5
        story.tell(
            at(now + 0.1, board_exits(number), SwitchboardGone),
            at(now + 0.5, alarm(), fork_board(number + 2)),
            at(now + 0.6, board_born(number + 2)),
            at(now + 0.7, board_ready(number + 2), SwitchboardServes),
        )
        now += 100.0


def test_its_end_does_not_hurry_the_next_try() -> None:
    """It was hung and had lived, but its successor has been refused since."""
    story = switched(1, timeout=0).tell(
        at(6.0, alarm(), SwitchboardOverdue, dump_board(1), fork_board(2)),
        at(6.6, board_refused(2), ForkRefused),
        at(6.7, board_exits(1, KILLED), SwitchboardGone),
    )
    assert story.next_alarm == pytest.approx(7.1)
    assert story.last(SwitchboardGone).next == "another is made in 0.4 s"


def test_one_that_cannot_start_harms_nobody_who_tries_to() -> None:
    """Neither the first boot nor a reload."""
    new(1, switchboard=True).tell(
        at(0.0, start, fork_board(1), fork(1)),
        at(0.1, board_born(1)),
        at(0.1, born(1)),
        at(0.2, board_exits(1, 1), SwitchboardGone, fork_board(2)),
        at(0.3, ready(1), WorkerServes, AllReady),
        at(1.0, reload, ReloadBegins, fork(2, 2)),
        at(1.1, born(2)),
        at(1.2, board_refused(2), ForkRefused),
        at(1.7, alarm(1), fork_board(3)),
        at(1.8, ready(2), GenerationAccepted, WorkerServes, drain(1), WorkerLeaves, ReloadDone),
    )


def test_one_that_is_not_ready_in_time_is_killed() -> None:
    story = new(1, switchboard=True, timeout=0).tell(
        at(0.0, start, fork_board(1), fork(1)),
        at(0.1, board_born(1)),
        at(0.1, born(1)),
        at(1.0, ready(1), WorkerServes, AllReady),
        at(10.0, alarm(), SwitchboardOverdue, dump_board(1), fork_board(2)),
    )
    late = story.last(SwitchboardOverdue)
    assert (late.departure, late.limit) == (Departure.BOOT_TIMED_OUT, 10.0)
    story.tell(
        at(10.1, board_born(2)),
        at(10.2, board_ready(1)),  # too late
        at(11.0, alarm(), kill_board(1)),
        at(11.1, board_exits(1, KILLED), SwitchboardGone),
    )
    assert story.brain.state.switchboard_backoff.rounds == 1


# -- one that hangs -----------------------------------------------------------------------


def test_a_hung_one_writes_its_stacks_and_is_killed_and_its_successor_does_not_wait() -> None:
    story = switched(2).tell(
        at(6.0, alarm(1, 2), SwitchboardOverdue, dump_board(1), fork_board(2)),
    )
    late = story.last(SwitchboardOverdue)
    assert (late.departure, late.limit) == (Departure.HUNG, 5.0)
    story.tell(
        at(6.1, board_born(2)),
        at(6.2, board_ready(2), SwitchboardServes),
        at(7.0, alarm(1, 2, board=True), kill_board(1)),
        at(7.1, board_exits(1, KILLED), SwitchboardGone),
    )
    gone = story.last(SwitchboardGone)
    assert (gone.departure, gone.planned) == (Departure.HUNG, False)
    assert gone.next == "another has taken its place"


def test_one_that_survives_its_kill_is_killed_again() -> None:
    switched(1, kill_retry=3).tell(
        at(6.0, alarm(1), SwitchboardOverdue, dump_board(1), fork_board(2)),
        at(6.1, board_born(2)),
        at(6.2, board_ready(2), SwitchboardServes),
        at(7.0, alarm(1, board=True), kill_board(1)),
        at(10.0, alarm(1, board=True), kill_board(1)),
    )


def test_those_that_nobody_can_end_do_not_pile_up() -> None:
    story = switched(1, timeout=0)
    for number in range(2, 10):
        now = 100.0 * number
        story.brain.handle(resumed(now))
        story.brain.handle(alarm()(now + 5.0))
        if number in story.brain.state.switchboards:
            story.brain.handle(board_born(number)(now + 5.1))
            story.brain.handle(board_ready(number)(now + 5.2))
    assert len(story.brain.state.switchboards) == MOST_SWITCHBOARDS
    story.tell(at(1000.0, board_exits(1, KILLED), SwitchboardGone, fork_board(4)))


def test_one_given_up_before_its_birth_is_killed_at_birth() -> None:
    new(1, switchboard=True, timeout=0).tell(
        at(0.0, start, fork_board(1), fork(1)),
        at(10.0, alarm(), SwitchboardOverdue, fork_board(2)),
        at(10.1, board_born(1), kill_board(1)),
    )


def test_a_master_that_was_stopped_itself_does_not_judge_it() -> None:
    story = switched(1, timeout=0).tell(at(500.0, alarm(), LivenessExcused))
    assert story.next_alarm == 505.0
    story.tell(at(600.0, resumed))
    assert story.next_alarm == 605.0


def test_a_late_verdict_on_it_excuses_the_workers_as_well() -> None:
    """The other way round too: whoever held up the master held up everybody."""
    story = switched(1, timeout=5).tell(at(6.6, alarm(), LivenessExcused))
    assert story.next_alarm == pytest.approx(11.6)
    story.tell(at(12.0, alarm(1), SwitchboardOverdue, dump_board(1), fork_board(2)))


# -- TERM by hand -------------------------------------------------------------------------


def test_one_that_is_sent_away_by_hand_is_replaced_while_it_leaves() -> None:
    story = switched(1).tell(
        at(2.0, board_leaving(1), SwitchboardLeaves, fork_board(2)),
        at(2.1, board_born(2)),
        at(2.2, board_ready(2), SwitchboardServes),
        at(2.3, board_exits(1), SwitchboardGone),
    )
    gone = story.last(SwitchboardGone)
    assert (gone.departure, gone.planned) == (Departure.LEFT, True)
    assert gone.next == "another has taken its place"


def test_however_often_that_happens() -> None:
    """It is no death, so nothing is waited for; but they do not pile up."""
    story = switched(1)
    for number in range(1, 20):
        story.tell(
            at(2.0, board_leaving(number), SwitchboardLeaves, fork_board(number + 1)),
            at(2.0, board_born(number + 1)),
            at(2.0, board_exits(number), SwitchboardGone),
        )
    story.tell(
        at(2.0, board_leaving(20), SwitchboardLeaves, fork_board(21)),
        at(2.0, board_leaving(21), SwitchboardLeaves, fork_board(22)),
        at(2.0, board_leaving(22), SwitchboardLeaves),
        at(2.0, board_exits(20), SwitchboardGone, fork_board(23)),
    )


def test_one_that_does_not_get_away_is_killed() -> None:
    story = switched(1, timeout=0)
    story.brain.handle(board_leaving(1)(2.0))
    story.brain.handle(board_born(2)(2.0))
    story.brain.handle(board_ready(2)(8.0))
    story.tell(at(12.0, alarm(board=True), SwitchboardOverdue, kill_board(1)))
    late = story.last(SwitchboardOverdue)
    assert (late.departure, late.limit) == (Departure.CUT_OFF, 10.0)


# -- the stop -----------------------------------------------------------------------------


def test_the_workers_drain_once_it_has_handed_back_what_it_holds() -> None:
    story = switched(2).tell(at(2.0, term, Stopping, close, dismiss_board(1)))
    assert story.next_alarm == 2.0 + HAND_BACK
    story.tell(at(2.05, board_exits(1), SwitchboardGone, drain(1), drain(2)))
    gone = story.last(SwitchboardGone)
    assert (gone.departure, gone.planned, gone.next) == (Departure.DRAINED, True, "")
    story.tell(
        at(2.5, exits(2), WorkerGone),
        at(3.0, exits(1), WorkerGone, Stopped, leave(0)),
    )
    assert story.sleeps


def test_they_do_not_wait_long() -> None:
    """It is stopped, say; and it may go on as long as somebody takes what it hands back."""
    story = switched(2, graceful_timeout=10, cutoff_grace=0.8).tell(
        at(2.0, term, Stopping, close, dismiss_board(1)),
        at(2.3, alarm(), drain(1), drain(2)),
        at(3.0, exits(1), WorkerGone),
    )
    assert story.next_alarm == 12.8
    story.tell(
        at(12.0, exits(2), WorkerGone, kill_board(1)),
        at(12.1, board_exits(1, KILLED), SwitchboardGone, Stopped, leave(0)),
    )
    assert story.last(SwitchboardGone).planned


def test_everybody_is_cut_off_in_time_all_the_same() -> None:
    """The time of all of them began with the stop."""
    story = switched(1, graceful_timeout=10, cutoff_grace=0.8).tell(
        at(2.0, term, Stopping, close, dismiss_board(1)),
        at(2.3, alarm(), drain(1)),
        at(12.8, alarm(), WorkerOverdue, kill(1), SwitchboardOverdue, kill_board(1)),
    )
    assert story.last(SwitchboardOverdue).departure is Departure.CUT_OFF
    story.tell(
        at(12.9, exits(1, KILLED), WorkerGone),
        at(12.9, board_exits(1, KILLED), SwitchboardGone, Stopped, leave(0)),
    )


def test_a_worker_that_waits_is_judged_as_ever() -> None:
    switched(2, timeout=1.2).tell(
        at(2.0, term, Stopping, close, dismiss_board(1)),
        at(2.2, alarm(2), WorkerOverdue, dump(1)),
        at(2.25, leaving(2), WorkerLeaves),
        at(2.26, board_exits(1), SwitchboardGone),
    )


def test_one_that_leaves_while_it_waits_has_no_longer_than_the_others() -> None:
    story = switched(1, graceful_timeout=10, cutoff_grace=0.8).tell(
        at(2.0, term, Stopping, close, dismiss_board(1)),
        at(2.2, leaving(1), WorkerLeaves),
        at(2.25, board_exits(1), SwitchboardGone),
    )
    assert story.next_alarm == 12.8


def test_a_stop_of_no_time_kills_a_hung_worker_in_time_too() -> None:
    story = switched(1, timeout=1.1, graceful_timeout=0, cutoff_grace=0.8).tell(
        at(2.0, term, Stopping, close, dismiss_board(1)),
        at(2.1, alarm(), WorkerOverdue, dump(1)),
    )
    assert story.next_alarm == 2.8


def test_workers_that_start_drain_with_the_rest() -> None:
    switched(1).tell(
        at(2.0, exits(1, KILLED), WorkerGone, fork(2, slot=0)),
        at(2.1, term, Stopping, close, dismiss_board(1)),
        at(2.2, born(2)),
        at(2.3, ready(2), WorkerServes),
        at(2.35, board_exits(1), SwitchboardGone, drain(2)),
    )


def test_the_template_goes_at_once() -> None:
    story = new(1, switchboard=True, preload=Preload.ALWAYS)
    story.brain.handle(start(0.0))
    story.brain.handle(board_born(1)(0.1))
    story.brain.handle(board_ready(1)(0.2))
    story.brain.handle(template_born(1)(0.3))
    story.tell(
        at(0.5, term, Stopping, close, dismiss_board(1), dismiss(1), kill_board(1)),
        at(0.6, template_exits(1, -15), TemplateGone),
        at(0.6, board_exits(1, KILLED), SwitchboardGone, Stopped, leave(0)),
    )


def test_one_whose_fork_is_under_way_is_dismissed_at_its_birth() -> None:
    new(1, switchboard=True).tell(
        at(0.0, start, fork_board(1), fork(1)),
        at(0.1, born(1)),
        at(0.2, term, Stopping, close),
        at(0.3, board_born(1), dismiss_board(1)),
        at(0.4, board_exits(1), SwitchboardGone, drain(1)),
    )


def test_one_whose_fork_is_refused_is_waited_for_no_longer() -> None:
    new(1, switchboard=True).tell(
        at(0.0, start, fork_board(1), fork(1)),
        at(0.1, born(1)),
        at(0.2, term, Stopping, close),
        at(0.3, board_refused(1), ForkRefused, drain(1)),
    )


def test_one_that_leaves_by_itself_goes_on_and_is_waited_for() -> None:
    """Its successor may have gone before it could give back anything."""
    story = switched(1, graceful_timeout=1).tell(
        at(2.0, board_leaving(1), SwitchboardLeaves, fork_board(2)),
        at(2.1, board_born(2)),
        at(2.2, term, Stopping, close, dismiss_board(1), dismiss_board(2)),
        at(2.3, board_exits(1), SwitchboardGone),
        at(2.4, board_exits(2), SwitchboardGone, drain(1)),
    )
    assert story.next_alarm == pytest.approx(4.0)


def test_one_that_leaves_by_itself_does_not_hold_up_a_stop() -> None:
    story = switched(1, graceful_timeout=1).tell(
        at(2.0, board_leaving(1), SwitchboardLeaves, fork_board(2)),
        at(2.0, board_refused(2), ForkRefused),
        at(2.1, board_leaving(1)),  # once is enough
        at(2.2, term, Stopping, close, dismiss_board(1)),
        at(2.5, alarm(), drain(1)),
    )
    assert story.next_alarm == pytest.approx(4.0)
    story.tell(at(4.0, alarm(), WorkerOverdue, kill(1), SwitchboardOverdue, kill_board(1)))


def test_without_workers_nobody_takes_what_it_holds() -> None:
    switched(1).tell(
        at(2.0, exits(1, KILLED), WorkerGone, fork(2, slot=0)),
        at(2.1, term, Stopping, close, dismiss_board(1)),
        at(2.2, born(2)),
        at(2.25, exits(2, KILLED), WorkerGone, kill_board(1)),
        at(2.3, board_exits(1, KILLED), SwitchboardGone, Stopped, leave(0)),
    )


def test_a_hung_one_is_waited_for_no_longer_than_any() -> None:
    switched(1).tell(
        at(6.0, alarm(1), SwitchboardOverdue, dump_board(1), fork_board(2)),
        at(6.0, board_refused(2), ForkRefused),
        at(6.1, term, Stopping, close),
        at(6.4, alarm(1), drain(1)),
        at(6.5, exits(1), WorkerGone),
        at(7.0, alarm(), kill_board(1)),
        at(7.1, board_exits(1, KILLED), SwitchboardGone, Stopped, leave(0)),
    )


def test_no_other_is_made_in_a_stop() -> None:
    story = switched(1).tell(
        at(2.0, term, Stopping, close, dismiss_board(1)),
        at(2.1, board_leaving(1)),  # it has been asked already
        at(2.2, board_exits(1, KILLED), SwitchboardGone, drain(1)),
        at(3.0, slow(1)),
    )
    assert not story.brain.state.switchboards


def test_an_interrupt_waits_as_long_and_then_for_no_idle_client() -> None:
    switched(2).tell(
        at(2.0, interrupt, Stopping, close, dismiss_board(1)),
        at(2.3, alarm(), drain(1, patient=False), drain(2, patient=False)),
        at(2.4, interrupt, Stopping, kill(1), kill(2), kill_board(1)),
    )


def test_an_interrupt_while_they_wait_makes_them_impatient() -> None:
    switched(2).tell(
        at(2.0, term, Stopping, close, dismiss_board(1)),
        at(2.1, interrupt),
        at(2.2, board_exits(1), SwitchboardGone, drain(1, patient=False), drain(2, patient=False)),
    )


def test_an_interrupt_hurries_those_who_drain_already() -> None:
    switched(2).tell(
        at(2.0, leaving(1), WorkerLeaves, fork(3)),
        at(2.0, born(3)),
        at(2.1, interrupt, Stopping, close, dismiss_board(1), drain(1, patient=False)),
    )


def test_quit_kills_it_too() -> None:
    switched(1).tell(
        at(2.0, quit_, Stopping, close, dismiss_board(1), kill(1), kill_board(1)),
        at(2.1, exits(1, KILLED), WorkerGone),
        at(2.1, board_exits(1, KILLED), SwitchboardGone, Stopped, leave(0)),
    )


def test_quit_while_they_wait() -> None:
    switched(1).tell(
        at(2.0, term, Stopping, close, dismiss_board(1)),
        at(2.1, quit_, Stopping, kill(1), kill_board(1)),
    )


def test_it_goes_with_a_first_boot_that_fails() -> None:
    story = new(2, switchboard=True).tell(
        at(0.0, start, fork_board(1), fork(1), fork(2)),
        at(0.1, board_born(1)),
        at(0.1, born(1)),
        at(0.1, born(2)),
        at(0.2, board_ready(1), SwitchboardServes),
        at(0.5, boot_fails(1), FirstBootFailed, close, dismiss_board(1), kill(2), kill_board(1)),
        at(0.6, exits(1, 3), WorkerGone),
        at(0.6, exits(2, KILLED), WorkerGone),
        at(0.6, board_exits(1, KILLED), SwitchboardGone, Stopped, leave(3)),
    )
    assert story.brain.state.exit_code == 3


def test_a_broken_deploy_does_not_touch_it() -> None:
    story = switched(1).tell(
        at(2.0, reload, ReloadBegins, fork(2, 2)),
        at(2.1, born(2)),
        at(2.2, boot_fails(2), GenerationDropped),
        at(2.3, exits(2, 3), WorkerGone),
    )
    assert [b.phase for b in story.brain.state.switchboards.values()] == [Phase.READY]


# -- parking ------------------------------------------------------------------------------


def test_parking_begins_with_the_first_slow_worker_and_ends_with_the_last() -> None:
    story = switched(3).tell(
        at(2.0, slow(2), ParkingBegins),
        at(2.1, slow(3)),
        at(2.2, slow(3)),
        at(2.3, fast(2)),
        at(2.4, fast(3), ParkingEnds),
        at(2.5, fast(3)),
        at(2.6, slow(1), ParkingBegins),
    )
    assert story.last(ParkingBegins).worker_id == 1


def test_the_end_of_the_last_slow_worker_ends_it_too() -> None:
    switched(2).tell(
        at(2.0, slow(2), ParkingBegins),
        at(2.1, exits(2, KILLED), WorkerGone, ParkingEnds, fork(3, slot=1)),
        at(2.2, slow(2)),  # heard late
    )


def test_one_that_drains_is_slow_until_it_is_gone() -> None:
    switched(2).tell(
        at(2.0, slow(2), ParkingBegins),
        at(2.1, leaving(2), WorkerLeaves, fork(3)),
        at(2.2, exits(2), WorkerGone, ParkingEnds),
    )


def test_in_a_stop_it_is_of_no_interest() -> None:
    switched(2).tell(
        at(2.0, slow(2), ParkingBegins),
        at(2.1, term, Stopping, close, dismiss_board(1)),
        at(2.2, fast(2)),
        at(2.2, board_exits(1), SwitchboardGone, drain(1), drain(2)),
        at(2.3, slow(2)),
    )

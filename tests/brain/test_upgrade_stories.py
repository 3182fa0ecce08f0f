"""What two masters do in an upgrade, told as stories: the old one's, then the new one's."""

from __future__ import annotations

import pytest

from forkserve.supervisor.actions import (
    AllReady,
    FirstBootFailed,
    GenerationAccepted,
    Ignored,
    MasterGone,
    MasterOverdue,
    PredecessorLeft,
    ReloadBegins,
    ReloadDone,
    Stopped,
    Stopping,
    SwitchboardGone,
    SwitchboardServes,
    TemplateGone,
    TookOver,
    UpgradeBegins,
    UpgradeDone,
    UpgradeFailed,
    Waits,
    WorkerGone,
    WorkerLeaves,
    WorkerServes,
)
from forkserve.supervisor.failures import BootFailure
from tests.brain.story import (
    FAILURE,
    PREDECESSOR,
    Row,
    Story,
    alarm,
    at,
    board_born,
    board_exits,
    board_ready,
    boot_fails,
    born,
    close,
    close_for_others,
    dismiss,
    dismiss_board,
    dismiss_master,
    drain,
    exits,
    fork,
    fork_board,
    fork_master,
    forward_board,
    hand_over,
    interrupt,
    kill,
    kill_board,
    kill_master,
    leave,
    new,
    pass_reload_on,
    predecessor_gone,
    quit_,
    ready,
    reload,
    report_ready,
    serving,
    start,
    start_beside,
    successor_born,
    successor_exits,
    successor_extended,
    successor_fails,
    successor_pid_of,
    successor_ready,
    successor_refused,
    switched,
    taken_over,
    template_exits,
    templated,
    term,
    ttin,
    upgrade,
)

KILLED = -9

# -- the old master -----------------------------------------------------------------------


def upgrading(workers: int, **policy: float) -> Story:
    """Its new master was started at second 10."""
    return serving(workers, **policy).tell(
        at(10.0, upgrade, fork_master(1)),
        at(10.0, successor_born(1), UpgradeBegins),
    )


def test_it_leaves_once_the_new_one_is_ready() -> None:
    story = upgrading(2).tell(
        at(
            12.0,
            successor_ready(1),
            hand_over(1),
            UpgradeDone,
            close_for_others,
            drain(1),
            drain(2),
        )
    )
    assert story.last(UpgradeDone).pid == successor_pid_of(1)
    assert story.last(UpgradeDone).after == 2.0
    story.tell(
        at(12.5, exits(1), WorkerGone),
        at(13.0, exits(2), WorkerGone, Stopped, leave(0)),
    )


def test_its_template_goes_with_it() -> None:
    templated(1).tell(
        at(10.0, upgrade, fork_master(1)),
        at(10.0, successor_born(1), UpgradeBegins),
        at(
            12.0,
            successor_ready(1),
            hand_over(1),
            UpgradeDone,
            close_for_others,
            dismiss(1),
            drain(1),
        ),
        at(12.5, template_exits(1), TemplateGone),
        at(13.0, exits(1), WorkerGone, Stopped, leave(0)),
    )


def test_what_its_switchboard_holds_goes_to_the_new_one() -> None:
    """It passes on until nobody can bring it anything any more."""
    switched(1).tell(
        at(3.0, upgrade, fork_master(1)),
        at(3.0, successor_born(1), UpgradeBegins),
        at(
            4.0,
            successor_ready(1),
            hand_over(1),
            UpgradeDone,
            close_for_others,
            forward_board(1),
            drain(1),
        ),
        at(5.0, exits(1), WorkerGone, dismiss_board(1)),
        at(5.1, board_exits(1), SwitchboardGone, Stopped, leave(0)),
    )


def test_without_a_switchboard_to_pass_it_on_to_the_workers_get_it() -> None:
    switched(1).tell(
        at(3.0, upgrade, fork_master(1)),
        at(3.0, successor_born(1), UpgradeBegins),
        at(
            4.0,
            successor_ready(1, switchboard=False),
            hand_over(1),
            UpgradeDone,
            close_for_others,
            dismiss_board(1),
        ),
        at(4.1, board_exits(1), SwitchboardGone, drain(1)),
        at(5.0, exits(1), WorkerGone, Stopped, leave(0)),
    )


def test_a_switchboard_that_does_not_leave_is_killed_in_time() -> None:
    story = switched(1, graceful_timeout=3.0).tell(
        at(3.0, upgrade, fork_master(1)),
        at(3.0, successor_born(1), UpgradeBegins),
        at(
            4.0,
            successor_ready(1),
            hand_over(1),
            UpgradeDone,
            close_for_others,
            forward_board(1),
            drain(1),
        ),
        at(5.0, exits(1), WorkerGone, dismiss_board(1)),
    )
    assert story.next_alarm == pytest.approx(4.0 + 3.0 + 0.8)
    story.brain.handle(alarm()(7.8))
    assert kill_board(1) in story.brain._out


@pytest.mark.parametrize(
    "failing",
    [
        at(11.0, successor_fails(1), UpgradeFailed),
        at(130.0, alarm(1, 2), UpgradeFailed, dismiss_master(1)),
    ],
    ids=["it says why", "it is too late"],
)
def test_one_that_fails_is_left_behind(failing: Row) -> None:
    story = upgrading(2, timeout=0, boot_timeout=60.0).tell(failing)
    when = failing.when
    story.tell(
        at(when + 1, successor_exits(1, 3), MasterGone),
        at(when + 2, upgrade, fork_master(2)),
    )


def test_why_it_failed_is_told() -> None:
    story = upgrading(1).tell(at(11.0, successor_fails(1), UpgradeFailed))
    assert story.last(UpgradeFailed).failure == FAILURE
    story = upgrading(1).tell(at(11.0, successor_exits(1, KILLED), UpgradeFailed))
    assert "was ended by SIGKILL" in story.last(UpgradeFailed).failure.headline
    story = upgrading(1).tell(at(11.0, successor_exits(1, 2), UpgradeFailed))
    assert "its settings are wrong" in story.last(UpgradeFailed).failure.headline
    story = serving(1).tell(
        at(10.0, upgrade, fork_master(1)), at(10.0, successor_refused(1), UpgradeFailed)
    )
    assert story.last(UpgradeFailed).failure == BootFailure(
        "The system refused a new process: EAGAIN."
    )


def test_it_may_ask_for_more_time() -> None:
    story = upgrading(1, timeout=0, boot_timeout=60.0)
    assert story.next_alarm == 130.0
    story.tell(at(20.0, successor_extended(1, 500.0)))
    assert story.next_alarm == 520.0
    story.tell(at(21.0, successor_extended(1, 5.0)))
    assert story.next_alarm == 520.0


def test_one_that_does_not_leave_is_killed() -> None:
    upgrading(1, timeout=0, boot_timeout=60.0, graceful_timeout=5.0).tell(
        at(130.0, alarm(1), UpgradeFailed, dismiss_master(1)),
        at(136.0, alarm(1), MasterOverdue, kill_master(1)),
        at(141.0, alarm(1), kill_master(1)),
        at(142.0, successor_exits(1, KILLED), MasterGone),
    )


def test_there_is_never_a_second_one() -> None:
    story = upgrading(1).tell(at(11.0, upgrade, Ignored))
    assert story.last(Ignored).because == f"a new master (pid {successor_pid_of(1)}) is starting"
    story.tell(
        at(12.0, successor_fails(1), UpgradeFailed),
        at(12.1, upgrade, Waits),
        at(12.2, successor_exits(1, 3), MasterGone, fork_master(2)),
    )


def test_none_is_started_before_a_worker_was_ever_ready() -> None:
    new(1).tell(at(0.0, start, fork(1)), at(0.1, upgrade, Ignored))


def test_a_reload_goes_on_beside_it() -> None:
    serving(1).tell(
        at(10.0, reload, ReloadBegins, fork(2, 2)),
        at(10.1, upgrade, fork_master(1)),
        at(10.1, successor_born(1), UpgradeBegins),
        at(11.0, born(2)),
        at(12.0, ready(2), GenerationAccepted, WorkerServes, drain(1), WorkerLeaves, ReloadDone),
        at(12.1, successor_ready(1), hand_over(1), UpgradeDone, close_for_others, drain(2)),
    )


def test_a_reload_meanwhile_goes_to_the_new_one() -> None:
    """Which may have read the code just before it was changed."""
    upgrading(1).tell(
        at(11.0, reload, Waits),
        at(
            12.0,
            successor_ready(1),
            hand_over(1),
            pass_reload_on(1),
            UpgradeDone,
            close_for_others,
            drain(1),
        ),
    )


def test_or_is_done_here_if_that_fails() -> None:
    upgrading(1).tell(
        at(11.0, reload, Waits),
        at(12.0, successor_fails(1), UpgradeFailed, ReloadBegins, fork(2, 2)),
    )


def test_a_stop_ends_both() -> None:
    upgrading(1, graceful_timeout=5.0).tell(
        at(11.0, term, Stopping, close, dismiss_master(1), drain(1)),
        at(11.5, successor_ready(1)),  # too late
        at(12.0, exits(1), WorkerGone),
        at(13.0, successor_exits(1), MasterGone, Stopped, leave(0)),
    )


def test_a_stop_at_once_too() -> None:
    """By a signal: SIGKILL would leave its workers to themselves."""
    upgrading(1).tell(
        at(
            11.0,
            quit_,
            Stopping,
            close,
            dismiss_master(1),
            dismiss_master(1, at_once=True),
            kill(1),
        ),
        at(12.0, alarm(), MasterOverdue, kill_master(1)),
        at(12.1, successor_exits(1, KILLED), MasterGone),
        at(12.2, exits(1, KILLED), WorkerGone, Stopped, leave(0)),
    )


def test_a_stop_before_it_is_even_born() -> None:
    serving(1).tell(
        at(10.0, upgrade, fork_master(1)),
        at(10.1, term, Stopping, close, drain(1)),
        at(10.2, successor_born(1), dismiss_master(1)),
        at(10.3, exits(1), WorkerGone),
        at(10.4, successor_exits(1, -15), MasterGone, Stopped, leave(0)),
    )


def test_a_master_that_leaves_can_be_hurried_and_answers_the_rest() -> None:
    story = upgrading(1).tell(
        at(12.0, successor_ready(1), hand_over(1), UpgradeDone, close_for_others, drain(1)),
        at(12.1, upgrade, Ignored),
        at(12.2, reload, Ignored),
    )
    assert f"pid {successor_pid_of(1)}) has taken over" in story.last(Ignored).because
    story.tell(
        at(12.3, ttin, Ignored),
        at(12.4, term),
        at(12.5, interrupt, drain(1, patient=False)),
        at(12.6, quit_, Stopping, kill(1)),
        at(12.7, exits(1, KILLED), WorkerGone, Stopped, leave(0)),
    )


def test_the_end_of_the_new_one_is_told_while_the_old_one_leaves() -> None:
    story = upgrading(1).tell(
        at(12.0, successor_ready(1), hand_over(1), UpgradeDone, close_for_others, drain(1)),
        at(12.1, successor_exits(1, KILLED), MasterGone),
    )
    assert story.last(MasterGone).served


# -- the new master -----------------------------------------------------------------------


def beside(workers: int, **policy: float) -> Story:
    """A new master whose workers were ready at second 1."""
    story = new(workers, **policy).tell(at(0.0, start_beside, *map(fork, range(1, workers + 1))))
    for worker_id in range(1, workers + 1):
        story.brain.handle(born(worker_id)(0.1))
    for worker_id in range(1, workers):
        story.brain.handle(ready(worker_id)(0.9))
    return story.tell(at(1.0, ready(workers), WorkerServes, AllReady, report_ready))


def test_it_reports_once_all_its_workers_are_ready() -> None:
    story = beside(2).tell(at(1.1, taken_over, TookOver))
    assert story.last(TookOver).predecessor == PREDECESSOR
    story.tell(
        at(9.0, predecessor_gone, PredecessorLeft),
        at(10.0, term, Stopping, close, drain(1), drain(2)),
    )


def test_it_reports_only_once() -> None:
    beside(1).tell(
        at(2.0, exits(1, KILLED), WorkerGone, fork(2, slot=0)),
        at(2.1, born(2)),
        at(3.0, ready(2), WorkerServes),
    )


def test_until_it_has_taken_over_the_queue_is_not_its_to_close() -> None:
    beside(1).tell(
        at(2.0, term, Stopping, close_for_others, drain(1)),
        at(3.0, exits(1), WorkerGone, Stopped, leave(0)),
    )


def test_one_that_cannot_start_leaves_the_queue_alone() -> None:
    new(1).tell(
        at(0.0, start_beside, fork(1)),
        at(0.1, born(1)),
        at(1.0, boot_fails(1), FirstBootFailed, close_for_others),
        at(1.1, exits(1, 3), WorkerGone, Stopped, leave(3)),
    )


def test_the_next_upgrade_waits_until_the_old_master_has_left() -> None:
    """There are at most two."""
    story = beside(1).tell(
        at(1.1, taken_over, TookOver),
        at(2.0, upgrade, Waits),
    )
    assert story.last(Waits).because == f"the old master (pid {PREDECESSOR}) has not left yet"
    story.tell(at(3.0, predecessor_gone, PredecessorLeft, fork_master(1)))


def test_if_the_old_one_dies_it_goes_on_alone() -> None:
    story = new(1).tell(
        at(0.0, start_beside, fork(1)),
        at(0.1, born(1)),
        at(0.5, predecessor_gone, PredecessorLeft),
    )
    assert story.last(PredecessorLeft).died
    story.tell(
        at(1.0, ready(1), WorkerServes, AllReady),
        at(2.0, term, Stopping, close, drain(1)),
    )


def test_its_switchboard_is_like_any() -> None:
    new(1, switchboard=True).tell(
        at(0.0, start_beside, fork_board(1), fork(1)),
        at(0.1, board_born(1)),
        at(0.1, born(1)),
        at(0.2, board_ready(1), SwitchboardServes),
        at(1.0, ready(1), WorkerServes, AllReady, report_ready),
        at(1.1, taken_over, TookOver),
        at(1.2, predecessor_gone, PredecessorLeft),
        at(2.0, term, Stopping, close, dismiss_board(1)),
    )

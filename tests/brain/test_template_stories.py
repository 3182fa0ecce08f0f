"""What a master does with templates, spares and worn workers, told as stories."""

from __future__ import annotations

import pytest

from forkserve.supervisor.actions import (
    AllReady,
    BackingOff,
    BootExtended,
    FirstBootFailed,
    ForkRefused,
    GenerationAccepted,
    GenerationDropped,
    ReloadBegins,
    ReloadDone,
    Scaled,
    SparePromoted,
    SpareReady,
    Stopped,
    Stopping,
    TemplateGone,
    TemplateOverdue,
    TemplateRejected,
    TemplateServes,
    WorkerGone,
    WorkerLeaves,
    WorkerOverdue,
    WorkerServes,
    WorkerWorn,
)
from forkserve.supervisor.backoff import FREE_ROUNDS
from forkserve.supervisor.phases import Phase
from forkserve.supervisor.state import Preload
from tests.brain.story import (
    Story,
    alarm,
    at,
    boot_fails,
    born,
    close,
    dismiss,
    drain,
    dump,
    dump_template,
    exits,
    extended,
    fork,
    fork_template,
    kill,
    kill_template,
    leave,
    lost,
    new,
    promote,
    quit_,
    ready,
    reload,
    serving,
    spent,
    start,
    template_boot_fails,
    template_born,
    template_exits,
    template_extended,
    template_ready,
    template_refused,
    templated,
    term,
    ttin,
    ttou,
    unfit,
)

KILLED = -9


# -- the first template -------------------------------------------------------------------


def test_workers_are_forked_once_the_template_is_ready() -> None:
    new(2, preload=Preload.AUTO).tell(
        at(0.0, start, fork_template(1, 1)),
        at(0.1, template_born(1)),
        at(0.7, template_ready(1), TemplateServes, fork(1, by=1), fork(2, by=1)),
        at(0.7, born(1)),
        at(0.7, born(2)),
        at(0.8, ready(1), WorkerServes),
        at(0.8, ready(2), WorkerServes, AllReady),
        at(9.0, exits(1, KILLED), WorkerGone, fork(3, slot=0, by=1)),
    )


def test_an_app_that_cannot_be_shared_is_imported_by_each_worker() -> None:
    story = new(2, preload=Preload.AUTO).tell(
        at(0.0, start, fork_template(1, 1)),
        at(0.1, template_born(1)),
        at(0.7, unfit(1), TemplateRejected, fork(1), fork(2)),
        at(0.8, template_exits(1), TemplateGone),
        at(1.0, born(1)),
        at(2.0, ready(1), WorkerServes),
    )
    assert story.brain.state.direct == {1}


def test_a_reload_judges_anew() -> None:
    """From unfit to fit and back."""
    new(1, preload=Preload.AUTO).tell(
        at(0.0, start, fork_template(1, 1)),
        at(0.1, template_born(1)),
        at(0.7, unfit(1), TemplateRejected, fork(1)),
        at(0.8, template_exits(1), TemplateGone),
        at(1.0, born(1)),
        at(2.0, ready(1), WorkerServes, AllReady),
        at(10.0, reload, ReloadBegins, fork_template(2, 2)),
        at(10.1, template_born(2)),
        at(10.5, template_ready(2), TemplateServes, fork(2, 2, by=2)),
        at(10.5, born(2)),
        at(
            10.6,
            ready(2),
            GenerationAccepted,
            WorkerServes,
            drain(1),
            WorkerLeaves,
            ReloadDone,
        ),
        at(11.0, exits(1), WorkerGone),
        at(20.0, reload, ReloadBegins, fork_template(3, 3)),
        at(20.1, template_born(3)),
        at(20.5, unfit(3), TemplateRejected, fork(3, 3, slot=0)),
    )


def test_judgements_on_former_generations_are_forgotten() -> None:
    story = new(1, preload=Preload.AUTO)
    story.brain.handle(start(0.0))
    for number in range(1, 20):
        now = 10.0 * number
        for happening in (
            template_born(number),
            unfit(number),
            template_exits(number),
            born(number),
            ready(number),
        ):
            story.brain.handle(happening(now))
        assert story.brain.state.current == number
        assert story.brain.state.direct == {number}
        if number > 1:
            story.brain.handle(exits(number - 1)(now))
        story.brain.handle(reload(now + 1))


def test_a_first_import_that_fails_ends_the_master() -> None:
    new(2, preload=Preload.AUTO).tell(
        at(0.0, start, fork_template(1, 1)),
        at(0.1, template_born(1)),
        at(0.5, template_boot_fails(1), FirstBootFailed, close),
        at(0.5, template_exits(1, 3), TemplateGone, Stopped, leave(3)),
    )


def test_a_template_killed_in_the_first_import_is_made_again_a_few_times() -> None:
    story = new(1, preload=Preload.AUTO).tell(
        at(0.0, start, fork_template(1, 1)),
        at(0.1, template_born(1)),
        at(0.2, template_exits(1, KILLED), TemplateGone, fork_template(2, 1)),
        at(0.3, template_born(2)),
        at(0.4, template_exits(2, KILLED), TemplateGone, fork_template(3, 1)),
        at(0.5, template_born(3)),
        at(0.6, template_exits(3, KILLED), TemplateGone, FirstBootFailed, close, Stopped, leave(3)),
    )
    assert "was ended by SIGKILL before it was ready" in str(story.said)


def test_an_import_that_takes_too_long_shows_its_stack() -> None:
    new(1, preload=Preload.AUTO, boot_timeout=60.0).tell(
        at(0.0, start, fork_template(1, 1)),
        at(0.1, template_born(1)),
        at(60.0, alarm(), TemplateOverdue, dump_template(1), FirstBootFailed, close),
        at(61.0, alarm(), kill_template(1)),
        at(61.1, template_exits(1, KILLED), TemplateGone, Stopped, leave(3)),
    )


# -- reloads ------------------------------------------------------------------------------


def test_a_new_generation_has_a_new_template_and_the_old_one_goes() -> None:
    templated(2).tell(
        at(10.0, reload, ReloadBegins, fork_template(2, 2)),
        at(10.1, template_born(2)),
        at(10.5, template_ready(2), TemplateServes, fork(3, 2, by=2)),
        at(10.5, born(3)),
        at(
            10.6,
            ready(3),
            GenerationAccepted,
            WorkerServes,
            drain(1),
            WorkerLeaves,
            dismiss(1),
            fork(4, 2, by=2),
        ),
        at(10.7, template_exits(1, -15), TemplateGone),
    )


def test_a_broken_deploy_keeps_the_old_template_which_can_still_fork() -> None:
    templated(2).tell(
        at(10.0, reload, ReloadBegins, fork_template(2, 2)),
        at(10.1, template_born(2)),
        at(10.5, template_boot_fails(2), GenerationDropped),
        at(10.5, template_exits(2, 3), TemplateGone),
        at(20.0, exits(1, KILLED), WorkerGone, fork(3, slot=0, by=1)),
    )


def test_a_canary_that_fails_takes_its_template_along() -> None:
    templated(2).tell(
        at(10.0, reload, ReloadBegins, fork_template(2, 2)),
        at(10.1, template_born(2)),
        at(10.5, template_ready(2), TemplateServes, fork(3, 2, by=2)),
        at(10.5, born(3)),
        at(10.6, boot_fails(3), GenerationDropped, dismiss(2)),
    )


def test_a_second_hup_gives_up_the_import_under_way() -> None:
    templated(1).tell(
        at(10.0, reload, ReloadBegins, fork_template(2, 2)),
        at(10.1, template_born(2)),
        at(10.2, reload, ReloadBegins, dismiss(2), fork_template(3, 3)),
        at(10.3, template_exits(2, -15), TemplateGone),
        at(10.3, template_born(3)),
        at(10.5, template_ready(3), TemplateServes, fork(2, 3, by=3)),
    )


def test_a_storm_of_hups_does_not_pile_up_templates() -> None:
    story = templated(1)
    for number in range(50):
        now = 10.0 + number / 100
        for action in story.brain.handle(reload(now)):
            if type(action).__name__ == "ForkTemplate":
                story.brain.handle(template_born(action.template_id)(now))  # type: ignore[attr-defined]
    assert len(story.brain.state.templates) <= 4


def test_term_in_the_middle_of_an_import() -> None:
    templated(1).tell(
        at(10.0, reload, ReloadBegins, fork_template(2, 2)),
        at(10.1, template_born(2)),
        at(10.2, term, Stopping, close, dismiss(1), dismiss(2), drain(1)),
        at(10.3, template_exits(2, -15), TemplateGone),
        at(10.3, template_exits(1, -15), TemplateGone),
        at(10.5, exits(1), WorkerGone, Stopped, leave()),
    )


def test_a_template_that_does_not_listen_is_killed() -> None:
    templated(1).tell(
        at(10.0, term, Stopping, close, dismiss(1), drain(1)),
        at(10.2, exits(1), WorkerGone),
        at(10.8, alarm(), kill_template(1)),
        at(10.9, template_exits(1, KILLED), TemplateGone, Stopped, leave()),
    )


# -- its death ----------------------------------------------------------------------------


def test_a_dead_template_is_replaced_and_nobody_else_is_touched() -> None:
    templated(2).tell(
        at(10.0, template_exits(1, KILLED), TemplateGone, fork_template(2, 1)),
        at(10.1, template_born(2)),
        # A worker that dies meanwhile waits for it.
        at(10.2, exits(1, KILLED), WorkerGone),
        at(10.7, template_ready(2), TemplateServes, fork(3, slot=0, by=2)),
    )


def keeps_dying(preload: Preload) -> Story:
    """A template died young four times in a row."""
    story = templated(1, preload=preload)
    for number in range(1, 5):
        story.brain.handle(template_exits(number, KILLED)(10.0 + number))
        if number < 4:
            story.brain.handle(template_born(number + 1)(10.1 + number))
            story.brain.handle(template_ready(number + 1)(10.2 + number))
    return story


def test_a_template_that_keeps_dying_is_done_without() -> None:
    story = keeps_dying(Preload.AUTO)
    # The first death was no young one: that template had been ready for long.
    story.tell(
        at(14.1, template_born(5)),
        at(14.2, template_ready(5), TemplateServes),
        at(14.3, template_exits(5, KILLED), TemplateGone),
        at(20.0, exits(1, KILLED), WorkerGone, fork(2, slot=0)),
    )
    assert story.brain.state.direct == {1}


def test_with_preload_it_is_made_again_with_delay_and_capacity_does_not_wait() -> None:
    story = keeps_dying(Preload.ALWAYS)
    story.tell(
        at(14.1, template_born(5)),
        at(14.2, template_ready(5), TemplateServes),
        at(14.3, template_exits(5, KILLED), TemplateGone),
        at(14.4, exits(1, KILLED), WorkerGone, fork(2, slot=0)),
    )
    assert 14.3 < story.next_alarm <= 14.8
    story.tell(at(14.8, alarm(), fork_template(6, 1)))


def test_a_refused_template_is_tried_again_later() -> None:
    new(1, preload=Preload.AUTO).tell(
        at(0.0, start, fork_template(1, 1)),
        at(0.0, template_refused(1), ForkRefused),
        at(0.5, alarm(), fork_template(2, 1)),
    )


def test_a_worker_that_its_template_took_along_is_asked_of_the_next() -> None:
    templated(1).tell(
        at(10.0, exits(1, KILLED), WorkerGone, fork(2, slot=0, by=1)),
        at(10.1, template_exits(1, KILLED), TemplateGone, fork_template(2, 1)),
        at(10.1, lost(2)),
        at(10.2, template_born(2)),
        at(10.6, template_ready(2), TemplateServes, fork(3, slot=0, by=2)),
    )


def test_a_template_that_does_not_fork_is_hung() -> None:
    templated(1).tell(
        at(10.0, exits(1, KILLED), WorkerGone, fork(2, slot=0, by=1)),
        at(20.0, alarm(), TemplateOverdue, dump_template(1), fork_template(2, 1)),
        at(21.0, alarm(), kill_template(1)),
        at(21.1, template_exits(1, KILLED), TemplateGone),
        at(21.1, lost(2)),
        at(21.2, template_born(2)),
        at(21.5, template_ready(2), TemplateServes, fork(3, slot=0, by=2)),
    )


def test_a_template_that_cannot_import_any_more_and_is_slow_to_go_does_not_pile_up() -> None:
    """Each says so at once and exits later: the next one must not wait for nothing."""
    story = templated(1, preload=Preload.ALWAYS)
    story.brain.handle(template_exits(1, KILLED)(100.0))
    for number in range(2, 30):
        if number in story.brain.state.templates:
            for happening in (template_born(number), template_boot_fails(number)):
                story.brain.handle(happening(100.0 + number / 100))
    assert len(story.brain.state.templates) == 4  # three rounds are free
    # Capacity does not wait for the next one.
    story.tell(at(100.3, exits(1, KILLED), WorkerGone, fork(2, slot=0)))


def test_a_failed_import_counts_once() -> None:
    story = templated(1).tell(
        at(100.0, template_exits(1, KILLED), TemplateGone, fork_template(2, 1)),
        at(100.1, template_born(2)),
        at(100.2, template_boot_fails(2), fork_template(3, 1)),
        at(100.3, template_exits(2, 3), TemplateGone),
    )
    assert story.brain.state.template_backoff.rounds == 1


def test_a_worker_born_just_before_its_template_died_is_as_good_as_any() -> None:
    templated(1).tell(
        at(10.0, exits(1, KILLED), WorkerGone, fork(2, slot=0, by=1)),
        at(10.1, template_exits(1, KILLED), TemplateGone, fork_template(2, 1)),
        at(10.1, born(2)),
        at(10.2, ready(2), WorkerServes),
    )


def test_a_canary_that_is_missing_says_nothing_of_its_generation() -> None:
    """Its template is gone, and nobody has said what became of the fork; another is made."""
    templated(1, timeout=0).tell(
        at(10.0, reload, ReloadBegins, fork_template(2, 2)),
        at(10.1, template_born(2)),
        at(11.0, template_ready(2), TemplateServes, fork(2, 2, by=2)),
        at(11.1, template_exits(2, KILLED), TemplateGone, fork_template(3, 2)),
        at(11.2, template_born(3)),
        at(11.7, template_ready(3), TemplateServes),
        at(21.0, alarm(), WorkerOverdue, fork(3, 2, slot=2, by=3)),
        at(21.5, born(2), kill(2)),
    )


def test_a_worker_that_is_not_wanted_any_more_makes_no_template_late() -> None:
    """It has its ten seconds, as ever, and not the three of one that leaves unready."""
    story = templated(1, timeout=0).tell(
        at(10.0, ttin, Scaled, fork(2, by=1)),
        at(10.1, ttou, Scaled, WorkerLeaves),
    )
    assert story.next_alarm == pytest.approx(12.9)
    story.tell(at(12.9, alarm()))
    assert story.next_alarm == 20.0
    story.tell(at(20.0, alarm(), TemplateOverdue, dump_template(1), fork_template(2, 1)))


def test_a_worker_that_is_not_wanted_any_more_leaves_at_its_birth() -> None:
    story = templated(1, timeout=0).tell(
        at(10.0, ttin, Scaled, fork(2, by=1)),
        at(10.1, ttou, Scaled, WorkerLeaves),
        at(13.0, alarm()),
        at(13.1, born(2), drain(2)),
    )
    assert story.next_alarm == pytest.approx(13.1 + 2.8)


def test_a_template_of_the_trial_is_made_three_times_if_something_kills_it() -> None:
    templated(1).tell(
        at(10.0, reload, ReloadBegins, fork_template(2, 2)),
        at(10.1, template_born(2)),
        at(10.2, template_exits(2, KILLED), TemplateGone, fork_template(3, 2)),
        at(10.3, template_born(3)),
        at(10.4, template_exits(3, KILLED), TemplateGone, fork_template(4, 2)),
        at(10.5, template_born(4)),
        at(10.6, template_exits(4, KILLED), TemplateGone, GenerationDropped),
        at(20.0, exits(1, KILLED), WorkerGone, fork(2, slot=0, by=1)),
    )


def test_a_template_of_the_trial_that_ends_by_its_own_fault_gets_one_try() -> None:
    templated(1).tell(
        at(10.0, reload, ReloadBegins, fork_template(2, 2)),
        at(10.1, template_born(2)),
        at(10.2, template_exits(2, 1), TemplateGone, GenerationDropped),
    )


def test_a_template_of_the_trial_that_imports_for_too_long_is_dropped() -> None:
    templated(1, boot_timeout=60.0, timeout=0).tell(
        at(10.0, reload, ReloadBegins, fork_template(2, 2)),
        at(10.1, template_born(2)),
        at(70.0, alarm(), TemplateOverdue, dump_template(2), GenerationDropped),
        at(71.0, alarm(), kill_template(2)),
        at(71.1, template_exits(2, KILLED), TemplateGone),
        at(80.0, exits(1, KILLED), WorkerGone, fork(2, slot=0, by=1)),
    )


# -- a stop at each of these points -------------------------------------------------------


def test_term_in_the_first_import() -> None:
    new(2, preload=Preload.AUTO).tell(
        at(0.0, start, fork_template(1, 1)),
        at(0.1, template_born(1)),
        at(0.2, term, Stopping, close, dismiss(1)),
        at(0.3, template_ready(1)),  # too late
        at(0.4, template_exits(1, -15), TemplateGone, Stopped, leave()),
    )


def test_term_before_the_template_is_born() -> None:
    new(1, preload=Preload.AUTO).tell(
        at(0.0, start, fork_template(1, 1)),
        at(0.1, term, Stopping, close),
        at(0.2, template_born(1), dismiss(1)),
        at(0.3, template_exits(1, -15), TemplateGone, Stopped, leave()),
    )


def test_a_refused_template_ends_a_stop_as_well() -> None:
    new(1, preload=Preload.AUTO).tell(
        at(0.0, start, fork_template(1, 1)),
        at(0.1, term, Stopping, close),
        at(0.2, template_refused(1), ForkRefused, Stopped, leave()),
    )


def test_term_while_a_worker_is_asked_for() -> None:
    templated(1).tell(
        at(10.0, exits(1, KILLED), WorkerGone, fork(2, slot=0, by=1)),
        at(10.1, term, Stopping, close, dismiss(1)),
        at(10.2, template_exits(1, -15), TemplateGone),
        at(10.2, lost(2), Stopped, leave()),
    )


def test_term_while_a_worker_is_being_born() -> None:
    templated(1).tell(
        at(10.0, exits(1, KILLED), WorkerGone, fork(2, slot=0, by=1)),
        at(10.1, term, Stopping, close, dismiss(1)),
        at(10.2, template_exits(1, -15), TemplateGone),
        at(10.2, born(2), drain(2)),
        at(10.3, exits(2), WorkerGone, Stopped, leave()),
    )


def test_term_while_a_template_hangs_does_not_wait_for_it() -> None:
    templated(1).tell(
        at(10.0, exits(1, KILLED), WorkerGone, fork(2, slot=0, by=1)),
        at(19.9, term, Stopping, close, dismiss(1)),
        at(20.7, alarm(), kill_template(1)),
        at(20.8, template_exits(1, KILLED), TemplateGone),
        at(20.8, lost(2), Stopped, leave()),
    )


def test_term_while_the_app_is_found_unfit() -> None:
    new(1, preload=Preload.AUTO).tell(
        at(0.0, start, fork_template(1, 1)),
        at(0.1, template_born(1)),
        at(0.2, unfit(1), TemplateRejected, fork(1)),
        at(0.3, term, Stopping, close),
        at(0.4, born(1), drain(1)),
        at(0.5, exits(1), WorkerGone),
        at(0.6, template_exits(1), TemplateGone, Stopped, leave()),
    )


def test_quit_kills_templates_too() -> None:
    templated(1).tell(
        at(10.0, quit_, Stopping, close, dismiss(1), kill(1), kill_template(1)),
        at(10.1, template_exits(1, KILLED), TemplateGone),
        at(10.1, exits(1, KILLED), WorkerGone, Stopped, leave()),
    )


# -- spares -------------------------------------------------------------------------------


def with_a_spare(workers: int = 2, **policy: float) -> Story:
    """Workers 1, 2, ... and a spare that is ready."""
    story = serving(workers, spares=1, **policy)
    story.brain.handle(born(workers + 1)(1.1))
    story.brain.handle(ready(workers + 1)(2.0))
    return story


def test_spares_are_made_once_somebody_serves() -> None:
    new(2, spares=1).tell(
        at(0.0, start, fork(1), fork(2)),
        at(0.1, born(1)),
        at(0.1, born(2)),
        at(1.0, ready(1), WorkerServes, fork(3, spare=True)),
        at(1.1, born(3)),
        at(2.0, ready(3), SpareReady),
    )


def test_a_spare_takes_over_in_the_same_breath() -> None:
    with_a_spare().tell(
        at(
            10.0,
            exits(1, KILLED),
            WorkerGone,
            promote(3),
            SparePromoted,
            fork(4, slot=0, spare=True),
        ),
    )


def test_one_more_worker_is_a_promoted_spare() -> None:
    with_a_spare().tell(
        at(10.0, ttin, Scaled, promote(3), SparePromoted, fork(4, spare=True)),
    )


def test_a_reload_replaces_spares_before_workers_and_each_before_it_leaves() -> None:
    with_a_spare(1).tell(
        at(10.0, reload, ReloadBegins, fork(3, 2)),
        at(10.1, born(3)),
        # The canary takes the place of worker 1, as ever; the spare stays until ...
        at(
            11.0,
            ready(3),
            GenerationAccepted,
            WorkerServes,
            drain(1),
            WorkerLeaves,
            fork(4, 2, spare=True),
            ReloadDone,
        ),
        at(11.1, born(4)),
        # ... there is another one.
        at(12.0, ready(4), SpareReady, drain(2), WorkerLeaves),
    )


def test_workers_wait_for_the_new_spares() -> None:
    with_a_spare(3).tell(
        at(10.0, reload, ReloadBegins, fork(5, 2)),
        at(10.1, born(5)),
        at(
            11.0,
            ready(5),
            GenerationAccepted,
            WorkerServes,
            drain(1),
            WorkerLeaves,
            fork(6, 2, spare=True),
        ),
        at(11.1, born(6)),
        at(12.0, ready(6), SpareReady, drain(4), WorkerLeaves, fork(7, 2)),
    )


def test_a_spare_that_dies_is_replaced() -> None:
    with_a_spare().tell(
        at(10.0, exits(3, KILLED), WorkerGone, fork(4, slot=2, spare=True)),
    )


def test_a_spare_that_hangs_is_killed_and_replaced() -> None:
    with_a_spare(timeout=30).tell(
        at(31.0, alarm(1, 2)),  # the workers were ready a second before it
        at(32.0, alarm(1, 2), WorkerOverdue, dump(3), fork(4, spare=True)),
        at(33.0, alarm(1, 2), kill(3)),
    )


def test_a_spare_is_promoted_as_soon_as_somebody_hangs() -> None:
    with_a_spare(timeout=30).tell(
        at(31.0, alarm(2), WorkerOverdue, dump(1), promote(3), SparePromoted, fork(4, spare=True)),
    )


def test_a_spare_is_promoted_while_a_crash_loop_is_waited_out() -> None:
    """It is ready already: only what would have to be made has to wait."""
    story = with_a_spare(1)
    story.brain.state.backoff.rounds = FREE_ROUNDS
    story.tell(
        at(2.1, exits(1, KILLED), WorkerGone, BackingOff, promote(2), SparePromoted),
        at(2.6, alarm(2), fork(3, slot=0, spare=True)),
    )


def test_two_that_die_share_one_spare() -> None:
    with_a_spare().tell(
        at(
            10.0, exits(1, KILLED), WorkerGone, promote(3), SparePromoted, fork(4, 1, 0, spare=True)
        ),
        at(10.1, exits(2, KILLED), WorkerGone, fork(5, slot=1)),
    )


def test_a_spare_that_nobody_knows_the_pid_of_cannot_be_promoted_yet() -> None:
    serving(1, spares=1).tell(
        at(2.0, ready(2), SpareReady),
        at(2.1, exits(1, KILLED), WorkerGone, fork(3, slot=0)),
    )


def test_fewer_workers_leave_the_spare_a_spare() -> None:
    with_a_spare().tell(at(10.0, ttou, Scaled, drain(1), WorkerLeaves))


def test_a_stop_drains_spares_as_well() -> None:
    with_a_spare(1).tell(at(10.0, term, Stopping, close, drain(1), drain(2)))


def test_spares_come_from_the_template_too() -> None:
    templated(1, spares=1).tell(
        at(1.1, born(2)),
        at(2.0, ready(2), SpareReady),
        at(
            10.0,
            exits(1, KILLED),
            WorkerGone,
            promote(2),
            SparePromoted,
            fork(3, slot=0, by=1, spare=True),
        ),
    )


# -- recycling ----------------------------------------------------------------------------


def test_a_worn_worker_leaves_once_its_replacement_is_ready() -> None:
    serving(2).tell(
        at(10.0, spent(1), WorkerWorn, fork(3)),
        at(10.1, born(3)),
        at(11.0, ready(3), WorkerServes, drain(1), WorkerLeaves),
        at(11.1, exits(1), WorkerGone),
    )


def test_never_all_together() -> None:
    story = serving(3).tell(
        at(10.0, spent(1), WorkerWorn, fork(4)),
        at(10.0, spent(2), WorkerWorn),
        at(10.0, spent(3), WorkerWorn),
        at(10.1, born(4)),
        at(11.0, ready(4), WorkerServes, drain(1), WorkerLeaves, fork(5)),
        at(11.1, born(5)),
        at(12.0, ready(5), WorkerServes, drain(2), WorkerLeaves, fork(6)),
    )
    assert sum(w.phase is Phase.READY for w in story.brain.state.workers.values()) == 3


def test_nobody_is_recycled_during_a_trial() -> None:
    serving(1).tell(
        at(10.0, reload, ReloadBegins, fork(2, 2)),
        at(10.1, spent(1), WorkerWorn),
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


def test_the_last_old_worker_has_one_replacement_whatever_the_surge() -> None:
    serving(2, surge=2).tell(
        at(10.0, spent(1), WorkerWorn, fork(3)),
        at(10.1, born(3)),
        at(10.2, ttin, Scaled, fork(4)),
        at(10.3, born(4)),
    )


def test_a_worn_spare_is_replaced_first() -> None:
    with_a_spare().tell(
        at(10.0, spent(3), WorkerWorn, fork(4, spare=True)),
        at(10.1, spent(1), WorkerWorn),
        at(10.2, born(4)),
        at(11.0, ready(4), SpareReady, drain(3), WorkerLeaves, fork(5)),
    )


def test_one_old_worker_left_and_its_replacement_on_the_way_need_nothing_more() -> None:
    story = serving(3, surge=2).tell(
        at(10.0, reload, ReloadBegins, fork(4, 2)),
        at(10.1, born(4)),
        at(
            11.0,
            ready(4),
            GenerationAccepted,
            WorkerServes,
            drain(1),
            WorkerLeaves,
            fork(5, 2),
            fork(6, 2),
        ),
        at(11.1, born(5)),
        at(11.1, born(6)),
        at(11.2, exits(1), WorkerGone),
        at(12.0, ready(5), WorkerServes, drain(2), WorkerLeaves),
    )
    story.tell(at(12.1, exits(2), WorkerGone))


# -- longer boots -------------------------------------------------------------------------


def test_a_worker_that_asks_for_longer_has_it() -> None:
    new(1, boot_timeout=60.0).tell(
        at(0.0, start, fork(1)),
        at(0.1, born(1)),
        at(50.0, extended(1, 90.0), BootExtended),
        at(130.0, extended(1, 5.0)),  # less than there is left
        at(139.0, ready(1), WorkerServes, AllReady),
        at(140.0, extended(1, 90.0)),  # too late
    )


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan")])
def test_nonsense_extends_nothing(seconds: float) -> None:
    new(1, boot_timeout=60.0).tell(
        at(0.0, start, fork(1)),
        at(0.1, born(1)),
        at(50.0, extended(1, seconds)),
    )


def test_a_template_may_ask_too() -> None:
    new(1, preload=Preload.AUTO, boot_timeout=60.0).tell(
        at(0.0, start, fork_template(1, 1)),
        at(0.1, template_born(1)),
        at(59.0, template_extended(1, float("inf")), BootExtended),
        at(500.0, template_ready(1), TemplateServes, fork(1, by=1)),
    )


def test_a_boot_from_a_template_has_its_whole_time_from_its_birth() -> None:
    templated(1, boot_timeout=60.0).tell(
        at(10.0, exits(1, KILLED), WorkerGone, fork(2, slot=0, by=1)),
        at(15.0, born(2)),
        at(75.0, alarm(), WorkerOverdue, dump(2), fork(3, slot=1, by=1)),
    )

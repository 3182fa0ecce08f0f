"""What a master does with templates, spares and worn workers, told as stories."""

from __future__ import annotations

import pytest

from forkserve.supervisor import Phase
from forkserve.supervisor.actions import (
    AllReady,
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
    kill_template,
    leave,
    lost,
    new,
    promote,
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

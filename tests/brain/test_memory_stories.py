"""What a master does when memory is short: who was killed by the OOM killer is not made again
at once, since another would be killed too."""

from __future__ import annotations

from itertools import pairwise

import pytest

from forkserve.supervisor.actions import (
    BackingOff,
    FirstBootFailed,
    GenerationDropped,
    ReloadBegins,
    Stopping,
    TemplateGone,
    TemplateServes,
    WorkerGone,
    WorkerServes,
)
from forkserve.supervisor.state import Preload
from tests.brain.story import (
    Story,
    alarm,
    at,
    born,
    close,
    drain,
    exits,
    fork,
    fork_template,
    is_oom_killed,
    ready,
    reload,
    serving,
    template_born,
    template_exits,
    template_is_oom_killed,
    template_ready,
    templated,
    term,
)

CRASHED = -11
KILLED = -9


def wait_of(story: Story, now: float) -> float:
    return story.next_alarm - now


def test_the_first_one_waits_however_old_it_was() -> None:
    story = serving(2, timeout=0).tell(
        at(9000.0, is_oom_killed(1), WorkerGone, BackingOff),
    )
    assert story.last(BackingOff).out_of_memory
    assert 0.375 <= wait_of(story, 9000.0) <= 0.5
    story.tell(at(9000.5, alarm(), fork(3, slot=0)))


def test_a_crash_beside_it_is_replaced_with_it() -> None:
    story = serving(3, timeout=0).tell(
        at(90.0, is_oom_killed(1), WorkerGone, BackingOff),
        at(90.1, exits(2, CRASHED), WorkerGone),
    )
    story.tell(at(90.5, alarm(), fork(4, slot=0), fork(5, slot=1)))


def test_those_that_are_killed_together_are_one_round_and_the_wait_begins_anew() -> None:
    story = serving(3, timeout=0).tell(
        at(90.0, is_oom_killed(1), WorkerGone, BackingOff),
        at(90.2, is_oom_killed(2), WorkerGone),
    )
    assert 90.575 <= story.next_alarm <= 90.7


def test_the_wait_grows_also_when_it_is_always_an_old_one_that_is_killed() -> None:
    """Four fit, the fifth does not: whenever it is made, the kernel kills one of the others."""
    story = serving(5, timeout=0)
    now, waits = 100.0, []
    for victim in range(1, 5):
        story.brain.handle(is_oom_killed(victim)(now))
        waits.append(wait_of(story, now))
        now = story.next_alarm
        story.brain.handle(alarm()(now))
        born_now = victim + 5
        story.brain.handle(born(born_now)(now + 0.1))
        story.brain.handle(ready(born_now)(now + 0.2))
        now += 1.0
    assert all(later > earlier * 1.2 for earlier, later in pairwise(waits))
    assert waits[-1] > 2.9


def test_one_that_lives_on_ends_the_row() -> None:
    story = serving(2, timeout=0).tell(at(90.0, is_oom_killed(1), WorkerGone, BackingOff))
    story.tell(
        at(90.5, alarm(), fork(3, slot=0)),
        at(90.6, born(3)),
        at(91.0, ready(3), WorkerServes),
        at(97.0, is_oom_killed(3), WorkerGone, BackingOff),
    )
    assert wait_of(story, 97.0) <= 0.5
    assert story.last(BackingOff).rounds == 4


def test_a_young_death_that_was_replaced_at_once_does_not_hide_it() -> None:
    story = serving(2, timeout=0).tell(
        at(2.0, exits(1, CRASHED), WorkerGone, fork(3, slot=0)),
        at(2.1, is_oom_killed(2), WorkerGone, BackingOff),
    )
    assert wait_of(story, 2.1) >= 0.375


@pytest.mark.parametrize("happening", [exits(1, KILLED), exits(1, CRASHED)])
def test_any_other_death_is_made_up_for_at_once(happening: object) -> None:
    serving(2, timeout=0).tell(at(90.0, happening, WorkerGone, fork(3, slot=0)))  # type: ignore[arg-type]


def test_a_reload_does_not_wait() -> None:
    """Whoever asks for it may have brought code that needs less."""
    serving(2, timeout=0).tell(
        at(90.0, is_oom_killed(1), WorkerGone, BackingOff),
        at(90.1, reload, ReloadBegins, fork(3, 2, slot=0), fork(4, slot=2)),
    )


def test_nor_does_a_stop() -> None:
    serving(2, timeout=0).tell(
        at(90.0, is_oom_killed(1), WorkerGone, BackingOff),
        at(90.1, term, Stopping, close, drain(2)),
    )


def test_a_canary_is_tried_three_times_and_waited_for() -> None:
    story = serving(1, timeout=0).tell(at(90.0, reload, ReloadBegins, fork(2, 2)))
    now = 90.0
    for canary in (2, 3, 4):
        story.brain.handle(born(canary)(now + 0.1))
        story.said = story.brain.handle(is_oom_killed(canary)(now + 0.2))
        if canary < 4:
            assert story.next_alarm >= now + 0.2 + 0.375
            now = story.next_alarm
            story.brain.handle(alarm()(now))
    dropped = story.last(GenerationDropped)
    assert dropped.failure.headline == (
        "Worker 4 was ended by SIGKILL (out of memory) before it was ready."
    )
    assert not any(isinstance(action, FirstBootFailed) for action in story.said)


# -- the template -------------------------------------------------------------------------


def test_a_template_waits_and_the_workers_wait_with_it() -> None:
    """One that the master made meanwhile would import the app by itself, and take more."""
    story = templated(2, timeout=0).tell(
        at(90.0, template_is_oom_killed(1), TemplateGone),
        at(90.1, exits(1, CRASHED), WorkerGone),
    )
    assert 0.275 <= wait_of(story, 90.1) <= 0.4
    due = story.next_alarm
    story.tell(
        at(due, alarm(), fork_template(2, 1)),
        at(92.0, template_born(2)),
        at(93.0, template_ready(2), TemplateServes, fork(3, slot=0, by=2)),
    )


def test_the_log_says_so() -> None:
    story = templated(2, timeout=0).tell(at(90.0, template_is_oom_killed(1), TemplateGone))
    assert story.last(TemplateGone).next in ("another is made in 0.4 s", "another is made in 0.5 s")


def test_it_is_not_done_without_a_template_for_that() -> None:
    """Without one all would take more memory."""
    story = templated(2, timeout=0)
    now = 90.0
    for template_id in range(1, 8):
        story.brain.handle(template_is_oom_killed(template_id)(now))
        now = story.next_alarm
        story.brain.handle(alarm()(now))
        story.brain.handle(template_born(template_id + 1)(now))
        now += 0.5
    assert not story.brain.state.direct
    assert story.brain.policy.preload is Preload.AUTO


def test_any_other_death_of_it_is_made_up_for_at_once() -> None:
    templated(2, timeout=0).tell(
        at(90.0, template_exits(1, KILLED), TemplateGone, fork_template(2, 1)),
    )

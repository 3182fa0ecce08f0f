"""Which hooks are called when, and what becomes of those that do not end."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from math import inf
from time import monotonic

import pytest

from forkserve.channel import Channel
from forkserve.config.hooks import ARGUMENTS, Hook
from forkserve.config.settings import Settings
from forkserve.hooks.views import Worker
from forkserve.master import hooks
from forkserve.master.family import HookChild
from forkserve.master.hooks import HookCalls
from forkserve.master.lives import Means
from forkserve.supervisor import actions as note
from forkserve.supervisor.events import Exit
from forkserve.worker.lifeline import STACK_SIGNAL

DONE, KILLED = Exit(0), Exit(-9)


class Told:
    """Means that note what they are told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.children: list[HookChild] = []
        self._others: list[Channel] = []

    def fork(self, hook: str, workers: Sequence[Worker]) -> HookChild:
        ours, theirs = Channel.pair()
        self._others.append(theirs)
        self.children.append(HookChild(1, 0, 7, ours, os.dup(0), hook))
        self.said.append(" ".join([hook, *(str(worker.age) for worker in workers)]))
        return self.children[-1]

    def means(self) -> Means:
        said = {STACK_SIGNAL: "dump", signal.SIGKILL: "kill"}
        return Means(
            lambda child, number: self.said.append(said[number]),
            lambda child: self.said.append("forget"),
        )

    def close(self) -> None:
        for child in self.children:
            child.close()
        for channel in self._others:
            channel.close()


@pytest.fixture
def told() -> Iterator[Told]:
    told = Told()
    yield told
    told.close()


def calls(told: Told, *names: str, boot_timeout: float = 120.0) -> HookCalls:
    every = tuple(Hook(name, "/a/file.py", name) for name in names or ARGUMENTS)
    settings = Settings("app:app", hooks=every, boot_timeout=boot_timeout)
    return HookCalls(lambda: settings, told.fork, told.means())


def dead(worker_id: int) -> Worker:
    return Worker(worker_id, 1, 0, 1, pid=1000 + worker_id, exit_code=-9)


def test_a_hook_that_the_user_does_not_have_is_not_called(told: Told) -> None:
    calls_ = calls(told, "on_exit")
    calls_.call("on_starting")
    assert not told.said
    assert not calls_.busy
    assert calls_.next_deadline() == inf


def test_deaths_that_come_while_one_is_told_are_told_together(told: Told) -> None:
    calls_ = calls(told)
    for worker_id in (1, 2, 3):
        calls_.call("child_exit", dead(worker_id))
    assert told.said == ["child_exit 1"]
    calls_.has_ended(told.children[0], DONE, "")
    assert told.said == ["child_exit 1", "child_exit 2 3"]
    calls_.has_ended(told.children[1], DONE, "")
    assert not calls_.busy


def test_no_hook_waits_for_another_but_the_last(told: Told) -> None:
    calls_ = calls(told)
    calls_.hear(note.AllReady(2, 1.0))
    calls_.hear(note.ReloadBegins(2, 1, None))
    calls_.hear(note.ReloadBegins(3, 1, 2))
    calls_.hear(note.ReloadBegins(4, 1, 3))
    calls_.say_goodbye()
    assert told.said == ["when_ready", "on_reload"]
    calls_.has_ended(told.children[0], DONE, "")
    calls_.has_ended(told.children[1], DONE, "")
    assert told.said == ["when_ready", "on_reload", "on_reload"]
    calls_.has_ended(told.children[2], DONE, "")
    assert told.said[3:] == ["on_exit"]


def test_what_does_not_end_writes_its_stacks_is_killed_and_is_given_up(told: Told) -> None:
    calls_ = calls(told)
    calls_.call("child_exit", dead(1))
    calls_.call("child_exit", dead(2))
    now = monotonic()
    calls_.alarm(now + hooks.LONGEST - 1)
    assert told.said == ["child_exit 1"]
    for _ in range(3):
        calls_.alarm(calls_.next_deadline())
    assert told.said == ["child_exit 1", "dump", "kill", "forget", "child_exit 2"]


def test_on_starting_has_the_boot_timeout_and_may_ask_for_more(told: Told) -> None:
    calls_ = calls(told, boot_timeout=0.0)
    calls_.call("on_starting")
    assert calls_.next_deadline() == inf
    calls_ = calls(told, boot_timeout=5.0)
    calls_.call("on_starting")
    calls_.extend(told.children[-1], 100.0)
    assert calls_.next_deadline() > monotonic() + 50.0
    calls_.alarm(calls_.next_deadline())
    calls_.extend(told.children[-1], 100.0)  # too late
    calls_.alarm(calls_.next_deadline())
    calls_.has_ended(told.children[-1], KILLED, "the stack")
    assert calls_.start_failure is not None
    assert "was killed: it has not ended within" in calls_.start_failure.headline
    assert calls_.start_failure.details == "the stack"


@pytest.mark.parametrize(("limit", "farewell"), [(30.8, 10.0), (5.0, 5.0), (0.0, 1.0)])
def test_a_stop_leaves_the_last_hooks_what_is_left_of_its_time(
    told: Told, limit: float, farewell: float
) -> None:
    calls_ = calls(told)
    calls_.hear(note.Stopping("SIGTERM", 2, limit))
    calls_.call("when_ready")
    calls_.say_goodbye()
    left = calls_.next_deadline() - monotonic()
    assert farewell - 0.5 < left <= farewell
    calls_.has_ended(told.children[-1], DONE, "")
    left = calls_.next_deadline() - monotonic()
    assert farewell - 0.5 < left <= farewell


def test_who_is_told_to_stop_at_once_meanwhile_kills_the_last_hooks(told: Told) -> None:
    calls_ = calls(told)
    calls_.call("when_ready")
    calls_.say_goodbye()
    calls_.hear(note.Stopping("SIGQUIT", 0, 0.0))
    assert told.said == ["when_ready", "kill"]
    calls_.has_ended(told.children[0], KILLED, "")
    assert not calls_.busy

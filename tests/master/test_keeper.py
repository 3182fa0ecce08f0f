"""When a monitor is made, how long it may be silent, and what becomes of one that hangs."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator
from math import inf

import pytest

from forkserve.channel import BootExtended, BootFailed, Channel, LastCall, Ready
from forkserve.master import lives
from forkserve.master.family import MonitorChild
from forkserve.master.keeper import AWAKE, BOOT, FAREWELL, MonitorKeeper
from forkserve.master.lives import Means
from forkserve.supervisor.backoff import FREE_ROUNDS, LONGEST_DELAY, STABLE_AFTER
from forkserve.supervisor.events import Exit
from forkserve.worker.lifeline import STACK_SIGNAL

ENDED, KILLED = Exit(1), Exit(-9)
SAID = {STACK_SIGNAL: "dump", signal.SIGKILL: "kill"}


class Shell:
    """What the master does for a keeper, noted."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.children: list[MonitorChild] = []
        self.ends: list[Channel] = []
        self.wanted = True
        self.refused: OSError | None = None
        means = Means(
            lambda child, number: self.said.append(SAID[number]),
            lambda child: self.said.append("forget"),
        )
        self.keeper = MonitorKeeper("http://127.0.0.1:9000", self._fork, lambda: self.wanted, means)

    def _fork(self) -> MonitorChild:
        if self.refused:
            raise self.refused
        ours, theirs = Channel.pair()
        number = len(self.children) + 1
        self.children.append(MonitorChild(number, 0, 100 + number, ours, os.dup(0)))
        self.ends.append(theirs)
        self.said.append("fork")
        return self.children[-1]

    def dies(self, now: float, exit: Exit = ENDED) -> None:
        self.keeper.has_ended(self.children[-1], exit, "", now)

    def close(self) -> None:
        for child in self.children:
            child.close()
        for end in self.ends:
            end.close()


@pytest.fixture
def shell() -> Iterator[Shell]:
    shell = Shell()
    yield shell
    shell.close()


def test_there_is_none_where_none_is_wanted() -> None:
    def fork() -> MonitorChild:
        raise AssertionError

    keeper = MonitorKeeper(None, fork, lambda: True, Means(lambda *_: None, lambda _: None))
    keeper.alarm(100.0)
    assert keeper.next_deadline() == inf
    assert keeper.is_gone


def test_one_that_dies_young_is_made_again_at_once_and_then_after_longer_and_longer_pauses(
    shell: Shell,
) -> None:
    now, pauses = 100.0, []
    for round in range(FREE_ROUNDS + 12):
        shell.keeper.alarm(now)
        assert len(shell.children) == round + 1
        died = now + 0.1
        shell.dies(died)
        now = max(died, shell.keeper.next_deadline())
        pauses.append(now - died)
        shell.keeper.alarm(now - 0.01)
        assert shell.keeper.is_gone, "it was made before its time"
    free, others = pauses[:FREE_ROUNDS], pauses[FREE_ROUNDS:]
    assert free == [0.0] * FREE_ROUNDS
    assert others[0] > 0
    assert others[1] > others[0]
    assert LONGEST_DELAY / 2 < others[-1] <= LONGEST_DELAY


def test_one_that_was_there_for_long_begins_the_row_of_young_deaths_anew(shell: Shell) -> None:
    now = 100.0
    for _ in range(FREE_ROUNDS + 3):
        now = max(now, shell.keeper.next_deadline())
        shell.keeper.alarm(now)
        shell.dies(now)
    now = shell.keeper.next_deadline()
    shell.keeper.alarm(now)
    shell.keeper.hear(shell.children[-1], Ready(), now)
    shell.dies(now + STABLE_AFTER)
    assert shell.keeper.next_deadline() <= now + STABLE_AFTER


def test_one_that_is_silent_writes_its_stacks_and_is_killed_and_another_is_made(
    shell: Shell, caplog: pytest.LogCaptureFixture
) -> None:
    keeper = shell.keeper
    keeper.alarm(100.0)
    keeper.alarm(100.0 + BOOT - 1)
    assert shell.said == ["fork"]
    keeper.alarm(keeper.next_deadline())
    keeper.alarm(keeper.next_deadline())
    assert shell.said == ["fork", "dump", "kill"]
    shell.dies(100.0 + BOOT + 1, KILLED)
    assert "was killed: it hangs" in caplog.text
    keeper.alarm(keeper.next_deadline())
    assert shell.said[3:] == ["fork"]


def test_one_that_even_sigkill_does_not_end_is_left_alone_and_no_other_is_made(
    shell: Shell,
) -> None:
    keeper = shell.keeper
    keeper.alarm(100.0)
    for _ in range(3):
        keeper.alarm(keeper.next_deadline())
    assert shell.said == ["fork", "dump", "kill", "forget"]
    assert keeper.is_gone
    assert keeper.next_deadline() == inf


def test_a_sign_of_life_is_good_for_the_time_that_it_says(shell: Shell) -> None:
    keeper = shell.keeper
    keeper.alarm(100.0)
    keeper.hear(shell.children[0], BootExtended(50.0), 110.0)
    assert keeper.next_deadline() == 160.0
    keeper.hear(shell.children[0], BootExtended(1.0), 110.0)
    assert keeper.next_deadline() == 111.0
    keeper.alarm(111.0)
    keeper.hear(shell.children[0], BootExtended(50.0), 111.1)  # too late: it writes its stacks
    assert keeper.next_deadline() == 111.0 + lives.LAST_WORDS


def test_one_that_slept_because_the_master_did_has_time_to_wake(shell: Shell) -> None:
    shell.keeper.alarm(100.0)
    shell.keeper.alarm(1000.0)  # after SIGCONT, say
    assert shell.said == ["fork"]
    assert shell.keeper.next_deadline() == 1000.0 + AWAKE
    shell.keeper.alarm(1000.0 + AWAKE)
    assert shell.said == ["fork", "dump"]


def test_why_it_cannot_live_is_in_the_log(shell: Shell, caplog: pytest.LogCaptureFixture) -> None:
    shell.keeper.alarm(100.0)
    shell.keeper.hear(shell.children[0], BootFailed("No token.", "token.txt", ""), 100.1)
    assert "cannot live: No token." in caplog.text


def test_a_refused_fork_is_tried_again_and_not_at_once(shell: Shell) -> None:
    shell.refused = OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    shell.keeper.alarm(100.0)
    assert shell.keeper.next_deadline() >= 101.0
    shell.refused = None
    shell.keeper.alarm(shell.keeper.next_deadline())
    assert shell.said == ["fork"]


def test_who_is_told_to_leave_is_killed_if_it_does_not_and_is_the_last(shell: Shell) -> None:
    keeper = shell.keeper
    keeper.alarm(100.0)
    keeper.leave(100.0)
    assert list(shell.ends[0].receive()) == [LastCall()]
    keeper.alarm(100.0 + FAREWELL / 2)
    assert shell.said == ["fork"]
    keeper.alarm(100.0 + FAREWELL)
    assert shell.said == ["fork", "kill"]
    shell.dies(101.1, KILLED)
    assert keeper.is_gone
    assert keeper.next_deadline() == inf


def test_none_is_made_while_another_master_has_the_service(shell: Shell) -> None:
    shell.wanted = False
    shell.keeper.alarm(100.0)
    assert shell.keeper.next_deadline() == inf
    shell.wanted = True
    shell.keeper.alarm(101.0)
    assert shell.said == ["fork"]


def test_what_a_former_monitor_has_left_to_say_is_not_of_the_new_one(shell: Shell) -> None:
    keeper = shell.keeper
    keeper.alarm(100.0)
    shell.dies(100.1)
    keeper.alarm(100.2)
    keeper.hear(shell.children[0], BootExtended(500.0), 100.3)
    keeper.has_ended(shell.children[0], ENDED, "", 100.4)
    assert keeper.next_deadline() == 100.2 + BOOT
    assert not keeper.is_gone

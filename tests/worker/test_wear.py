"""When a worker says that it is worn."""

from __future__ import annotations

from typing import Any

from forkserve.config.settings import Settings
from forkserve.worker import wear
from forkserve.worker.wear import Wear


def begin(**limits: Any) -> Wear:
    return Wear.begin(Settings(app="app:app", **limits))


def test_without_limits_nobody_is_ever_worn() -> None:
    worn = begin()
    assert not worn.tired_of_requests(10**9)
    assert not worn.tired(worn.begun + 10**9)
    assert not worn.too_big_from_the_start()


def test_after_so_many_requests() -> None:
    worn = begin(max_requests=100)
    assert not worn.tired_of_requests(99)
    assert worn.tired_of_requests(100) == "it has answered 100 requests (--max-requests 100)"


def test_jitter_adds_up_to_as_much_as_was_asked_for() -> None:
    limits = {begin(max_requests=100, max_requests_jitter=50).requests for _ in range(500)}
    assert min(limits) >= 100
    assert max(limits) <= 150
    assert len(limits) > 10


def test_a_lifetime_ends_a_little_early_each_time_anew() -> None:
    lifetimes = [begin(max_lifetime=1000.0).lifetime for _ in range(200)]
    assert 900 <= min(lifetimes) < max(lifetimes) <= 1000
    worn = begin(max_lifetime=1000.0)
    assert not worn.tired(worn.begun + 899)
    assert worn.tired(worn.begun + 1000) == "it has served for 1000 s (--max-lifetime 1000)"


def test_memory_is_looked_at_and_not_too_often() -> None:
    used = wear.memory_used()
    worn = begin(max_rss=used // 2)
    now = worn.begun
    assert "--max-rss" in worn.tired(now)
    assert not worn.tired(now + wear.LOOK_AGAIN - 1)
    assert "MiB" in worn.tired(now + wear.LOOK_AGAIN)
    assert not begin(max_rss=used * 100).tired(now)


def test_what_is_too_big_from_the_start_is_never_worn_by_it() -> None:
    worn = begin(max_rss=1 << 20)
    assert "--max-rss 1 MiB is below what the app uses" in worn.too_big_from_the_start()
    assert not worn.tired(worn.begun + 1000)


def test_shared_memory_counts_by_its_share() -> None:
    """The proportional size is never above the plain one, and is looked at only beyond it."""
    plain = wear.memory_used(enough=1 << 60)
    assert 0 < wear.memory_used() <= plain

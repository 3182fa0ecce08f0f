"""The protocol of sd_notify(3), with a real datagram socket."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from forkserve.master.notify import ServiceManager
from tests.service_manager import Manager, managing


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    with managing(tmp_path) as manager:
        yield manager


@pytest.fixture
def log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> Iterator[pytest.LogCaptureFixture]:
    logger = logging.getLogger("forkserve")
    monkeypatch.setattr(logger, "propagate", False)
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
def test_a_message_is_one_datagram(tmp_path: Path, abstract: bool) -> None:
    with managing(tmp_path, abstract=abstract) as manager:
        ours = ServiceManager({"NOTIFY_SOCKET": manager.name})
        ours.say("READY=1", "STATUS=äh")
        assert ours.offer("WATCHDOG=1")
        ours.close()
        manager.hear("WATCHDOG=1")
        assert manager.heard == ["READY=1\nSTATUS=äh", "WATCHDOG=1"]


def test_what_is_ours_is_taken_out_of_the_environment_and_kept_for_another_master() -> None:
    ours = {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "5", "WATCHDOG_PID": "7"}
    environment = {**ours, "PATH": "/bin"}
    manager = ServiceManager(environment)
    manager.close()
    assert environment == {"PATH": "/bin"}
    assert manager.environment() == {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "5"}


@pytest.mark.parametrize(
    ("name", "says"),
    [("vsock:2:1234", "not by vsock"), ("run/notify", "neither an absolute path"), ("@", "nor")],
)
def test_an_address_that_cannot_be_spoken_to_is_refused_with_a_sentence(
    log: pytest.LogCaptureFixture, name: str, says: str
) -> None:
    manager = ServiceManager({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "1000000"})
    manager.say("READY=1")
    assert not manager.listens
    assert manager.watchdog == 0
    (record,) = log.records
    assert says in record.getMessage()


def test_without_a_manager_nothing_is_said_and_nothing_logged(
    log: pytest.LogCaptureFixture,
) -> None:
    manager = ServiceManager({})
    manager.say("READY=1")
    assert not manager.offer("WATCHDOG=1")
    assert not manager.is_behind
    assert not log.records


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getppid())}, 0.0),
        ({"WATCHDOG_USEC": "0"}, 0.0),
        ({"WATCHDOG_USEC": "-5"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
        ({}, 0.0),
    ],
)
def test_the_watchdog_is_ours_if_it_says_so(
    manager: Manager, environment: dict[str, str], seconds: float
) -> None:
    ours = ServiceManager({"NOTIFY_SOCKET": manager.name, **environment})
    ours.close()
    assert ours.watchdog == seconds


def test_a_manager_that_does_not_read_hears_it_later_in_order(
    manager: Manager, log: pytest.LogCaptureFixture
) -> None:
    ours = ServiceManager({"NOTIFY_SOCKET": manager.name})
    manager.fill_up()
    ours.say("RELOADING=1")
    ours.say("READY=1")
    assert ours.is_behind
    (record,) = log.records
    assert "does not read" in record.getMessage()
    since = manager.hear_out()
    assert not ours.offer("WATCHDOG=1")  # not before what waits
    ours.catch_up()
    assert not ours.is_behind
    manager.hear_out()
    assert manager.heard[since:] == ["RELOADING=1", "READY=1"]
    ours.close()


def test_a_manager_that_does_not_read_costs_a_bounded_memory(manager: Manager) -> None:
    ours = ServiceManager({"NOTIFY_SOCKET": manager.name})
    manager.fill_up()
    for number in range(10_000):
        ours.say(f"X={number}")
    since = manager.hear_out()
    while ours.is_behind:
        ours.catch_up()
        manager.hear_out()
    assert manager.hear_out() - since < 100
    assert manager.heard[-1] == "X=9999"
    ours.close()


def test_a_manager_that_has_gone_is_told_of_once_and_heard_again_when_it_is_back(
    tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    with managing(tmp_path) as manager:
        ours = ServiceManager({"NOTIFY_SOCKET": manager.name})
        manager.close()
        for _ in range(3):
            ours.say("X=1")
        assert not ours.is_behind
        assert len(log.records) == 1
    with managing(tmp_path) as manager:
        ours.say("X=2")
        ours.close()
        assert manager.hear("X=") == "X=2"

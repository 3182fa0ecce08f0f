"""What a service manager hears, told as stories: the real supervisor, a real socket."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from forkserve.master.notify import ServiceManager
from forkserve.master.reporter import Reporter
from forkserve.supervisor.actions import Note
from forkserve.supervisor.brain import Supervisor
from forkserve.supervisor.events import ReloadRequested, SettingsRejected, WorkerBootFailed
from forkserve.supervisor.failures import BootFailure
from forkserve.supervisor.state import FOREVER, Policy
from tests.brain.story import (
    Happening,
    alarm,
    boot_fails,
    born,
    exits,
    extended,
    leaving,
    quit_,
    ready,
    refused,
    reload,
    start,
    term,
    ttin,
)
from tests.service_manager import Manager, managing, value


class Service:
    """A supervisor, a reporter, and a manager that hears it."""

    def __init__(self, manager: Manager, workers: int, **policy: Any) -> None:
        environment = {"NOTIFY_SOCKET": manager.name, "WATCHDOG_USEC": "9000000"}
        self.manager = manager
        self.brain = Supervisor(Policy(workers=workers, **policy))
        self.reporter = Reporter(ServiceManager(environment), lambda: self.brain.policy)

    def at(self, when: float, *happenings: Happening) -> list[str]:
        """What is heard when this happens."""
        since = self.manager.hear_out()
        for happening in happenings:
            event = happening(when)
            if isinstance(event, ReloadRequested):
                self.reporter.reload_asked(when)
            for action in self.brain.handle(event):
                if isinstance(action, Note):
                    self.reporter.tell(action)
            self.reporter.follow(event, self.brain.state)
        self.manager.hear_out()
        return self.manager.heard[since:]

    def is_serving(self) -> None:
        """All workers are ready at second 1, and so is the service."""
        ids = range(1, self.brain.policy.workers + 1)
        self.at(0.0, start, *map(born, ids))
        heard = self.at(1.0, *map(ready, ids))
        assert heard[-1].startswith("READY=1\n")


New = Callable[..., Service]


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    with managing(tmp_path) as manager:
        yield manager


@pytest.fixture
def new(manager: Manager) -> Iterator[New]:
    services: list[Service] = []

    def new_one(workers: int, **policy: Any) -> Service:
        services.append(Service(manager, workers, **policy))
        return services[-1]

    yield new_one
    for service in services:
        service.reporter.close()


def test_it_is_ready_once_every_worker_of_the_first_generation_is(new: New) -> None:
    service = new(2)
    assert service.at(0, start) == [
        "STATUS=starting: 0 workers ready, 2 wanted; generation 1",
        "EXTEND_TIMEOUT_USEC=125000000",
    ]
    assert service.at(1, born(1), born(2)) == []
    assert service.at(2, ready(1)) == ["STATUS=starting: 1 worker ready, 2 wanted; generation 1"]
    assert service.at(3, ready(2)) == ["READY=1\nSTATUS=2 workers ready, 2 wanted; generation 1"]
    assert service.at(40, alarm(1, 2)) == []


def test_a_reload_begins_with_the_signal_and_ends_when_all_is_replaced(new: New) -> None:
    service = new(1)
    service.is_serving()
    status = "STATUS=1 worker ready, 1 wanted; generation 1; reload: generation 2 is tried"
    assert service.at(10.25, reload) == [
        "RELOADING=1\nMONOTONIC_USEC=10250000",
        status,
        "EXTEND_TIMEOUT_USEC=125000000",
    ]
    assert service.at(11, born(2), ready(2)) == [
        "READY=1\nSTATUS=1 worker ready, 1 wanted; generation 2"
    ]


def test_what_is_still_to_be_replaced_is_said(manager: Manager, new: New) -> None:
    service = new(2)
    service.is_serving()
    service.at(10, reload)
    (said,) = service.at(11, born(3), ready(3))
    assert said == (
        "STATUS=2 workers ready, 2 wanted; generation 2; reload: 1 worker of older generations "
        "to replace"
    )
    assert manager.moments() == ["READY", "RELOADING"]


def test_a_reload_that_fails_ends_too_and_the_status_says_why(manager: Manager, new: New) -> None:
    service = new(1)
    service.is_serving()
    service.at(10, reload)
    (said,) = service.at(11, born(2), boot_fails(2))
    assert re.fullmatch(
        r"READY=1\nSTATUS=1 worker ready, 1 wanted; generation 1; last failure at [-\d]+ [:\d]+: "
        r"reload of generation 2: ImportError: no module named 'demo'",
        said,
    )
    assert service.at(11.1, exits(2, 1)) == []  # its death is no news
    service.at(20, reload)
    assert "failure" not in service.at(21, born(3), ready(3))[-1]
    assert manager.moments() == ["READY", "RELOADING", "READY", "RELOADING", "READY"]


def test_while_the_settings_are_read_it_is_not_ready_again(manager: Manager, new: New) -> None:
    service = new(1)
    service.is_serving()
    service.reporter.reload_asked(10.0)
    service.at(10.1, alarm(1))
    assert manager.moments() == ["READY", "RELOADING"]
    rejected = SettingsRejected(10.2, BootFailure("workers: 0 is too few"))
    (said,) = service.at(10.2, lambda _: rejected)
    assert said.startswith("READY=1\nSTATUS=1 worker ready")
    assert "reload: workers: 0 is too few" in said


def test_each_signal_to_reload_is_answered_and_ready_comes_last(manager: Manager, new: New) -> None:
    service = new(1)
    service.is_serving()
    service.at(10, reload)
    assert service.at(10.5, reload)[0] == "RELOADING=1\nMONOTONIC_USEC=10500000"
    service.at(11, born(2), reload, exits(2))
    service.at(12, born(4), ready(4))
    moments = manager.moments()
    assert moments.count("RELOADING") == 3
    assert moments[-1] == "READY"


def test_a_reload_before_it_was_ever_ready_is_part_of_the_start(manager: Manager, new: New) -> None:
    service = new(2)
    service.at(0, start, born(1), born(2))
    service.at(1, ready(1), reload)
    assert manager.moments() == []
    service.at(2, ready(2), born(3), ready(3), born(4), ready(4))
    assert manager.moments() == ["READY"]


@pytest.mark.parametrize("request_", [term, quit_])
def test_a_stop_is_said_with_the_time_it_may_take(new: New, request_: Happening) -> None:
    service = new(2, graceful_timeout=50.0)
    service.is_serving()
    stopping, patience = service.at(10, request_)
    name = "SIGTERM" if request_ is term else "SIGQUIT"
    assert stopping == f"STOPPING=1\nSTATUS=stopping because of {name}; 2 workers left"
    assert patience == "EXTEND_TIMEOUT_USEC=56000000"
    assert service.at(11, exits(1)) == [f"STATUS=stopping because of {name}; 1 worker left"]
    assert service.at(12, exits(2)) == [f"STATUS=stopped because of {name}"]


def test_an_app_that_cannot_start_stops_with_the_reason(new: New) -> None:
    service = new(1)
    service.at(0, start, born(1))
    said = service.at(1, boot_fails(1))[0]
    why = "because it cannot start: ImportError: no module named 'demo'"
    assert said == f"STOPPING=1\nSTATUS=stopping {why}; 1 worker left"
    assert service.at(2, exits(1, 3)) == [f"STATUS=stopped {why}"]


def test_patience_grows_with_what_the_app_asks_for(new: New) -> None:
    service = new(1)
    service.at(0, start, born(1))
    assert service.at(100, extended(1, 600)) == ["EXTEND_TIMEOUT_USEC=605000000"]
    assert service.at(100.2, extended(1, 600)) == []  # hardly more


def test_a_boot_without_a_limit_asks_for_a_long_time_once(new: New) -> None:
    service = new(2, boot_timeout=0.0)
    assert value(service.at(0, start)[1], "EXTEND_TIMEOUT_USEC") > 86_000 * 1e6
    assert service.at(1, born(1), born(2)) == []


def test_a_worker_that_starts_while_all_is_well_asks_for_nothing(new: New) -> None:
    service = new(1)
    service.is_serving()
    (said,) = service.at(10, ttin)
    assert said == "STATUS=1 worker ready, 2 wanted; generation 1"


def test_a_crash_loop_earns_no_patience_and_is_said(new: New) -> None:
    service = new(2)
    service.at(0, start, born(1), born(2), ready(1))
    heard: list[str] = []
    for worker_id in range(2, 8):
        now = worker_id * 40.0
        heard = service.at(now, alarm(1), born(worker_id), exits(worker_id, -11))
    assert not any("EXTEND" in message for message in heard)
    assert "they keep dying young, so the next one waits" in heard[-1]
    assert "worker 7 was ended by SIGSEGV" in heard[-1]


def test_each_kind_of_failure_has_its_words(new: New) -> None:
    service = new(1, timeout=30.0)
    service.is_serving()
    assert "worker 1 hung" in service.at(31, alarm())[-1]
    assert "(EAGAIN)" in service.at(31.1, refused(2))[-1]
    service.at(32, exits(1, -9))
    service.at(33, alarm())
    service.at(34, born(3))
    heard = service.at(35, boot_fails(3), exits(3, 1))
    assert heard[-1].endswith("worker 3 failed to boot: ImportError: no module named 'demo'")


def test_a_worker_that_leaves_as_asked_is_no_failure(new: New) -> None:
    service = new(1)
    service.is_serving()
    heard = service.at(10, leaving(1), born(2), ready(2), exits(1))
    assert not any("failure" in message for message in heard)


def test_a_failure_stays_one_line_and_one_message(new: New) -> None:
    """A line break would begin another field; systemd ignores a message with a zero byte."""
    service = new(1)
    service.is_serving()
    service.at(10, reload)
    headline = "E: a\nMAINPID=1\n\0\u2028\udc80" + "x" * 100_000
    fails = lambda now: WorkerBootFailed(now, 2, BootFailure(headline, "", ""))  # noqa: E731
    (said,) = service.at(11, born(2), fails)
    assert said.count("\n") == 1
    assert "E: a MAINPID=1 xxx" in said
    assert len(said.encode()) < 4096


def test_the_loop_beats_in_less_than_half_of_the_watchdogs_time(manager: Manager, new: New) -> None:
    service = new(1)
    now = 100.0
    for _ in range(3):
        assert service.reporter.due() <= now
        service.reporter.turn(now)
        assert service.reporter.due() - now < 4.5
        service.reporter.turn(now + 0.1)  # not yet
        now = service.reporter.due()
    assert manager.hear_out() == 3
    assert set(manager.heard) == {"WATCHDOG=1"}


def test_nothing_is_due_without_a_watchdog(manager: Manager) -> None:
    told = Reporter(ServiceManager({"NOTIFY_SOCKET": manager.name}), Policy)
    assert told.due() == FOREVER
    told.close()
    assert Reporter(ServiceManager({}), Policy).due() == FOREVER


def test_what_was_not_heard_is_tried_again(manager: Manager, new: New) -> None:
    service = new(1)
    service.reporter.turn(0.0)
    manager.fill_up()
    for happening in (start, born(1), ready(1)):
        event = happening(0.1)
        service.brain.handle(event)
        service.reporter.follow(event, service.brain.state)
    assert service.reporter.due() <= 1.1
    since = manager.hear_out()
    service.reporter.turn(1.1)
    manager.hear_out()
    assert manager.moments(since) == ["READY"]
    assert service.reporter.due() > 2  # only the watchdog is left


def test_once_another_master_has_taken_over_we_say_no_more(manager: Manager, new: New) -> None:
    service = new(1)
    service.is_serving()
    service.reporter.main_pid(4711)
    assert service.at(10, term) == []
    assert manager.heard[-1] == "MAINPID=4711"
    assert service.reporter.due() == FOREVER


def test_who_becomes_the_master_says_again_how_it_goes(manager: Manager, new: New) -> None:
    service = new(1)
    service.is_serving()
    since = manager.hear_out()
    service.reporter.main_pid(os.getpid())
    service.reporter.turn(service.reporter.due() + 1e6)
    manager.hear_out()
    assert manager.heard[since:] == [
        f"MAINPID={os.getpid()}",
        "WATCHDOG=1",
        "STATUS=1 worker ready, 1 wanted; generation 1",
    ]

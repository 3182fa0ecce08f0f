"""What systemd hears of a real forkserve, and what becomes of one that nobody listens to."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import pytest

from tests.service_manager import Manager, managing, value
from tests.system.server import APP, Server, state_of

Start = Callable[..., Server]

SLOW_START = APP.replace(
    "    if scope",
    """    import asyncio
    while not os.path.exists("go"):
        open("starting", "w").close()
        await asyncio.sleep(0.01)
    names = [n for n in os.environ if n.startswith(("NOTIFY_", "WATCHDOG_"))]
    open("names", "w").write(f"{names}")
    if scope""",
    1,
).replace("import os", "import os, forkserve\nforkserve.extend_boot(1000)\n", 1)


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    with managing(tmp_path) as manager:
        monkeypatch.setenv("NOTIFY_SOCKET", manager.name)
        yield manager


@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
def test_systemd_hears_a_start_a_reload_a_broken_one_and_a_stop(
    start: Start, folder: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool
) -> None:
    with managing(folder, abstract=abstract) as manager:
        monkeypatch.setenv("NOTIFY_SOCKET", manager.name)
        (folder / "app.py").write_text(SLOW_START)
        server = start("-w", "2", "--graceful-timeout", "20")

        # It is not ready while the lifespan of its workers has not begun to serve.
        manager.hear("STATUS=starting: 0 workers ready, 2 wanted; generation 1")
        assert value(manager.hear("EXTEND_TIMEOUT"), "EXTEND_TIMEOUT_USEC") > 120e6
        server.wait_for("starting", lambda: (folder / "starting").exists())
        server.wait_for_log("asks for up to 1000 s more")
        manager.hear_out(0.1)
        assert manager.moments() == []
        longest = [value(m, m.partition("=")[0]) for m in manager.heard if "EXTEND" in m]
        assert max(longest) > 900e6
        server.write("", "go")
        ready = manager.hear("READY=1")
        assert "STATUS=2 workers ready, 2 wanted; generation 1" in ready
        server.wait_until_ready()
        assert (folder / "names").read_text() == "[]"  # the app cannot speak for us

        # A reload.
        since = manager.hear_out()
        sent = monotonic()
        server.signal(signal.SIGHUP)
        reloading = manager.hear("RELOADING=1", since)
        assert sent * 1e6 <= value(reloading, "MONOTONIC_USEC") <= monotonic() * 1e6
        manager.hear("reload: generation 2 is tried", since)
        manager.hear("READY=1", since)
        server.wait_for_log("reload done")

        # A reload of broken code.
        server.write("raise RuntimeError('bad deploy')")
        since = manager.hear_out()
        server.signal(signal.SIGHUP)
        manager.hear("RELOADING=1", since)
        failed = manager.hear("READY=1", since)
        assert "2 workers ready, 2 wanted; generation 2; last failure" in failed
        assert "reload of generation 3: " in failed
        assert "RuntimeError: bad deploy" in failed

        # A stop.
        since = manager.hear_out()
        server.signal(signal.SIGTERM)
        assert "because of SIGTERM" in manager.hear("STOPPING=1", since)
        assert value(manager.hear("EXTEND_TIMEOUT", since), "EXTEND_TIMEOUT_USEC") > 20e6
        assert server.wait_for_exit() == 0
        manager.hear("STATUS=stopped because of SIGTERM", since)
        assert manager.moments() == [
            "READY",
            "RELOADING",
            "READY",
            "RELOADING",
            "READY",
            "STOPPING",
        ]
        assert not any("WATCHDOG" in message for message in manager.heard)


def test_every_signal_to_reload_is_answered_and_ready_is_last(
    start: Start, manager: Manager
) -> None:
    server = start("-w", "2").wait_until_ready()
    manager.hear("READY=1")
    for _ in range(5):
        since = manager.hear_out()
        server.signal(signal.SIGHUP)
        manager.hear("RELOADING=1", since)
    while manager.moments()[-1] != "READY":
        manager.hear("READY=1", len(manager.heard))
    assert manager.moments().count("RELOADING") == 5
    assert server.stop() == 0


def test_the_watchdog_hears_the_loop_beat_and_not_a_master_that_stands_still(
    start: Start, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "1500000")
    server = start("-w", "1").wait_until_ready()
    for _ in range(3):
        manager.hear("WATCHDOG=1", manager.hear_out())
    server.signal(signal.SIGSTOP)
    server.wait_for("stopped", lambda: state_of(server.pid) == "T")
    since = manager.hear_out()
    assert manager.hear_out(1.5) == since
    server.signal(signal.SIGCONT)
    manager.hear("WATCHDOG=1", since)
    assert server.stop() == 0


def test_an_app_that_cannot_start_leaves_the_reason_in_the_status(
    start: Start, manager: Manager
) -> None:
    server = start("-w", "2", app="app:nothing")
    assert server.wait_for_exit() == 3
    manager.hear("STATUS=stopped because it cannot start: Module")
    assert "READY" not in manager.moments()


def test_a_manager_that_has_gone_harms_nothing(start: Start, manager: Manager) -> None:
    manager.close()
    server = start("-w", "2").wait_until_ready()
    assert server.reload() == "done"
    assert server.get()
    assert server.stop() == 0
    assert server.log.count("the service manager cannot be told how it goes") == 1


def test_a_manager_that_does_not_read_holds_nothing_up_and_hears_it_later(
    start: Start, manager: Manager
) -> None:
    manager.fill_up()
    server = start("-w", "2").wait_until_ready()
    assert server.reload() == "done"
    assert server.get()
    since = manager.hear_out()
    manager.hear("STATUS=2 workers ready, 2 wanted; generation 2", since)
    assert manager.moments() == ["READY", "RELOADING", "READY"]
    manager.fill_up()
    assert server.stop() == 0
    assert server.log.count("the service manager cannot be told how it goes") == 1


def test_an_address_that_we_do_not_speak_to_is_said_and_the_service_serves(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "vsock:2:9999")
    server = start("-w", "1").wait_until_ready()
    assert "not by vsock" in server.log
    assert server.get()
    assert server.stop() == 0

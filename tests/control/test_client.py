"""What a client makes of a master that answers, in its own time or not at all."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from forkserve.control.client import Client, ControlError, RefusedError, SilentError
from tests.control.master import Listener, Request, never

SOON = 1.0
"""Seconds of patience, where it is to come to its end. Who answers has to do so within them."""


def test_one_who_says_nothing_is_not_waited_for(tmp_path: Path) -> None:
    with Listener(tmp_path / "c.sock") as master, Client.connect(master.path, SOON) as client:
        silent = rf"^the master \(pid {os.getpid()}\) has not answered for 1 s$"
        with pytest.raises(SilentError, match=silent):
            client.status()
        assert master.asked == ["status"]


def test_what_takes_its_time_is_waited_for_as_long_as_the_master_lives(tmp_path: Path) -> None:
    def lives(asked: Iterator[Request]) -> Iterator[Request]:
        order = next(asked)
        for _ in range(2):
            yield {"id": next(asked)["id"], "ok": True, "status": {}}
        yield {"id": order["id"], "progress": {"stage": "tried", "text": "one"}}
        yield {"id": next(asked)["id"], "ok": True, "status": {}}
        yield {"id": order["id"], "ok": True, "generation": 2}

    with (
        Listener(tmp_path / "c.sock", lives) as master,
        Client.connect(master.path, SOON) as client,
    ):
        progress, end = client.tell("reload")
        assert (progress["stage"], end["generation"]) == ("tried", 2)
        assert master.asked == ["reload", *["status"] * 3]


def test_and_no_longer(tmp_path: Path) -> None:
    def lives_for_a_while(asked: Iterator[Request]) -> Iterator[Request]:
        next(asked)
        yield {"id": next(asked)["id"], "ok": True, "status": {}}
        yield from never(asked)

    with (
        Listener(tmp_path / "c.sock", lives_for_a_while) as master,
        Client.connect(master.path, SOON) as client,
    ):
        with pytest.raises(SilentError, match=r"has not answered .* may be done yet"):
            list(client.tell("reload"))
        assert master.asked == ["reload", "status", "status"]


def test_a_stop_is_over_when_the_master_has_let_go(tmp_path: Path) -> None:
    def stops(asked: Iterator[Request]) -> Iterator[Request]:
        yield {"id": next(asked)["id"], "ok": True, "code": 0}
        yield {"id": next(asked)["id"], "ok": True, "status": {}}

    with (
        Listener(tmp_path / "c.sock", stops) as master,
        Client.connect(master.path, SOON) as client,
    ):
        answers = client.stop()
        assert next(answers)["code"] == 0
        client._wait_for_the_end()  # it lives, so it is waited for; then it closes
        assert master.asked == ["stop", "status"]


def test_a_no_is_told(tmp_path: Path) -> None:
    def refuses(asked: Iterator[Request]) -> Iterator[Request]:
        yield {"id": next(asked)["id"], "ok": False, "error": "No.", "details": "Why"}

    with (
        Listener(tmp_path / "c.sock", refuses) as master,
        Client.connect(master.path) as client,
        pytest.raises(RefusedError, match=r"^No\.$") as caught,
    ):
        client.ask("dump", worker=1)
    assert caught.value.details == "Why"


def test_where_nobody_is(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match=f"^there is no control socket at {tmp_path}/none$"):
        Client.connect(f"{tmp_path}/none")
    left = tmp_path / "left.sock"
    with socket.socket(socket.AF_UNIX) as former:
        former.bind(str(left))
    with pytest.raises(ControlError, match=f"^nobody listens at {left} any more: .* has ended$"):
        Client.connect(str(left))
    (tmp_path / "file").touch()
    with pytest.raises(ControlError, match=f"^{tmp_path}/file is no socket$"):
        Client.connect(f"{tmp_path}/file")
    with pytest.raises(ControlError, match=r"cannot be connected to .*too long"):
        Client.connect(f"/{'x' * 200}")


def test_where_too_many_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forkserve.control.client.CONNECTING", 1)
    path = str(tmp_path / "c.sock")
    with (
        socket.socket(socket.AF_UNIX) as master,
        socket.socket(socket.AF_UNIX) as one,
    ):
        master.bind(path)
        master.listen(0)
        one.connect(path)
        with pytest.raises(SilentError, match="lets nobody in"):
            Client.connect(path)

"""Which master is meant, whatever the sockets around it are."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from forkserve.control import instances as module
from forkserve.control.client import ControlError
from forkserve.control.instances import SeveralError, choose, instances
from tests.control.master import Answers, Listener, Request, never, status

Known = Callable[..., str]


def is_full(asked: Iterator[Request]) -> Iterator[Request]:
    yield {"id": None, "ok": False, "error": "Too many are here already."}


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Known]:
    """Adds a socket to those that are known, and says where it is."""
    paths: list[str] = []
    monkeypatch.setattr(module.places, "known", lambda **_: paths)
    monkeypatch.setattr(module, "PATIENCE", 1.0)
    with contextlib.ExitStack() as listening:

        def add(answers: Answers | None) -> str:
            path = tmp_path / f"{len(paths)}.sock"
            if answers is not None:
                listening.enter_context(Listener(path, answers))
            else:  # what a master leaves that was killed
                with socket.socket(socket.AF_UNIX) as former:
                    former.bind(str(path))
            paths.append(str(path))
            return paths[-1]

        yield add


def test_the_one_that_lives_is_meant(known: Known) -> None:
    known(None)
    path = known(status(pid=4711))
    assert [(one.path, one.status) for one in instances()] == [(path, {"pid": 4711})]
    with choose(None, None) as client:
        assert client.status()["pid"] == 4711


def test_none(known: Known) -> None:
    known(None)
    for pid in (None, "1"):
        with pytest.raises(ControlError, match=r"^no forkserve of this user .*--control says"):
            choose(None, pid)


@pytest.mark.parametrize(
    ("answers", "why"), [(never, "has not answered for 1 s"), (is_full, "Too many are here")]
)
def test_one_that_tells_nothing_of_itself_is_there(
    known: Known, answers: Answers, why: str
) -> None:
    path = known(answers)
    (one,) = instances()
    assert (one.path, one.pid, one.status) == (path, os.getpid(), None)
    assert why in one.why_not
    with pytest.raises(ControlError, match=why):
        choose(None, None)


def test_several(known: Known, monkeypatch: pytest.MonkeyPatch) -> None:
    # All who listen here are one process; as are those of which the kernel tells nothing.
    monkeypatch.setattr(module.Client, "pid", None)
    silent = known(never)
    known(status(pid=4711, name="shop", app="app:app"))
    shown = rf"{silent}, which tells nothing of itself, pid 4711 \(shop, app:app\); choose"
    with pytest.raises(SeveralError, match=shown):
        choose(None, None)


def test_a_pid_is_the_kernels_word_so_who_has_it_is_not_asked(known: Known, tmp_path: Path) -> None:
    path = known(never)
    pidfile = tmp_path / "shop.pid"
    pidfile.write_text(f"{os.getpid()}\n")
    for given in (str(os.getpid()), str(pidfile)):
        with choose(None, given) as client:
            assert client._socket.getpeername() == path


def test_or_else_its_own(known: Known) -> None:
    """As in a container, where its pid is another."""
    known(never)
    path = known(status(pid=4711))
    with choose(None, "4711") as client:
        assert client._socket.getpeername() == path

"""Who is there instead of a master that was watched."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from forkserve.control import instances
from forkserve.control.instances import successor_of
from forkserve.control.protocol import encode

FIRST: dict[str, Any] = {"pid": 1}


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the sockets of this user's masters are."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "forkserve").mkdir(mode=0o700)
    return tmp_path / "forkserve"


@contextlib.contextmanager
def answering(path: Path, **status: Any) -> Iterator[None]:
    """Somebody who listens there and says so to everybody."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(path))
        listener.listen()

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    with listener.accept()[0] as one, contextlib.suppress(BrokenPipeError):
                        one.recv(1 << 16)
                        one.sendall(encode({"id": 1, "ok": True, "status": status}))

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@contextlib.contextmanager
def silent(session: Path, numbers: Iterable[int]) -> Iterator[None]:
    """Strangers who say nothing."""
    with contextlib.ExitStack() as listening:
        for number in numbers:
            listener = listening.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(os.fspath(session / f"{number}.sock"))
            listener.listen()
        yield


def heir(path: Path, last: dict[str, Any]) -> str | None:
    """The name of its socket."""
    if (found := successor_of(os.fspath(path), last)) is None:
        return None
    found.close()
    return Path(found.path).name


def test_it_listens_in_the_same_place(session: Path) -> None:
    path = session / "shop.sock"
    assert heir(path, FIRST) is None
    with answering(path, pid=2):
        assert heir(path, FIRST) == "shop.sock"
        assert heir(path, {"pid": 2}) is None


@pytest.mark.parametrize(
    ("status", "last", "is_it"),
    [
        ({"pid": 2}, FIRST, False),
        ({"pid": 2, "replaced": 1}, FIRST, True),
        ({"pid": 2, "replaced": 7}, FIRST, False),
        ({"pid": 2}, {"pid": 1, "succeeded_by": 2}, True),
        ({"pid": 2}, {"pid": 1, "succeeded_by": 7}, False),
        ({"pid": 2}, {"pid": 1, "upgrading_to": 2}, False),
    ],
)
def test_it_has_taken_over_elsewhere(
    session: Path, status: dict[str, Any], last: dict[str, Any], is_it: bool
) -> None:
    with answering(session / "2.sock", **status):
        assert heir(session / "1.sock", last) == ("2.sock" if is_it else None)


def test_strangers_that_are_silent_hold_up_nothing(
    session: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instances, "HEIR", 1.0)
    with silent(session, range(2, 9)), answering(session / "9.sock", pid=2, replaced=1):
        began = monotonic()
        assert heir(session / "1.sock", FIRST) == "9.sock"
        assert monotonic() - began < 7 * 1.0  # not one after the other


def test_whoever_listens_in_its_place_is_found_without_them(
    session: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instances, "HEIR", 20.0)
    with silent(session, range(2, 4)), answering(session / "1.sock", pid=4):
        began = monotonic()
        assert heir(session / "1.sock", FIRST) == "1.sock"
        assert monotonic() - began < 20.0


def test_whoever_is_no_master_is_nobody(session: Path) -> None:
    with answering(session / "1.sock"):
        assert heir(session / "1.sock", FIRST) is None

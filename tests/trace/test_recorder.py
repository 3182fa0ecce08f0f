"""The file: whose it is, how long it may be, and what cannot be written."""

from __future__ import annotations

import fcntl
import logging
import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import is_dataclass
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

import pytest

from forkserve.supervisor import events as on
from forkserve.supervisor.state import State
from forkserve.trace import recorder as recording
from forkserve.trace.codec import hints
from forkserve.trace.recorder import Recorder
from tests.trace.tapes import BIG, Life, Verdict, lines_of, recorder_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trace"


class Ear(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(self.format(record))


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is said in the log."""
    ear, log = Ear(), logging.getLogger("forkserve")
    monkeypatch.setattr(log, "handlers", [ear])
    monkeypatch.setattr(log, "propagate", False)
    monkeypatch.setattr(log, "level", logging.INFO)
    return ear.heard


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Longer ones cannot be written, by this process: as on a full disk, EFBIG for ENOSPC."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# -- whose it is ----------------------------------------------------------------------------


def test_it_is_for_its_owner_alone(path: Path) -> None:
    Life(path).begin()
    assert path.stat().st_mode & 0o777 == 0o600


def test_no_link_is_followed_and_nothing_but_a_file_is_written_to(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("precious")
    another = tmp_path / "another"
    another.write_text("precious")
    (tmp_path / "symlink").symlink_to(another)
    (tmp_path / "hard").hardlink_to(other)
    os.mkfifo(tmp_path / "fifo")
    for name in ("symlink", "hard", "fifo", "."):
        with pytest.raises(OSError, match=r"."):
            recorder_of(tmp_path / name)
    assert other.read_text() == another.read_text() == "precious"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_somebody_else_is_not_written_to(path: Path) -> None:
    path.touch()
    os.chown(path, 65534, 65534)
    with pytest.raises(OSError, match="belongs to the master's user"):
        recorder_of(path)


def test_no_child_inherits_it(path: Path) -> None:
    recorder = recorder_of(path)
    assert recorder._fd is not None
    assert not os.get_inheritable(recorder._fd)


# -- one after the other --------------------------------------------------------------------


def test_a_new_master_goes_on_in_the_same_file(path: Path) -> None:
    Life(path).begin()
    before = len(lines_of(path))
    Life(path).begin()
    assert [s.because for s in Verdict(path).snapshots] == ["start", "start"]
    assert len(lines_of(path)) == 2 * before


def test_the_last_line_of_a_crash_does_not_spoil_what_comes_after(path: Path) -> None:
    Life(path).begin()
    path.write_bytes(path.read_bytes()[:-30])  # the machine has lost power
    Life(path).begin()
    seen = Verdict(path)
    assert seen.cut_off == [6]
    assert not seen.differing
    assert seen.numbers == [1, 2, 3, 4, 1, 2, 3, 4, 5]


def test_two_masters_write_to_one_file_and_either_puts_it_aside(path: Path) -> None:
    old, new = Life(path, limit=12_000), Life(path, limit=12_000)
    new.recorder.pid = 2
    new.recorder.begin(new.brain)
    old.begin()
    new.begin()
    for _ in range(12):
        old.crash()
        new.crash()
    aside, there = Verdict(path.with_name("trace.1")), Verdict(path)
    for seen in (aside, there):
        assert not seen.differing
        assert {s.pid for s in seen.snapshots} == {2, os.getpid()}
    assert path.with_name("trace.1").stat().st_size < 12_000 + 2000, "a step is far shorter"
    last = {
        pid: max(s.step.step for s in there.steps if s.step.pid == pid) for pid in (2, os.getpid())
    }
    assert last == {2: new.recorder.last, os.getpid(): old.recorder.last}


# -- how long it may be ---------------------------------------------------------------------


def test_a_long_one_is_put_aside_and_each_can_be_replayed_alone(path: Path) -> None:
    life = Life(path, limit=8000).begin()
    for _ in range(40):
        life.crash()
    aside = path.with_name("trace.1")
    assert sorted(p.name for p in path.parent.iterdir()) == ["trace", "trace.1"]
    first, second = Verdict(aside), Verdict(path)
    assert not first.differing
    assert not second.differing
    assert second.snapshots[0].because == "new file"
    assert second.snapshots[0].step == first.numbers[-1]
    assert first.numbers + second.numbers == list(range(first.numbers[0], life.recorder.last + 1))
    line = max(len(data) for data in aside.read_bytes().splitlines(keepends=True))
    assert aside.stat().st_size <= 8000 + line


def test_without_a_limit_there_is_one_file(path: Path) -> None:
    life = Life(path, limit=0).begin()
    for _ in range(40):
        life.crash()
    assert [p.name for p in path.parent.iterdir()] == ["trace"]


def test_however_small_the_limit_a_file_holds_more_than_its_snapshot(path: Path) -> None:
    life = Life(path, limit=1).begin()
    for _ in range(20):
        life.crash()
    snapshot = len(path.with_name("trace.1").read_bytes().splitlines()[0])
    assert path.with_name("trace.1").stat().st_size > 2 * snapshot


def test_the_other_master_may_be_putting_it_aside_right_now(path: Path, said: list[str]) -> None:
    life = Life(path, limit=6000).begin()
    other = os.open(path, os.O_RDWR)
    fcntl.flock(other, fcntl.LOCK_EX)
    for _ in range(10):
        life.crash()
    assert not path.with_name("trace.1").exists()
    os.close(other)
    life.crash()
    assert path.with_name("trace.1").exists()
    assert not Verdict(path).differing
    assert not Verdict(path.with_name("trace.1")).differing
    assert not said


@pytest.mark.parametrize("hindrance", ["somebody holds a lock on it", "Is a directory"])
def test_what_cannot_be_put_aside_does_not_grow_for_ever(
    path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch, hindrance: str
) -> None:
    """And it goes on as soon as it can."""
    monkeypatch.setattr(recording, "PAUSE", 0.0)
    life = Life(path, limit=6000).begin()
    in_the_way = path.with_name("trace.1")
    other = os.open(path, os.O_RDWR)
    if hindrance == "Is a directory":
        in_the_way.mkdir()
    else:
        fcntl.flock(other, fcntl.LOCK_EX)
    for _ in range(100):
        life.crash()
    assert path.stat().st_size < 2 * 6000 + 5000, "a snapshot is shorter"
    assert [line.split("(")[1].split(")")[0] for line in said] == [hindrance]
    os.close(other)
    if in_the_way.is_dir():
        in_the_way.rmdir()
    life.crash()
    assert "is written again" in said[1]
    life.crash()
    assert Verdict(path).numbers[-1] == life.recorder.last
    assert not Verdict(in_the_way).differing


def test_what_the_other_master_could_not_end_does_not_spoil_what_this_one_writes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has met a full disk within a line; then there was room again."""
    monkeypatch.setattr(recording, "PAUSE", 0.0)
    old, new = Life(path), Life(path)
    new.recorder.pid = 2
    new.recorder.begin(new.brain)
    old.begin()
    new.begin()
    with files_of_at_most(path.stat().st_size + 50):
        old.crash()
    new.crash()
    old.crash()
    new.crash()
    seen = Verdict(path)
    assert not seen.differing
    assert len(seen.cut_off) == 1
    assert {s.step.pid: s.step.step for s in seen.steps} == {
        2: new.recorder.last,
        os.getpid(): old.recorder.last,
    }


def test_a_file_that_has_been_moved_or_removed_is_begun_anew(path: Path, said: list[str]) -> None:
    life = Life(path).begin()
    path.rename(path.with_name("moved"))
    life.crash()
    life.crash()
    path.unlink()
    life.crash()
    life.crash()
    for name in ("moved", "trace"):
        assert not Verdict(path.with_name(name)).differing
    assert Verdict(path).snapshots[0].because == "new file"
    assert Verdict(path).numbers[-1] == life.recorder.last
    assert not said


@pytest.mark.parametrize("kind", ["link", "directory", "fifo"])
def test_what_somebody_lays_in_its_place_is_not_written_to(
    path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(recording, "PAUSE", 0.0)
    precious = path.with_name("precious")
    precious.write_text("precious")
    life = Life(path).begin()
    path.rename(path.with_name("moved"))
    if kind == "link":
        path.symlink_to(precious)
    elif kind == "directory":
        path.mkdir()
    else:
        os.mkfifo(path)
    for _ in range(3):
        life.crash()
    assert precious.read_text() == "precious"
    path.rename(path.with_name("away"))
    life.crash()
    life.crash()
    assert Verdict(path).snapshots[0].because == "gap"
    assert Verdict(path).numbers[-1] == life.recorder.last
    assert ["cannot be written" in said[0], "is written again" in said[1]] == [True, True]
    assert len(said) == 2


# -- what cannot be written -----------------------------------------------------------------


@pytest.mark.parametrize("room", range(0, 900, 50))
def test_a_full_disk_is_said_once_and_the_gap_is_marked(
    path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """Wherever within the lines the disk is full."""
    monkeypatch.setattr(recording, "PAUSE", 0.0)
    life = Life(path).begin()
    life.alarm()  # is written together with what comes next
    with files_of_at_most(path.stat().st_size + room):
        for _ in range(10):
            life.crash()
    life.crash()
    life.crash()
    seen = Verdict(path)
    assert not seen.differing
    _, gap = seen.snapshots
    assert gap.because == "gap"
    written = [n for n in seen.numbers if n <= gap.step]
    assert written == list(range(1, gap.step - gap.lost + 1)), "what is lost is counted"
    assert seen.numbers[-1] == life.recorder.last
    assert [line.split("(")[0] for line in said] == [
        f"the trace {path} cannot be written ",
        f"the trace {path} is written again; {gap.lost} steps are missing in it",
    ]


def test_it_is_not_tried_at_every_step_while_the_disk_is_full(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "PAUSE", 3600.0)
    life = Life(path).begin()
    size = path.stat().st_size
    with files_of_at_most(size):
        life.crash()
    life.crash()
    assert path.stat().st_size == size


def test_a_directory_that_vanishes_is_survived(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "PAUSE", 0.0)
    folder = tmp_path / "away"
    folder.mkdir()
    life = Life(folder / "trace").begin()
    shutil.rmtree(folder)
    life.crash()
    life.crash()
    folder.mkdir()
    life.crash()
    life.crash()
    seen = Verdict(folder / "trace")
    assert seen.snapshots[0].because == "gap"
    assert not seen.differing
    assert "No such file or directory" in said[0]
    assert "is written again" in said[1]
    assert len(said) == 2


def test_even_a_bug_of_the_recorder_does_not_touch_the_service(
    path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    life = Life(path).begin()

    def broken(*_: object) -> None:
        raise TypeError("a bug")

    monkeypatch.setattr(Recorder, "record", broken)
    assert life.tell(on.ScaleRequested, +1)
    assert life.tell(on.ScaleRequested, +1), "it has ended, and is not tried again"
    assert len(said) == 1
    assert "a fault in forkserve's trace" in said[0]
    assert "TypeError: a bug" in said[0]


# -- what is left out -----------------------------------------------------------------------


def test_where_nothing_happens_nothing_is_written(path: Path) -> None:
    life = Life(path).begin()
    size = path.stat().st_size
    for _ in range(1000):
        life.alarm()
    assert path.stat().st_size == size
    life.crash()
    seen = Verdict(path)
    assert not seen.differing
    assert [s.step.folded for s in seen.steps if s.step.folded] == [999]


def test_an_alarm_that_cannot_be_left_out_is_written(path: Path) -> None:
    """The first of two shows a beat that the second, as told here, does not."""
    life = Life(path).begin()
    life.tell(on.Alarm, {1: life.now, 2: life.now})
    life.tell(on.Alarm, {2: life.now})
    life.crash()
    seen = Verdict(path)
    alarms = [s.step for s in seen.steps if isinstance(s.step.event, on.Alarm)]
    assert [a.folded for a in alarms] == [0, 0]
    assert not seen.differing


def test_the_limit_holds_for_what_was_there_before(path: Path) -> None:
    Life(path, limit=BIG).begin()
    path.write_bytes(path.read_bytes() * 5)
    Life(path, limit=8000)
    assert path.with_name("trace.1").exists()
    assert len(Verdict(path).snapshots) == 1


def test_a_copy_of_the_state_shares_nothing_that_changes() -> None:
    """Whoever puts something deeper into the state makes ``copied`` go deeper."""

    def never_changes(hint: Any) -> bool:
        if get_origin(hint) in (UnionType, Union, frozenset, tuple):
            return all(never_changes(arg) for arg in get_args(hint) if arg is not ...)
        if is_dataclass(hint):
            return hint.__dataclass_params__.frozen  # type: ignore[union-attr]
        return hint in (int, float, str, bool, NoneType) or issubclass(hint, Enum)

    def of_records(hint: Any) -> list[Any]:
        """The classes of which there are records in a field of the state."""
        if get_origin(hint) is dict:
            return [get_args(hint)[1]]
        return [h for h in (hint, *get_args(hint)) if is_dataclass(h) and not never_changes(h)]

    for hint in hints(State).values():
        records = of_records(hint)
        assert records or never_changes(hint), hint
        for record in records:
            assert all(map(never_changes, hints(record).values())), record

"""The same decisions made again: the same, otherwise, or not to be made at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from forkserve import __version__
from forkserve.supervisor import backoff, verdicts
from forkserve.supervisor import events as on
from forkserve.supervisor.brain import Supervisor
from forkserve.supervisor.events import Exit
from forkserve.supervisor.phases import Phase
from forkserve.supervisor.state import Policy
from forkserve.trace.replaying import UnreadableError, Who, replay
from tests.trace.tapes import Life, Verdict, lines_of, write

Line = dict[str, Any]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trace"


@pytest.fixture
def eventful(path: Path) -> Life:
    """Crash loops with their jitter, a policy that a reload brings, a stop."""
    life = Life(path, Policy(1, seed=4711))
    life.tell(on.Started)
    for number in range(1, 12):
        life.tell(on.WorkerReady, number)
        life.tell(on.WorkerExited, number, Exit(1))
        life.alarm(after=40.0)
    life.tell(on.WorkerReady, 12)
    life.tell(on.ReloadRequested, Policy(3, seed=4711, graceful_timeout=5.0))
    for number in range(13, 16):
        life.tell(on.WorkerReady, number)
    life.tell(on.TerminateRequested)
    for number in list(life.brain.state.workers):
        life.tell(on.WorkerExited, number, Exit(0))
    return life


def test_a_life_replays_the_same(eventful: Life) -> None:
    seen = Verdict(eventful.path)
    assert not seen.differing
    assert seen.numbers == list(range(1, eventful.recorder.last + 1))
    last = seen.steps[-1]
    assert not last.after, "everybody has left"
    assert Who("worker", 1) in seen.steps[1].after
    assert {s.phase for s in seen.steps[-2].before.values()} == {Phase.DRAINING}


def test_a_brain_of_today_that_decides_otherwise_is_found_out(
    eventful: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same trace, and another brain."""
    monkeypatch.setattr(backoff, "FREE_ROUNDS", 4)
    seen = Verdict(eventful.path)
    assert len(seen.differing) == 1, "only the first one means something"
    step = next(s for s in seen.steps if s.differs)
    assert "BackingOff(delay=" in repr(step.step.actions)
    assert all(not s.compared for s in seen.steps if s.step.step > seen.differing[0])


def test_so_is_one_that_fails(eventful: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdicts.Verdicts, "_stop", None)
    seen = Verdict(eventful.path)
    step = next(s for s in seen.steps if s.differs)
    assert isinstance(step.step.event, on.TerminateRequested)
    assert "not callable" in step.fault


def test_a_bug_of_the_brain_is_recorded_and_replays_as_one(path: Path) -> None:
    life = Life(path).begin()
    with pytest.raises(KeyError):
        life.tell(on.Forked, 99, 1)
    life.crash()
    seen = Verdict(path)
    assert not seen.differing
    assert "KeyError(99)" in [s.step.fault for s in seen.steps]


def test_the_brain_has_no_memory_but_its_state_and_policy() -> None:
    """Else a snapshot is not enough: whoever adds to this adds to the snapshot."""
    assert set(vars(Supervisor(Policy()))) == {"policy", "state", "_out"}


def _tampered(lines: list[Line]) -> None:
    lines[3]["actions"][0]["ready"] = 7


def _unsaid(lines: list[Line]) -> None:
    lines[3]["actions"].pop()


@pytest.mark.parametrize("change", [_tampered, _unsaid])
def test_whoever_changes_an_action_is_found_out(
    eventful: Life, change: Callable[[list[Line]], None]
) -> None:
    lines = lines_of(eventful.path)
    change(lines)
    write(eventful.path, lines)
    assert Verdict(eventful.path).differing == [3]


def why_not(path: Path) -> str:
    with pytest.raises(UnreadableError) as caught:
        list(replay(path))
    return str(caught.value)


@pytest.mark.parametrize(
    ("place", "change", "why"),
    [
        (3, {"event": {"is": "WorkerSang", "now": 1.0}}, "the event WorkerSang is not known"),
        (3, {"actions": [{"is": "Sing"}]}, "the action Sing is not known"),
        (3, {"mood": "good"}, "Step has no field mood"),
        (3, {"event": {"is": "Resumed", "now": "inf"}}, "its time is no time"),
        (0, {"trace": 2}, "the format 2 of the trace is not known"),
        (0, {"policy": {}}, "Policy lacks the field workers"),
        (0, {"wall": 1e300}, "its time is no time"),
    ],
)
def test_what_is_not_known_is_said_with_its_place(
    eventful: Life, place: int, change: Line, why: str
) -> None:
    lines = lines_of(eventful.path)
    lines[0]["forkserve"] = "9.9"
    lines[place] |= change
    write(eventful.path, lines)
    said = why_not(eventful.path)
    assert said.startswith(f"{eventful.path}:{place + 1}: {why}")
    if "known" in why:
        assert said.endswith(f"recorded by forkserve 9.9, read by {__version__}.")


def test_a_line_that_is_missing_is_missed(eventful: Life) -> None:
    lines = lines_of(eventful.path)
    del lines[3]
    write(eventful.path, lines)
    assert why_not(eventful.path) == (
        f"{eventful.path}:4: step 4 follows step 2; lines are missing."
    )


def test_a_last_line_that_is_cut_off_is_fine(eventful: Life) -> None:
    data = eventful.path.read_bytes()
    eventful.path.write_bytes(data[:-20])
    seen = Verdict(eventful.path)
    assert seen.cut_off == [data.count(b"\n")]
    assert not seen.differing


@pytest.mark.parametrize("damage", [lambda line: line[:40], lambda line: "\0" * len(line)])
def test_one_in_the_middle_is_not(eventful: Life, damage: Callable[[str], str]) -> None:
    lines = eventful.path.read_text().splitlines()
    lines[3] = damage(lines[3])
    eventful.path.write_text("\n".join(lines))
    assert why_not(eventful.path) == (
        f"{eventful.path}:5: step 4 follows step 2; line 4 is damaged."
    )


def test_a_snapshot_that_met_a_full_disk_again_and_again_is_fine(eventful: Life) -> None:
    data = eventful.path.read_bytes()
    first = data.splitlines(keepends=True)[0]
    eventful.path.write_bytes(first[:30] + b"\n" + first[:900] + b"\n" + data)
    seen = Verdict(eventful.path)
    assert seen.cut_off == [1]
    assert seen.numbers == list(range(1, eventful.recorder.last + 1))


def test_a_line_without_an_end_is_not_read_to_the_end(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)  # of which nothing is on the disk
    assert why_not(path) == f"{path}:1: this is no line of a trace."


def test_a_trace_without_its_beginning_is_none(eventful: Life) -> None:
    lines = lines_of(eventful.path)
    write(eventful.path, lines[1:])
    assert "no snapshot stands before this step" in why_not(eventful.path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n\n",
        b"\x7fELF\x00\x01\n\xff\xfe\n",
        b"{}\n",
        b"[]",
        b"17\n",
        b"[" * 100_000,
        json.dumps({"event": None}).encode(),
        json.dumps({"trace": 1}).encode(),
        json.dumps({"trace": [1]}).encode(),
    ],
)
def test_any_other_file_is_none(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    assert why_not(path).startswith(f"{path}:1: ")

"""The story in words, the time line, and the command."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forkserve.config.command_line import WrongArguments
from forkserve.supervisor import actions as do
from forkserve.supervisor import backoff
from forkserve.supervisor import events as on
from forkserve.supervisor.actions import Action
from forkserve.supervisor.events import Event, Exit
from forkserve.supervisor.failures import BootFailure
from forkserve.supervisor.phases import Phase
from forkserve.supervisor.state import Policy
from forkserve.trace import command
from forkserve.trace.codec import FAMILIES
from forkserve.trace.replaying import Seen, Who, replay
from forkserve.trace.story import Story
from forkserve.trace.timeline import Timeline, in_words
from forkserve.trace.words import Narrator
from tests.trace.tapes import Life, lines_of, write
from tests.trace.values import of_class

EVERYTHING = [*FAMILIES[Event].values(), *FAMILIES[Action].values()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trace"


@pytest.fixture
def short(path: Path) -> Life:
    life = Life(path).begin()
    life.tell(on.WorkerExited, 1, Exit(-9, oom=False))
    life.tell(on.WorkerBootFailed, 3, BootFailure("No table.", "app.py:3", "Traceback\n  f()"))
    return life


def told(path: Path, width: int = 100) -> list[str]:
    story = Story(width)
    lines = [line for part in replay(path) for line in story.tell(part)]
    return [*lines, *story.timelines(), *story.verdict()]


# -- words ----------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", EVERYTHING, ids=lambda cls: cls.__name__)
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_there_are_words_for_everything(cls: type, data: st.DataObject) -> None:
    """Also for values that never occur: a file may have been changed by somebody."""
    narrator = Narrator("app:app", ("http://127.0.0.1:8000",))
    said = narrator.tell(data.draw(of_class(cls)))
    assert said.strip()


@pytest.mark.parametrize("cls", EVERYTHING, ids=lambda cls: cls.__name__)
def test_and_words_of_its_own_rather_than_its_name_in_the_code(cls: Any) -> None:
    plain = {"int": 1, "float": 1.5, "str": "x", "bool": True, "Exit": Exit(3)}
    plain |= {"BootFailure": BootFailure("No.")}
    plain |= {"Departure": do.Departure.CRASHED, "Mapping[int, float]": {1: 1.0}}
    values = {f.name: plain.get(str(f.type).removesuffix(" | None")) for f in fields(cls)}
    narrator = Narrator("app:app", ())
    what = cls(**values)
    assert narrator.tell(what) != narrator._plain(what)
    assert cls.__name__ not in narrator.tell(what)


def test_values_that_cannot_be_put_into_words_are_shown_as_they_are() -> None:
    age = float("inf")
    said = Narrator("app:app", ()).tell(
        do.WorkerGone(1, do.Departure.HUNG, Exit(-9), age, planned=False)
    )
    assert said.startswith("worker gone, worker_id 1, departure HUNG")
    assert "age inf" in said


def test_a_new_kind_is_told_by_its_name_until_it_has_words(monkeypatch: pytest.MonkeyPatch) -> None:
    from forkserve.trace import words

    monkeypatch.setattr(words, "_WORDS", {})
    said = Narrator("app:app", ()).tell(on.Forked(1.0, 3, 1003))
    assert said == "forked, worker_id 3, pid 1003"


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (on.RecycleRequested(1.0), "recycling of all workers is asked for"),
        (on.RecycleRequested(1.0, 3), "recycling of worker 3 is asked for"),
        (on.WorkerSlow(1.0, 3, True), "worker 3 says that its handlers hold others up"),
        (
            on.WorkerSlow(1.0, 3, False),
            "worker 3 says that its handlers do not hold others up any more",
        ),
    ],
)
def test_what_is_said_in_one_of_two_ways(what: Event, words: str) -> None:
    assert Narrator("app:app", ()).tell(what) == words


def test_the_story_of_a_crash(short: Life) -> None:
    story = "\n".join(told(short.path))
    for part in (
        "worker 1 (pid 1001, generation 1) was ended by SIGKILL\n",
        "log  worker 1 (pid 1001, generation 1) was ended by SIGKILL (from outside, not by\n"
        "                       the kernel's OOM killer) after ",
        " s; 1 of 2 ready\n                  do   make worker 3 of generation 1, in slot 0\n",
        "worker 3 (pid 1003, generation 1) cannot start: No table. (app.py:3)\n"
        "                        Traceback\n"
        "                          f()\n",
        "9 steps: today's code decides the same.",
    ):
        assert part in story, (part, story)


@pytest.mark.parametrize(
    ("alarms", "words"), [(1, ""), (2, " (and once before)"), (9, " (and 8 times before)")]
)
def test_alarms_that_were_left_out_are_counted(path: Path, alarms: int, words: str) -> None:
    life = Life(path).begin()
    for _ in range(alarms):
        life.alarm()
    life.crash()
    (line,) = [line for line in told(path) if "deadline" in line]
    assert line.endswith(f"  a deadline has passed{words}")


def test_nothing_is_wider_than_the_terminal(short: Life) -> None:
    for width in (50, 72, 200):
        assert max(map(len, told(short.path, width))) <= width


def test_a_file_cannot_drive_the_terminal(short: Life) -> None:
    lines = lines_of(short.path)
    lines[0]["app"] = "\x1b]0;evil\x07app\x9b31m\r"
    lines[-2]["event"]["failure"]["headline"] = "\x1b[2J"
    write(short.path, lines)
    story = told(short.path)
    assert all(line.isprintable() for line in story), story
    assert any(r"\x1b]0;evil\x07app\x9b31m\r" in line for line in story)


# -- the time line --------------------------------------------------------------------------


def test_a_time_line() -> None:
    line = Timeline()
    one, two = Who("worker", 1), Who("template", 1)
    line.note(0.0, {two: Seen(Phase.STARTING, 1, None)})
    line.note(0.5, {two: Seen(Phase.READY, 1, 9), one: Seen(Phase.STARTING, 1, None)})
    line.note(0.6, {two: Seen(Phase.READY, 1, 9), one: Seen(Phase.STARTING, 1, 10)})
    line.note(1.0, {two: Seen(Phase.READY, 1, 9), one: Seen(Phase.READY, 1, 10, spare=True)})
    line.note(70.0, {two: Seen(Phase.READY, 1, 9), one: Seen(Phase.READY, 1, 10)})
    line.note(71.0, {two: Seen(Phase.DRAINING, 1, 9), one: Seen(Phase.KILLED, 1, 10)})
    line.note(72.0, {one: Seen(Phase.DRAINING, 1, 10)})
    line.note(3700.0, {})
    assert list(line.rows(80)) == [
        "               |0.000",
        "template 1 g1  .===~x",
        "worker 1 g1     .-=!~x",
    ]


def test_a_long_one_goes_on_below() -> None:
    line = Timeline()
    for number in range(30):
        line.note(float(number), {Who("worker", number): Seen(Phase.READY, 1, None)})
    rows = list(line.rows(0))
    assert rows[0] == "              |0.000 |7.000 |14.000"[: len(rows[0])]
    below = rows.index("")
    assert rows[below + 1].strip().startswith("|20.000")
    assert rows[below + 2] == "worker 19 g1  x"
    assert not any(row.startswith("worker 3 ") for row in rows[below:])


def test_a_column_of_a_time_line_holds_no_more_than_what_changes() -> None:
    """Else a trace of hundreds of workers does not fit into memory."""
    line = Timeline()
    cast = {Who("worker", number): Seen(Phase.READY, 1, None) for number in range(500)}
    line.note(0.0, cast)
    for number in range(500):
        cast[Who("worker", number)] = Seen(Phase.DRAINING, 1, None)
        line.note(number + 1.0, cast)
    assert [len(change) for change in line._changes] == [500] + 500 * [1]
    rows = [row for row in line.rows(80) if row.startswith("worker 70 ")]
    width = 80 - len("worker 499 g1  ")
    assert rows[0] == "worker 70 g1   " + "=" * width
    assert rows[1] == "worker 70 g1   " + ("=" * (71 - width)).ljust(width, "~")


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.25, "0.250"), (61.5, "1:01.500"), (7325.0, "2:02:05.000")]
)
def test_times(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


# -- the command ----------------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    code = command.main(args)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_same(short: Life, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, str(short.path))
    assert (code, err) == (0, "")
    assert "make worker 3" in out
    assert "worker 3 g1" in out


@pytest.mark.parametrize("show", ["story", "timeline", "verdict"])
def test_one_part_only(short: Life, capsys: pytest.CaptureFixture[str], show: str) -> None:
    code, out, _ = run(capsys, str(short.path), "--show", show)
    assert code == 0
    assert "9 steps: today's code decides the same.\n" in out
    assert ("make worker 3" in out) is (show == "story")
    assert ("worker 3 g1" in out) is (show == "timeline")


def test_otherwise(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    life = Life(path, Policy(1))
    life.tell(on.Started)
    for number in range(1, 6):
        life.tell(on.WorkerReady, number)
        life.tell(on.WorkerExited, number, Exit(1))
        life.alarm(after=40.0)
    monkeypatch.setattr(backoff, "FREE_ROUNDS", 2)
    code, out, _ = run(capsys, str(path))
    assert code == 1
    assert out.count("** today's code decides otherwise") == 1
    verdict = out[out.index("steps: today's code decides otherwise, first in step ") :]
    assert "(WorkerExited, master pid " in " ".join(verdict.split())  # wherever the line is broken
    recorded, today = verdict.index("  recorded  Fork("), verdict.index("  today     BackingOff(")
    assert recorded < today


@pytest.mark.parametrize("data", [None, b"what?\n", b""])
def test_not_readable(path: Path, capsys: pytest.CaptureFixture[str], data: bytes | None) -> None:
    if data is not None:
        path.write_bytes(data)
    code, out, err = run(capsys, str(path))
    assert (code, out) == (2, "")
    assert err.startswith("forkserve replay: ")
    assert str(path) in err
    assert err.count("\n") == 1


def test_a_last_line_cut_off_is_said(short: Life, capsys: pytest.CaptureFixture[str]) -> None:
    short.path.write_bytes(short.path.read_bytes()[:-9])
    code, out, _ = run(capsys, str(short.path))
    assert code == 0
    assert "line 10 is cut off" in out


def test_what_stands_before_the_damage_is_told(
    short: Life, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what there is to be said of it."""
    lines = short.path.read_text().splitlines()
    short.path.write_text("\n".join([*lines[:-1], "damaged", lines[-1].replace(":9,", ":10,")]))
    code, out, err = run(capsys, str(short.path))
    assert code == 2
    assert "line 10 is cut off" in out
    assert "worker 3 g1" in out
    assert out.endswith("8 steps: today's code decides the same.\n")
    assert (
        err == f"forkserve replay: {short.path}:11: step 10 follows step 8; line 10 is damaged.\n"
    )


def test_arguments_that_are_none() -> None:
    with pytest.raises(WrongArguments):
        command.main([])


def test_whoever_reads_may_have_seen_enough(path: Path) -> None:
    life = Life(path).begin()
    for _ in range(500):
        life.crash()
    reader, writer = os.pipe()
    replaying = subprocess.Popen(
        [sys.executable, "-m", "forkserve", "replay", str(path)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=writer,
        stderr=subprocess.PIPE,
    )
    os.close(writer)
    os.read(reader, 1)
    os.close(reader)
    _, err = replaying.communicate(timeout=60)
    assert (replaying.returncode, err) == (0, b"")

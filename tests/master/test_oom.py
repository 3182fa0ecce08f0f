"""What the counter of a cgroup says of a SIGKILL, and for how long."""

from __future__ import annotations

from pathlib import Path

import pytest

from forkserve.master.kernel import Death
from forkserve.master.oom import FRESH, OomEvidence
from forkserve.supervisor.events import Exit
from tests.master.test_cgroups import MEBI, lay_out, v2_mount

KILLED = Death(7, -9, peak=80 * MEBI)


@pytest.fixture
def counter(tmp_path: Path) -> Path:
    """memory.events of a group with a limit, in which two have been killed before us."""
    return tmp_path / "sys/fs/cgroup/memory.events"


@pytest.fixture
def evidence(tmp_path: Path) -> OomEvidence:
    files = {"memory.max": str(96 * MEBI), "memory.events": "oom 3\noom_kill 2"}
    return OomEvidence(lay_out(tmp_path, "0::/\n", v2_mount(), files))


def test_a_counter_that_has_not_risen_is_proof(evidence: OomEvidence) -> None:
    assert evidence.explain(KILLED, 100.0) == Exit(-9, oom=False)
    evidence.close()


def test_each_rise_explains_one_death(evidence: OomEvidence, counter: Path) -> None:
    counter.write_text("oom 4\noom_kill 3\n")
    limit = 96 * MEBI
    assert evidence.explain(KILLED, 100.0) == Exit(-9, True, peak=80 * MEBI, limit=limit)
    assert evidence.explain(KILLED, 100.1) == Exit(-9, oom=False)
    counter.write_text("oom 5\noom_kill 5\n")
    assert [evidence.explain(KILLED, 101.0).oom for _ in range(3)] == [True, True, False]
    evidence.close()


def test_a_rise_that_was_seen_long_ago_was_somebody_else(
    evidence: OomEvidence, counter: Path
) -> None:
    counter.write_text("oom_kill 3\n")
    evidence.look(100.0)
    assert evidence.explain(KILLED, 101.0 + FRESH).oom is False
    counter.write_text("oom_kill 4\n")
    evidence.look(200.0)
    assert evidence.explain(KILLED, 199.0 + FRESH).oom is True
    evidence.close()


@pytest.mark.parametrize("code", [0, 1, -15, -11])
def test_no_other_end_is_the_oom_killers(evidence: OomEvidence, counter: Path, code: int) -> None:
    counter.write_text("oom_kill 3\n")
    assert evidence.explain(Death(7, code), 100.0) == Exit(code)
    assert evidence.explain(KILLED, 100.0).oom is True
    evidence.close()


def test_without_a_counter_nothing_is_said(tmp_path: Path) -> None:
    evidence = OomEvidence(lay_out(tmp_path, "0::/\n", v2_mount(), {}))
    assert evidence.explain(KILLED, 100.0) == Exit(-9)
    evidence.close()

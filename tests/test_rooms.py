"""Each process loads what its own room needs, and so starts as fast as it can."""

from __future__ import annotations

import subprocess
import sys

import pytest

BRAIN = (
    "forkserve.supervisor.brain",
    "forkserve.supervisor.events",
    "forkserve.supervisor.actions",
)
"""Two fifths of what a template would load of forkserve, by the time that it takes."""


@pytest.mark.parametrize(
    ("room", "stays_out"),
    [
        ("forkserve.master.main", ("uvicorn", "asyncio")),
        ("forkserve.template.main", ("uvicorn", *BRAIN)),
        ("forkserve.worker.serve", BRAIN),
        ("forkserve.switchboard.main", ("uvicorn", "asyncio", *BRAIN)),
        ("forkserve.monitor.main", ("uvicorn", *BRAIN)),
        ("forkserve.hooks.runner", ("uvicorn", *BRAIN)),
        ("forkserve.cli", BRAIN),
        ("forkserve.control.commands", BRAIN),
    ],
)
def test_nothing_is_loaded_that_the_room_does_not_need(
    room: str, stays_out: tuple[str, ...]
) -> None:
    code = f"import sys, {room}; print(*(name for name in {stays_out} if name in sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []

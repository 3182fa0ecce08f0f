"""Asking for a longer boot."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest

import forkserve
from forkserve import boot
from forkserve.channel import BootExtended, Channel


def test_the_master_hears_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = Channel.pair()
    monkeypatch.setattr(boot, "_channel", theirs)
    forkserve.extend_boot(90)
    assert ours.receive() == [BootExtended(90.0)]
    ours.close()
    theirs.close()


def test_outside_forkserve_it_does_nothing() -> None:
    forkserve.extend_boot(90)


@pytest.mark.parametrize("seconds", [0, -1, math.nan, math.inf])
def test_nonsense_is_refused_in_a_sentence(seconds: float) -> None:
    with pytest.raises(ValueError, match="seconds above zero"):
        forkserve.extend_boot(seconds)


def test_importing_forkserve_stays_light() -> None:
    script = "import sys, forkserve; print('forkserve.channel' in sys.modules)"
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert said.stdout == "False\n"

"""How times are written, and what a slow threshold may be."""

from __future__ import annotations

from typing import Any

import pytest

from forkserve.config.contradictions import contradictions
from forkserve.config.kinds import seconds
from forkserve.config.settings import OPTIONS, Settings

(SLOW_THRESHOLD,) = [o for o in OPTIONS if o.name == "slow_threshold"]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("30", 30.0),
        ("0.5", 0.5),
        ("1s", 1.0),
        ("1.5 s", 1.5),
        ("500ms", 0.5),
        (" 250 ms ", 0.25),
        ("0", 0.0),
        (2, 2.0),
        (0.25, 0.25),
    ],
)
def test_a_time_may_have_its_unit(written: object, meant: float) -> None:
    assert seconds().read(written) == meant


@pytest.mark.parametrize(
    "written", ["", "s", "ms", "soon", "-1s", "-5ms", "1m", "1 s s", "inf", "nans", "none", True]
)
def test_what_is_no_time_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="is no number of seconds; write for example 30"):
        seconds().read(written)


def test_none_is_no_slow_log() -> None:
    assert SLOW_THRESHOLD.kind.read("none") == SLOW_THRESHOLD.default == 0.0


def wrong(**values: Any) -> list[str]:
    return contradictions(Settings(app="app:app", **values))


def test_a_threshold_is_below_the_liveness_timeout_if_there_is_one() -> None:
    (sentence,) = wrong(slow_threshold=5.0, timeout=5.0)
    assert sentence == "--slow-threshold 5 is not below --timeout 5; write less, or 0 for none."
    assert not wrong(slow_threshold=4.9, timeout=5.0)
    assert not wrong(slow_threshold=300.0, timeout=0.0)
    assert not wrong(slow_threshold=0.0, timeout=5.0)


def test_a_threshold_is_not_too_short() -> None:
    (sentence,) = wrong(slow_threshold=0.001)
    assert sentence.startswith("--slow-threshold is at least 50ms")
    assert not wrong(slow_threshold=0.05)

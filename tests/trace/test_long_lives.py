"""Long runs on the simulated kernel are recorded, and every file of them replays the same."""

from __future__ import annotations

import tempfile
from pathlib import Path
from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forkserve.supervisor import events as on
from forkserve.supervisor.state import Policy, Preload
from forkserve.trace.recorded import Recorded
from tests.brain.simkernel import SimKernel
from tests.brain.story import PREDECESSOR
from tests.brain.test_fuzz import SCRIPT, STOPS, befall
from tests.trace.tapes import BIG, Verdict, recorder_of


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    script=SCRIPT,
    stop=STOPS,
    workers=st.integers(1, 4),
    spares=st.integers(0, 2),
    preload=st.sampled_from(Preload),
    switchboard=st.booleans(),
    predecessor=st.sampled_from([None, None, PREDECESSOR]),
    limit=st.sampled_from([BIG, 1, 10_000, 50_000]),
    seed=st.integers(0, 2**32 - 1),
    random=st.randoms(use_true_random=False),
)
def test_whatever_happens_each_file_replays_the_same(
    script: list[tuple[float, str]],
    stop: str,
    workers: int,
    spares: int,
    preload: Preload,
    switchboard: bool,
    predecessor: int | None,
    limit: int,
    seed: int,
    random: Random,
) -> None:
    policy = Policy(
        workers,
        timeout=10,
        boot_timeout=12,
        graceful_timeout=8,
        preload=preload,
        spares=spares,
        switchboard=switchboard,
        most_workers=8,
        seed=seed,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace"
        recorder = recorder_of(path, limit)
        kernel = SimKernel(policy, random)
        kernel.brain = Recorded(policy, recorder)
        kernel.tell(on.Started(0.0, predecessor))
        for pause, wish in script:
            kernel.run(pause)
            befall(kernel, wish)
        befall(kernel, stop)
        kernel.run(60.0)
        recorder.close()
        files = [file for file in (path.with_name("trace.1"), path) if file.exists()]
        seen = [Verdict(file) for file in files]
    for verdict in seen:
        assert not verdict.differing
        assert not verdict.cut_off
    numbers = [number for verdict in seen for number in verdict.numbers]
    assert numbers == list(range(numbers[0], recorder.last + 1)) if numbers else True
    assert limit < BIG or numbers[0] == 1

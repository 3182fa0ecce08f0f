"""Long runs on a simulated kernel, found and shrunk by hypothesis."""

from __future__ import annotations

from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forkserve.supervisor import events as on
from forkserve.supervisor.state import Policy, Preload
from tests.brain.invariants import settled
from tests.brain.simkernel import SimKernel
from tests.brain.story import PREDECESSOR

WISHES = st.sampled_from(
    ["reload"] * 4
    + ["more", "fewer", "crash", "crash", "out of memory", "hang", "sent away", "spent"]
    + ["template dies", "template dies", "template hangs", "resumed", "wait"]
    + ["board dies", "board hangs", "board sent away", "slow", "fast"]
    + ["a number", "recycle all", "recycle"]
    + ["blocked"]
    + ["upgrade", "upgrade", "new master dies", "old master dies"]
)
STOPS = st.sampled_from(["none", "none", "term", "interrupt", "quit"])
SCRIPT = st.lists(st.tuples(st.floats(0, 40), WISHES), min_size=1, max_size=40)


def befall(kernel: SimKernel, wish: str) -> None:
    now = kernel.now
    alive = sorted(kernel.processes)
    match wish:
        case "reload":
            kernel.tell(on.ReloadRequested(now))
        case "more" | "fewer":
            kernel.tell(on.ScaleRequested(now, +1 if wish == "more" else -1))
        case "a number":
            kernel.tell(on.TargetRequested(now, kernel.random.randint(0, 5)))
        case "recycle all":
            kernel.tell(on.RecycleRequested(now))
        case "recycle" if alive:
            kernel.tell(on.RecycleRequested(now, kernel.random.choice(alive)))
        case "resumed":
            kernel.tell(on.Resumed(now))
        case "term":
            kernel.tell(on.TerminateRequested(now))
        case "interrupt":
            kernel.tell(on.InterruptRequested(now))
        case "quit":
            kernel.tell(on.QuitRequested(now))
        case "crash" if alive:
            kernel.end(kernel.random.choice(alive), -11)
        case "out of memory":
            kernel.lacks_memory()
        case "hang" if alive:
            kernel.hangs(kernel.random.choice(alive))
        case "blocked" if alive:
            kernel.is_blocked(kernel.random.choice(alive))
        case "spent" if alive:
            kernel.is_spent(kernel.random.choice(alive))
        case "template dies" if kernel.templates:
            kernel.end_template(kernel.random.choice(sorted(kernel.templates)), -9)
        case "template hangs" if kernel.templates:
            kernel.templates[kernel.random.choice(sorted(kernel.templates))].deaf = True
        case "board dies" if kernel.boards:
            kernel.end_board(kernel.random.choice(sorted(kernel.boards)), -9)
        case "board hangs" if kernel.boards:
            kernel.board_hangs(kernel.random.choice(sorted(kernel.boards)))
        case "board sent away" if kernel.boards:
            kernel.board_leaves(kernel.random.choice(sorted(kernel.boards)))
        case "slow" | "fast" if alive:
            kernel.is_slow(kernel.random.choice(alive), wish == "slow")
        case "upgrade":
            kernel.tell(on.UpgradeRequested(now))
        case "new master dies" if kernel.successor:
            kernel.end_master(kernel.successor[0], -9)
        case "old master dies":
            kernel.predecessor_goes()
        case "sent away" if alive:
            kernel.leaves(kernel.random.choice(alive))


@settings(
    max_examples=1000,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example],
)
@given(
    script=SCRIPT,
    stop=STOPS,
    workers=st.integers(1, 5),
    surge=st.integers(1, 3),
    spares=st.integers(0, 2),
    preload=st.sampled_from(Preload),
    switchboard=st.booleans(),
    graceful_timeout=st.sampled_from([8, 8, 0, 1]),
    slow_threshold=st.sampled_from([0, 0, 0, 4]),
    predecessor=st.sampled_from([None, None, PREDECESSOR]),
    random=st.randoms(use_true_random=False),
)
def test_a_long_life(
    script: list[tuple[float, str]],
    stop: str,
    workers: int,
    surge: int,
    spares: int,
    preload: Preload,
    switchboard: bool,
    graceful_timeout: int,
    slow_threshold: int,
    predecessor: int | None,
    random: Random,
) -> None:
    policy = Policy(
        workers,
        surge,
        timeout=10,
        boot_timeout=12,
        graceful_timeout=graceful_timeout,
        slow_threshold=slow_threshold,
        preload=preload,
        spares=spares,
        switchboard=switchboard,
        most_workers=8,
    )
    kernel = SimKernel(policy, random)
    kernel.tell(on.Started(0.0, predecessor))
    for pause, wish in script:
        kernel.run(pause)
        befall(kernel, wish)
    befall(kernel, stop)
    kernel.run(20.0)
    # Peace: what is broken stays broken, but nothing new befalls anyone.
    kernel.kind = True
    kernel.run(600.0)
    if not kernel.witness.stopping and not settled(kernel.brain, kernel.witness):
        # A generation may still have failed in the last minutes; one good one settles it.
        kernel.tell(on.ReloadRequested(kernel.now))
        kernel.run(600.0)
    assert settled(kernel.brain, kernel.witness), kernel.brain.state

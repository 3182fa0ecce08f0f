"""How long one worker less lasts: from SIGKILL of a worker until all are ready again.

    python -m tests.bench.respawn [--quick]

The servers take turns, so that what else goes on in the machine meets them all.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import statistics
from dataclasses import dataclass, field
from time import monotonic, sleep

from tests.bench.peers import Peer, Running, in_turns, installed_peers, machine, running

SETTLED = 6.0
"""Seconds a worker has been ready before it is killed. Servers treat those that die
young in their own ways: forkserve delays the fourth in a row, granian shuts down."""

REFERENCE = "forkserve"


@dataclass(slots=True)
class Result:
    """What was seen of one server, in seconds."""

    ready: list[float] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)


def main() -> None:
    options = _parse()
    peers = installed_peers()
    results = {peer: Result() for peer in peers}
    for _, peer in in_turns(peers, options.rounds):
        with running(peer, options.workers) as server:
            measure(server, options.workers, options.kills, results[peer])
    kills = f"{options.rounds} rounds of {options.kills} kills each"
    print(f"{machine()}; {options.workers} workers; {kills}.\n")
    print(table(results))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kills", type=int, default=5, help="kills in each round")
    parser.add_argument("--quick", action="store_true", help="2 rounds of 2 kills")
    options = parser.parse_args()
    if options.quick:
        options.rounds = options.kills = 2
    return options


def measure(server: Running, workers: int, kills: int, result: Result) -> None:
    """Kill the worker that has lived longest, ``kills`` times."""
    born = server.wait_for_workers(workers)
    for _ in range(kills):
        victim = min(born, key=lambda pid: born[pid])
        # A random moment: some masters look after their workers at fixed intervals.
        sleep(max(0.0, born.pop(victim) + SETTLED - monotonic()) + random.random())
        killed = monotonic()
        os.kill(victim, signal.SIGKILL)
        pid, born[pid] = server.next_ready()
        result.ready.append(born[pid] - killed)
        server.answering({pid})
        result.answered.append(monotonic() - killed)


def table(results: dict[Peer, Result]) -> str:
    """The results in Markdown, in milliseconds."""
    by_name = {peer.name: result for peer, result in results.items()}
    reference = statistics.median(by_name[REFERENCE].ready) if REFERENCE in by_name else None
    lines = [
        "| server | versions | ready again, median | fastest to slowest | new worker answers "
        "| × forkserve |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for peer, result in results.items():
        median = statistics.median(result.ready)
        ratio = f"{median / reference:.1f}" if reference else ""
        spread = f"{_ms(min(result.ready))} to {_ms(max(result.ready))}"
        answered = _ms(statistics.median(result.answered))
        lines.append(
            f"| `{peer.name}` | {peer.versions()} | {_ms(median)} ms | {spread} | {answered} ms "
            f"| {ratio} |"
        )
    return "\n".join(lines)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f}"


if __name__ == "__main__":
    main()

"""What the switchboard costs where it is of no use: handlers that block for a millisecond.

    python -m tests.bench.fast_handlers [--quick]

Left to itself it is not used there, and must not cost anything; always on, each request
passes two more queues. Kept busy by wrk over kept connections: with 16 clients all
workers are at work all the time, with 2 most of them wait.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import shutil
import sys
from collections import defaultdict
from dataclasses import replace

from tests.bench import burst
from tests.bench.cost import in_ratio, measure, shown
from tests.bench.peers import POOLED_PEERS, installed_peers, machine, running

PATH = "/?0.001"
CLIENTS = (2, 16)

AUTO, OFF, *_ = POOLED_PEERS
ON = replace(
    OFF,
    name="forkserve --switchboard on",
    arguments=OFF.arguments.replace("--switchboard off", "--switchboard on"),
)
PEERS = (OFF, AUTO, ON)


def main() -> None:
    options = _parse()
    if not shutil.which("wrk"):
        sys.exit("wrk is not installed")
    found = installed_peers(PEERS)
    ratios: dict[tuple[str, int], list[tuple[float, float]]] = defaultdict(list)
    for _ in range(options.rounds):
        with contextlib.ExitStack() as stack:
            servers = {
                peer: stack.enter_context(running(peer, options.workers, burst.APP))
                for peer in found
            }
            for server in servers.values():
                server.wait_for_workers(options.workers)
            for clients in CLIENTS:
                one = functools.partial(
                    measure, path=PATH, mode="kept", seconds=options.seconds, clients=clients
                )
                for name, ratio in in_ratio(servers, options.turns, OFF.name, one):
                    ratios[name, clients].append(ratio)
    print(
        f"{machine()}; {options.workers} workers, {options.rounds} rounds of {options.turns} turns;"
    )
    print(f"requests a second, and CPU time a request, over those of `{OFF.name}`")
    print("in the same turn.\n")
    print("| server | versions | 2 clients | 16 clients |\n| --- | --- | ---: | ---: |")
    for peer in found:
        cells = [shown(ratios[peer.name, clients]) for clients in CLIENTS]
        print(f"| `{peer.name}` | {peer.versions()} | {' | '.join(cells)} |")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="1 round")
    options = parser.parse_args()
    if options.quick:
        options.rounds = 1
    return options


if __name__ == "__main__":
    main()

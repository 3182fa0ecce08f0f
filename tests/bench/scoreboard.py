"""What it costs that each request is seen on the scoreboard, and counted.

    python -m tests.bench.scoreboard [--workers N] [--quick]

Kept busy by wrk with 16 clients that keep their connections, which leaves a request little
else to cost. The same workers note their requests in one turn and do not in the next
(``tests.bench.switchable``), a third of a second each: two processes may differ by a tenth for all
their lives, and the machine drifts.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from tests.bench.cost import APPS, FORKSERVE, PATHS
from tests.bench.peers import Running, machine, running
from tests.bench.switchable import SEEN, UNSEEN

PEER = replace(
    FORKSERVE,
    module="tests.bench.switchable",
    arguments=f"--log-level warning {FORKSERVE.arguments}",
)

CLIENTS = 16
SECONDS = 0.3

Turn = tuple[float, float]
"""Requests a second, and seconds of CPU time a request."""


def main() -> None:
    options = _parse()
    if not shutil.which("wrk"):
        sys.exit("wrk is not installed")
    print(f"{machine()}; {options.workers} workers, {CLIENTS} clients, {options.rounds} rounds of")
    print(f"{options.turns} turns of {SECONDS} s; as it is over not noting any request:\n")
    print("| app | requests a second | CPU time a request |\n| --- | ---: | ---: |")
    for app, source in APPS.items():
        rates: list[float] = []
        costs: list[float] = []
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}: {app}", file=sys.stderr)
            with running(PEER, options.workers, source) as server:
                workers = list(server.wait_for_workers(options.workers))
                for _ in range(options.turns):
                    seen, unseen = _both(server, workers, PATHS[app])
                    rates.append(seen[0] / unseen[0])
                    costs.append(seen[1] / unseen[1])
        print(f"| {app} | {_shown(rates)} | {_shown(costs)} |", flush=True)


def _both(server: Running, workers: list[int], path: str) -> tuple[Turn, Turn]:
    """Measured one after the other: noted and not."""
    found = {}
    for number in random.sample((SEEN, UNSEEN), 2):
        for pid in workers:
            os.kill(pid, number)
        _wrk(server, path, SECONDS / 3)  # by then each of them has switched
        before = sum(map(_cpu_time, workers))
        requests, seconds = _wrk(server, path, SECONDS)
        spent = sum(map(_cpu_time, workers)) - before
        found[number] = requests / seconds, spent / requests
    return found[SEEN], found[UNSEEN]


def _wrk(server: Running, path: str, seconds: float) -> tuple[int, float]:
    """How many requests were answered, and in which time."""
    # It takes whole seconds only, and is ended by an interrupt as if its time were over.
    command = ["timeout", "--signal=INT", str(seconds), "wrk", "-t1", f"-c{CLIENTS}", "-d60s"]
    url = f"http://127.0.0.1:{server.port}{path}"
    out = ""
    while not out.strip():  # on a busy machine it may be interrupted before it listens to that
        out = subprocess.run([*command, url], capture_output=True, text=True).stdout
    found = re.search(r"(\d+) requests in ([\d.]+)(ms|s)", out)
    if found is None or "Non-2xx" in out or "Socket errors" in out:
        raise RuntimeError(out)
    return int(found[1]), float(found[2]) / (1000 if found[3] == "ms" else 1)


def _cpu_time(pid: int) -> float:
    """Seconds, to the nanosecond (kernel documentation, "Scheduler Statistics")."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) * 1e-9


def _shown(ratios: list[float]) -> str:
    """The median, and what half of them lie between."""
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="1 round of 5 turns")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.turns = 1, 5
    return options


if __name__ == "__main__":
    main()

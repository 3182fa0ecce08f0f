"""What the gate and the watch over each request cost, beside plain uvicorn.

    python -m tests.bench.cost [--workers N] [--quick]

Kept busy by wrk (https://github.com/wg/wrk) with 16 clients, which keep their
connections or make a new one for each request. Access logs are off. With one worker it
is the bare cost that shows; with more, how evenly they are used counts too.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import os
import re
import shutil
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from tests.bench import burst, peers
from tests.bench.peers import (
    ACCEPTING_PEERS,
    Peer,
    Running,
    descendants,
    in_turns,
    installed_peers,
    machine,
    running,
)

APPS = {"raw ASGI": burst.APP, "FastAPI": peers.APP}
PATHS = {"raw ASGI": "/", "FastAPI": "/items/7"}
MODES = {"kept": [], "new": ["-H", "Connection: close"]}

FORKSERVE, GUNICORN, REFERENCE, *_ = ACCEPTING_PEERS
PEERS = (
    REFERENCE,
    replace(FORKSERVE, arguments=f"--log-level warning {FORKSERVE.arguments}"),
    GUNICORN,
)


Cell = tuple[str, str, str]
"""The name of a server, the app, and how it was asked."""


def main() -> None:
    options = _parse()
    if not shutil.which("wrk"):
        sys.exit("wrk is not installed")
    found = installed_peers(PEERS)
    ratios: dict[Cell, list[tuple[float, float]]] = defaultdict(list)
    # Started anew for each round: one and the same process may be faster or slower than its
    # like by a tenth for all its life, by the luck of its addresses and hashes.
    for app in [*APPS] * options.rounds:
        with contextlib.ExitStack() as stack:
            servers = {
                peer: stack.enter_context(running(peer, options.workers, APPS[app]))
                for peer in found
            }
            for server in servers.values():
                server.wait_for_workers(options.workers)
            for mode in MODES:
                one = functools.partial(
                    measure, path=PATHS[app], mode=mode, seconds=options.seconds
                )
                for name, ratio in in_ratio(servers, options.turns, REFERENCE.name, one):
                    ratios[name, app, mode].append(ratio)
    print(f"{machine()}; {options.workers} workers, 16 clients,")
    print(f"{options.rounds} rounds of {options.turns} turns;")
    print("requests a second, and CPU time a request, over uvicorn's of the same turn.\n")
    heads = [f"{app}, {mode}" for app in APPS for mode in MODES]
    print(f"| server | versions | {' | '.join(heads)} |\n| --- | --- |{' ---: |' * len(heads)}")
    for peer in found:
        cells = [shown(ratios[peer.name, app, mode]) for app in APPS for mode in MODES]
        print(f"| `{peer.name}` | {peer.versions()} | {' | '.join(cells)} |")


def in_ratio(
    servers: dict[Peer, Running],
    turns: int,
    reference: str,
    measure: Callable[[Running], tuple[float, float]],
) -> Iterator[tuple[str, tuple[float, float]]]:
    """Both figures of each server over those of ``reference``, by name, turn by turn.

    All of them are up, and each is busy only in its turn: what is compared was measured
    within the same few seconds, however the speed of the machine drifts.
    """
    in_turn = in_turns(list(servers), turns)
    for _ in range(turns):
        seen = {}
        for _, peer in itertools.islice(in_turn, len(servers)):
            seen[peer.name] = measure(servers[peer])
        rate, cost = seen[reference]
        for name, (its_rate, its_cost) in seen.items():
            yield name, (its_rate / rate, its_cost / cost)


def shown(ratios: list[tuple[float, float]]) -> str:
    """The medians, as they stand in a table."""
    rates, costs = zip(*ratios, strict=True)
    return f"{statistics.median(rates):.2f}, {statistics.median(costs):.2f}"


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="1 round")
    options = parser.parse_args()
    if options.quick:
        options.rounds = options.turns = 1
    return options


def measure(
    server: Running, path: str, mode: str, seconds: int, clients: int = 16
) -> tuple[float, float]:
    """Requests a second, and seconds of CPU time a request."""
    pids = {server.pid} | descendants(server.pid)
    _wrk(server, path, mode, 1, clients)
    before = sum(map(_cpu_time, pids))
    requests = _wrk(server, path, mode, seconds, clients)
    return requests / seconds, (sum(map(_cpu_time, pids)) - before) / requests


def _wrk(server: Running, path: str, mode: str, seconds: int, clients: int) -> int:
    """How many requests were answered."""
    command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", *MODES[mode]]
    url = f"http://127.0.0.1:{server.port}{path}"
    out = subprocess.run([*command, url], capture_output=True, text=True, check=True).stdout
    requests = re.search(r"(\d+) requests in", out)
    if requests is None or "Non-2xx" in out or "Socket errors" in out:
        raise RuntimeError(out)
    return int(requests[1])


def _cpu_time(pid: int) -> float:
    """Seconds (proc_pid_stat(5): utime and stime)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()

"""The pool of a real proxy: nginx and HAProxy in front of workers that block.

    python -m tests.bench.proxies [--quick] [--only NAME]

Both keep connections to the server and send the next request down whichever is free. They
are told to try nothing twice, so that what the server loses is seen. Clients ask the proxy
over 64 kept connections of their own, at random times (Poisson), for 60 % of what the
workers can do; what :mod:`tests.bench.pool` says of latencies, failures and theory holds
here too.

First without a disturbance. Then under the same load the workers are replaced again and
again, each time by SIGHUP to the parent; a reload is over when as many new workers as there
are have said that they are ready, and the next one begins PERIOD seconds after the one
before, or when that is over. Granian waits a second for each worker that it replaces (by
default 3.5). A server that ends in a reload, or has no new workers after a minute, "died".
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from tests.bench.burst import APP
from tests.bench.peers import (
    POOLED_PEERS,
    Peer,
    Running,
    ServerEnded,
    in_turns,
    installed_peers,
    machine,
    running,
)
from tests.bench.pool import (
    SERVICE,
    STARTING,
    Cell,
    Outcome,
    Pool,
    announce,
    arrivals_at,
    lasts,
    medians,
    offer,
    print_head,
    settled_pool,
)
from tests.proxies import CONFIGS, proxy

CLIENTS = Cell("as needed", 64, 0.60)

PERIOD = 2.5
"""Seconds from one reload to the next, if it does not take longer."""


@dataclass(frozen=True, slots=True)
class Reloads:
    """What came of replacing all workers again and again."""

    outcome: Outcome
    took: list[float]
    """Seconds, for each that was done."""
    died: bool


def main() -> None:
    options = _parse()
    peers = [peer for peer in installed_peers(POOLED_PEERS) if options.only in peer.name]
    proxies = [name for name in CONFIGS if _is_installed(name)]
    calm = lasts(CLIENTS, options.requests, options.workers)
    each = STARTING + calm + options.reloads * PERIOD
    announce(options.rounds * len(peers) * len(proxies) * each)
    outcomes: dict[tuple[str, str], list[tuple[Outcome, Reloads]]] = defaultdict(list)
    for number, peer in in_turns(peers, options.rounds):
        for name in proxies:
            with running(peer, options.workers, APP) as server:
                server.wait_for_workers(options.workers)
                with (
                    tempfile.TemporaryDirectory(prefix="bench-") as folder,
                    proxy(name, Path(folder), server.port) as port,
                ):
                    outcome = asyncio.run(measure(server, port, options, number))
            outcomes[peer.name, name].append(outcome)
    print(f"{machine()}; {options.workers} workers, the handler blocks {SERVICE * 1000:.0f} ms,")
    print(
        f"{CLIENTS.rate(options.workers):.0f} requests a second arrive, {CLIENTS.load:.0%} of what"
    )
    print(f"they can do; {options.requests} requests, then {options.reloads} reloads;")
    print(f"rounds: {options.rounds}. Latencies over what one queue gives for the same arrivals.")
    for name in proxies:
        print(f"\n{_version(name)}\n")
        print_table(peers, {peer.name: outcomes[peer.name, name] for peer in peers})


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--requests", type=int, default=600)
    parser.add_argument("--reloads", type=int, default=20)
    parser.add_argument("--only", default="", help="only servers whose name has this in it")
    parser.add_argument("--quick", action="store_true", help="100 requests, 3 reloads")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.requests, options.reloads = 1, 100, 3
    return options


def _is_installed(name: str) -> bool:
    if not shutil.which(name):
        print(f"{name} is left out: not installed", file=sys.stderr)
        return False
    return True


def _version(name: str) -> str:
    """As it says itself, in one line."""
    done = subprocess.run([name, "-v"], capture_output=True, text=True, check=True)
    return (done.stdout or done.stderr).splitlines()[0]


async def measure(
    server: Running, port: int, options: argparse.Namespace, number: int
) -> tuple[Outcome, Reloads]:
    # The same arrivals for every server; how many there are while it reloads is up to it.
    draw = random.Random(f"proxies {number}")
    rate = CLIENTS.rate(options.workers)
    arrivals = itertools.islice(arrivals_at(rate, draw), options.requests)
    async with settled_pool(port, CLIENTS, options.workers) as pool:
        calm = await offer(pool, arrivals, options.workers)
        return calm, await reload_under_load(server, pool, arrivals_at(rate, draw), options)


async def reload_under_load(
    server: Running, pool: Pool, arrivals: Iterator[float], options: argparse.Namespace
) -> Reloads:
    took: list[float] = []

    async def reload() -> bool:
        """Whether it died."""
        for _ in range(options.reloads):
            began = monotonic()
            try:
                await asyncio.to_thread(server.reload, options.workers)
            except (ServerEnded, TimeoutError) as error:
                print(error, file=sys.stderr)
                return True
            took.append(monotonic() - began)
            await asyncio.sleep(PERIOD - took[-1])
        return False

    reloading = asyncio.create_task(reload())
    until_done = itertools.takewhile(lambda _: not reloading.done(), arrivals)
    outcome = await offer(pool, until_done, options.workers)
    return Reloads(outcome, took, await reloading)


def print_table(peers: Sequence[Peer], outcomes: dict[str, list[tuple[Outcome, Reloads]]]) -> None:
    calm = ["requests/s", "p50", "p99", "failed"]
    meanwhile = ["failed", "p50", "p99"]
    heads = [*calm, "reloads", *(f"{name} meanwhile" for name in meanwhile), "one takes, s"]
    print_head(["server", "versions"], heads)
    for peer in peers:
        rounds, reloads = zip(*outcomes[peer.name], strict=True)
        rates = [len(outcome.seen) / outcome.lasted for outcome in rounds]
        shown = [f"{statistics.median(rates):.1f}", *_latencies(rounds), str(_failed(rounds))]
        shown += _reloads(reloads)
        print(f"| `{peer.name}` | {peer.versions()} | {' | '.join(shown)} |")


def _latencies(outcomes: Sequence[Outcome]) -> list[str]:
    ratios = medians([outcome.over_theory() for outcome in outcomes])
    return [f"{ratios['p50']:.2f}", f"{ratios['p99']:.2f}"]


def _failed(outcomes: Sequence[Outcome]) -> int:
    return sum(outcome.failed for outcome in outcomes)


def _reloads(rounds: Sequence[Reloads]) -> list[str]:
    """How many there were, what failed of how many requests, their latencies and times."""
    outcomes = [reloads.outcome for reloads in rounds]
    took = [seconds for reloads in rounds for seconds in reloads.took]
    asked = sum(len(outcome.best) for outcome in outcomes)
    died = ", died" if any(reloads.died for reloads in rounds) else ""
    each = f"{statistics.median(took):.1f}" if took else ""
    return [f"{len(took)}{died}", f"{_failed(outcomes)} of {asked}", *_latencies(outcomes), each]


if __name__ == "__main__":
    main()

"""Waiting times against theory: random arrivals, one connection a request.

    python -m tests.bench.queueing [--quick] [--svg FILE]

The handler blocks its worker, for a fixed or an exponentially distributed time, and
requests arrive at random (Poisson). The best that N workers can do is one queue in
front of all of them: M/D/N and M/M/N in Kendall's words. What that queue would have
made of the very same arrivals is computed beside each run, so that luck of the draw is
no difference; the curve of the plot is Erlang's formula.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import math
import random
import statistics
from collections import defaultdict
from dataclasses import dataclass

from tests.bench.burst import APP
from tests.bench.peers import ACCEPTING_PEERS, Running, in_turns, installed_peers, machine, running

SERVICE = 0.05
"""Seconds that a request takes, on average."""

LOADS = (0.50, 0.70, 0.85)
KINDS = ("fixed", "exponential")


@dataclass(frozen=True, slots=True)
class Outcome:
    """Latencies as shares of what one queue would have given; and the mean waiting
    time in service times."""

    mean: float
    p99: float
    waited: float


def main() -> None:
    options = _parse()
    peers = installed_peers(ACCEPTING_PEERS)
    outcomes: dict[tuple[str, str, float], list[Outcome]] = defaultdict(list)
    for number, peer in in_turns(peers, options.rounds):
        with running(peer, options.workers, APP) as server:
            server.wait_for_workers(options.workers)
            for kind in KINDS:
                for load in LOADS:
                    seed = f"{number} {kind} {load}"
                    outcome = measure(server, options, kind, load, seed)
                    outcomes[peer.name, kind, load].append(outcome)
    print(f"{machine()}; {options.workers} workers, service {SERVICE * 1000:.0f} ms,")
    print(f"{options.requests} requests a cell, {options.rounds} rounds; mean / p99 latency")
    print("over what one queue gives for the same arrivals.\n")
    heads = [f"{kind}, {load:.0%}" for kind in KINDS for load in LOADS]
    print(f"| server | versions | {' | '.join(heads)} |\n| --- | --- |{' ---: |' * len(heads)}")
    for peer in peers:
        cells = [outcomes[peer.name, kind, load] for kind in KINDS for load in LOADS]
        shown = [f"{_median(c, 'mean'):.2f} / {_median(c, 'p99'):.2f}" for c in cells]
        print(f"| `{peer.name}` | {peer.versions()} | {' | '.join(shown)} |")
    if options.svg:
        waits = {
            peer.name: [
                _median(outcomes[peer.name, "exponential", load], "waited") for load in LOADS
            ]
            for peer in peers
        }
        plot(waits, options.workers, options.svg)


def _median(outcomes: list[Outcome], field: str) -> float:
    return statistics.median(getattr(outcome, field) for outcome in outcomes)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=800)
    parser.add_argument("--svg", help="draw the waiting times over the load into this file")
    parser.add_argument("--quick", action="store_true", help="1 round of 200 requests")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.requests = 1, 200
    return options


def measure(
    server: Running, options: argparse.Namespace, kind: str, load: float, seed: str
) -> Outcome:
    draw = random.Random(seed)
    rate = load * options.workers / SERVICE
    arrivals, now = [], 0.0
    for _ in range(options.requests):
        now += draw.expovariate(rate)
        service = SERVICE if kind == "fixed" else draw.expovariate(1 / SERVICE)
        arrivals.append((now, service))
    seen = asyncio.run(_ask_all(server.port, arrivals))
    best = one_queue(arrivals, options.workers)
    waited = statistics.mean(seen) - statistics.mean(service for _, service in arrivals)
    return Outcome(
        statistics.mean(seen) / statistics.mean(best),
        _p99(seen) / _p99(best),
        waited / SERVICE,
    )


async def _ask_all(port: int, arrivals: list[tuple[float, float]]) -> list[float]:
    """The latency of each request, in seconds."""
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def ask(arrival: float, service: float) -> float:
        await asyncio.sleep(began + arrival - loop.time())
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = "GET /?%f HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        writer.write((head % service).encode())
        await reader.read()
        writer.close()
        return loop.time() - began - arrival

    return list(await asyncio.gather(*(ask(*arrival) for arrival in arrivals)))


def one_queue(arrivals: list[tuple[float, float]], workers: int) -> list[float]:
    """The latencies that first come, first served by whoever is free would give."""
    free = [0.0] * workers
    latencies = []
    for arrival, service in arrivals:
        end = max(arrival, heapq.heappop(free)) + service
        heapq.heappush(free, end)
        latencies.append(end - arrival)
    return latencies


def erlang_wait(load: float, workers: int) -> float:
    """The mean wait in M/M/N, in service times (Erlang C; A. K. Erlang, 1917)."""
    offered = load * workers
    waiting = offered**workers / math.factorial(workers) / (1 - load)
    others = sum(offered**k / math.factorial(k) for k in range(workers))
    return waiting / (others + waiting) / (workers * (1 - load))


def _p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[98]


def plot(waits: dict[str, list[float]], workers: int, file: str) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "forkserve"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    loads = [number / 100 for number in range(30, 91)]
    curve = [erlang_wait(load, workers) for load in loads]
    axes.plot(loads, curve, color="#888", label="one queue (Erlang C)")
    for (name, values), marker in zip(waits.items(), "osD^v", strict=False):
        axes.plot(LOADS, values, marker=marker, linestyle=":", label=name)
    axes.set_xlabel("share of the workers' time that is asked for")
    axes.set_ylabel("mean wait, in service times")
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})


if __name__ == "__main__":
    main()

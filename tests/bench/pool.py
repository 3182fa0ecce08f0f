"""What the clients of a pool wait: kept connections in front of workers that block.

    python -m tests.bench.pool [--quick] [--svg FILE] [--only NAME]

A pool, such as a load balancer has, sends a request down a random connection that is free,
also down one whose worker is blocked while others are idle; if none is free the request
waits in the client, first come, first served. The handler blocks its worker for a fixed
time, and requests arrive at random (Poisson). The best that N workers can do is one queue in
front of all of them (M/D/N); what it would have made of the very same arrivals is computed
beside each run, and latencies, from the arrival to the last byte of the answer, are shown as
multiples of that. (A multiple of ten or more says that some worker was asked for more than
it can do: such a queue grows as long as the load lasts.)

How a server shares out connections depends on how they come. So each cell is measured with
pools that were opened in two ways: all at once, with a quick request on each, as when a
balancer starts or connects again; and as needed, one for each of the first requests of the
load. Then the same load is offered for some seconds before anything counts.

A reconnect is a connection that the server closed and that had to be opened again. A request
has failed if its connection ended, or a minute passed, without a whole answer with status
200. It is not tried again, and has no latency.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import math
import random
import re
import statistics
import sys
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tests.bench.burst import APP
from tests.bench.peers import (
    PATIENCE,
    POOLED_PEERS,
    Peer,
    Running,
    in_turns,
    installed_peers,
    machine,
    running,
)
from tests.bench.queueing import one_queue

SERVICE = 0.1
"""Seconds that a request blocks its worker."""

REQUEST = b"GET /?%f HTTP/1.1\r\nHost: x\r\n\r\n" % SERVICE
QUICK_REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"

SETTLING = 3.0
"""Seconds of load, beside a request for each connection, before anything counts."""

STARTING = 3.0
"""Seconds that a server takes to start and to end, roughly."""

SIZES = (16, 64)
LOADS = (0.50, 0.80)
OPENINGS = ("at once", "as needed")


@dataclass(frozen=True, slots=True)
class Cell:
    """What is measured in one go."""

    opened: str
    """One of OPENINGS."""
    size: int
    """Connections in the pool."""
    load: float
    """The share of the workers' time that is asked for."""

    def rate(self, workers: int) -> float:
        """Requests a second."""
        return self.load * workers / SERVICE

    def head(self) -> str:
        return f"{self.size} connections, {self.load:.0%}"


CELLS = [Cell(*cell) for cell in itertools.product(OPENINGS, SIZES, LOADS)]
DRAWN = {opened: Cell(opened, 16, 0.80) for opened in OPENINGS}

FIGURES = ("p50", "p90", "p99", "mean")

STRONG: dict[str, dict[str, Any]] = {
    "forkserve": {"color": "#c8102e", "linewidth": 2.2, "zorder": 3},
    "forkserve --switchboard off": {"color": "#e08a00", "linewidth": 2.2, "zorder": 3},
}
TICKS = (100, 200, 500, 1000, 2000, 5000, 10000)


class Connection:
    """One of a pool: opened when it is needed, and opened again if the server closed it."""

    def __init__(self, port: int) -> None:
        self.opened = 0
        """How many times."""
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes) -> int:
        """The status of the answer, once all of it is here.

        Raises OSError or EOFError if there is none.
        """
        reader, writer = await self._open()
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if length := re.search(rb"\r\ncontent-length: *(\d+)", head):
            await reader.readexactly(int(length[1]))
        else:
            await reader.read()
        if b"\r\nconnection: close" in head:
            self.close()
        return int(head.split(maxsplit=2)[1])

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams and (self._streams[0].at_eof() or self._streams[1].is_closing()):
            self.close()
        if not self._streams:
            self.opened += 1
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        return self._streams

    def close(self) -> None:
        if self._streams:
            self._streams[1].close()
            self._streams = None


class Pool:
    """Up to ``size`` connections, of which each carries one request at a time."""

    def __init__(self, port: int, size: int, draw: random.Random) -> None:
        self._port = port
        self._size = size
        self._draw = draw
        self._all: list[Connection] = []
        self._free: list[Connection] = []
        self._waiting: deque[asyncio.Future[Connection]] = deque()

    async def open(self) -> None:
        """Open all of it, at once."""
        await asyncio.gather(*(self.ask(QUICK_REQUEST) for _ in range(self._size)))

    def reconnects(self) -> int:
        return sum(max(0, connection.opened - 1) for connection in self._all)

    async def ask(self, request: bytes) -> bool:
        """Whether it was answered."""
        connection = await self._take()
        try:
            async with asyncio.timeout(PATIENCE):
                return await connection.ask(request) == 200
        except (OSError, EOFError):
            connection.close()
            return False
        finally:
            self._give(connection)

    async def _take(self) -> Connection:
        if len(self._all) < self._size:
            self._all.append(Connection(self._port))
            return self._all[-1]
        if self._free:
            return self._free.pop(self._draw.randrange(len(self._free)))
        self._waiting.append(asyncio.get_running_loop().create_future())
        return await self._waiting[-1]

    def _give(self, connection: Connection) -> None:
        if self._waiting:
            self._waiting.popleft().set_result(connection)
        else:
            self._free.append(connection)

    def close(self) -> None:
        for connection in self._all:
            connection.close()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the requests of one load met; times in seconds."""

    seen: list[float]
    """The latency of each that was answered."""
    best: list[float]
    """What one queue would have given to all of them."""
    lasted: float
    """From the first arrival to the last answer."""
    failed: int
    reconnects: int

    def over_theory(self) -> dict[str, float]:
        """For each of FIGURES, how many times what one queue would have given."""
        best = figures(self.best)
        return {name: value / best[name] for name, value in figures(self.seen).items()}


def figures(latencies: Sequence[float]) -> dict[str, float]:
    """Their FIGURES."""
    if len(latencies) < 2:
        return dict.fromkeys(FIGURES, math.nan)
    hundredths = statistics.quantiles(latencies, n=100)
    values = (hundredths[49], hundredths[89], hundredths[98], statistics.mean(latencies))
    return dict(zip(FIGURES, values, strict=True))


def medians(rounds: Sequence[dict[str, float]]) -> dict[str, float]:
    """The median over the rounds, for each of FIGURES."""
    return {name: statistics.median(values[name] for values in rounds) for name in FIGURES}


def arrivals_at(rate: float, draw: random.Random) -> Iterator[float]:
    """Seconds from the beginning, of requests that come at random, without end."""
    return itertools.accumulate(draw.expovariate(rate) for _ in itertools.count())


async def offer(pool: Pool, arrivals: Iterable[float], workers: int) -> Outcome:
    """Send a request at each of these times, and wait until all are answered."""
    loop = asyncio.get_running_loop()
    began, reconnects = loop.time(), pool.reconnects()

    async def ask(arrival: float) -> float | None:
        answered = await pool.ask(REQUEST)
        return loop.time() - began - arrival if answered else None

    asked: dict[float, asyncio.Task[float | None]] = {}
    for arrival in arrivals:
        await asyncio.sleep(began + arrival - loop.time())
        asked[arrival] = asyncio.create_task(ask(arrival))
    latencies = await asyncio.gather(*asked.values())
    seen = [latency for latency in latencies if latency is not None]
    return Outcome(
        seen,
        one_queue([(arrival, SERVICE) for arrival in asked], workers),
        loop.time() - began - next(iter(asked)),
        len(latencies) - len(seen),
        pool.reconnects() - reconnects,
    )


@contextlib.asynccontextmanager
async def settled_pool(port: int, cell: Cell, workers: int) -> AsyncIterator[Pool]:
    """A full pool, in front of a server that has got used to the load."""
    draw = random.Random()
    pool = Pool(port, cell.size, draw)
    try:
        if cell.opened == "at once":
            await pool.open()
        rate = cell.rate(workers)
        first = itertools.islice(arrivals_at(rate, draw), _settling(cell, workers))
        await offer(pool, first, workers)
        yield pool
    finally:
        pool.close()


def _settling(cell: Cell, workers: int) -> int:
    """How many requests come before those that count."""
    return cell.size + round(SETTLING * cell.rate(workers))


def lasts(cell: Cell, requests: int, workers: int) -> float:
    """Seconds, roughly."""
    return (_settling(cell, workers) + requests) / cell.rate(workers)


def main() -> None:
    options = _parse()
    peers = [peer for peer in installed_peers(POOLED_PEERS) if options.only in peer.name]
    each = sum(lasts(cell, options.requests, options.workers) for cell in options.cells)
    announce(options.rounds * len(peers) * (STARTING + each))
    outcomes: dict[tuple[str, Cell], list[Outcome]] = defaultdict(list)
    for number, peer in in_turns(peers, options.rounds):
        with running(peer, options.workers, APP) as server:
            server.wait_for_workers(options.workers)
            for cell in options.cells:
                outcome = asyncio.run(measure(server, options, cell, number))
                outcomes[peer.name, cell].append(outcome)
    print(f"{machine()}; {options.workers} workers, the handler blocks {SERVICE * 1000:.0f} ms,")
    print(f"{options.requests} requests a cell, {options.rounds} rounds; medians of the rounds.")
    for opened, cells in itertools.groupby(options.cells, lambda cell: cell.opened):
        print(f"\nConnections opened {opened}.")
        print_tables(peers, outcomes, list(cells))
    if options.svg:
        plot(peers, outcomes, options.svg)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--only", default="", help="only servers whose name has this in it")
    parser.add_argument("--opened", choices=OPENINGS, help="only pools opened in this way")
    parser.add_argument("--svg", help="draw how long requests took into this file")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="1 round of 150 requests: 16 connections opened at once, 80%%",
    )
    options = parser.parse_args()
    options.cells = [cell for cell in CELLS if options.opened in (None, cell.opened)]
    if options.quick:
        options.rounds, options.requests = 1, 150
        options.cells = [DRAWN[options.opened or "at once"]]
    return options


def announce(seconds: float) -> None:
    """Say how long all of it takes, roughly."""
    print(f"this takes about {max(1, round(seconds / 60))} min", file=sys.stderr)


async def measure(server: Running, options: argparse.Namespace, cell: Cell, number: int) -> Outcome:
    # The same arrivals for every server.
    draw = random.Random(f"{number} {cell.size} {cell.load}")
    arrivals = itertools.islice(arrivals_at(cell.rate(options.workers), draw), options.requests)
    async with settled_pool(server.port, cell, options.workers) as pool:
        return await offer(pool, arrivals, options.workers)


def print_tables(
    peers: Sequence[Peer], outcomes: dict[tuple[str, Cell], list[Outcome]], cells: Sequence[Cell]
) -> None:
    print("\nLatencies over what one queue gives for the same arrivals: p50 / p90 / p99.\n")
    print_head(["server", "versions"], [cell.head() for cell in cells])
    # The arrivals were the same for all.
    best = [medians([figures(o.best) for o in outcomes[peers[0].name, cell]]) for cell in cells]
    shown = [" / ".join(f"{b[name] * 1000:.0f}" for name in FIGURES[:3]) + " ms" for b in best]
    print(f"| one queue | | {' | '.join(shown)} |")
    for peer in peers:
        rounds = [outcomes[peer.name, cell] for cell in cells]
        print(f"| `{peer.name}` | {peer.versions()} | {' | '.join(map(_latencies, rounds))} |")
    print("\nThe mean over what one queue gives; reconnects; failed (in all rounds).\n")
    print_head(["server"], [cell.head() for cell in cells])
    for peer in peers:
        rounds = [outcomes[peer.name, cell] for cell in cells]
        print(f"| `{peer.name}` | {' | '.join(map(_losses, rounds))} |")


def _latencies(rounds: Sequence[Outcome]) -> str:
    ratios = medians([outcome.over_theory() for outcome in rounds])
    return " / ".join(f"{ratios[name]:.2f}" for name in FIGURES[:3])


def _losses(rounds: Sequence[Outcome]) -> str:
    mean = medians([outcome.over_theory() for outcome in rounds])["mean"]
    reconnects = sum(outcome.reconnects for outcome in rounds)
    failed = sum(outcome.failed for outcome in rounds)
    return f"{mean:.2f}; {reconnects}; {failed}"


def print_head(words: Sequence[str], numbers: Sequence[str]) -> None:
    print(f"| {' | '.join([*words, *numbers])} |")
    print(f"|{' --- |' * len(words)}{' ---: |' * len(numbers)}")


def plot(peers: Sequence[Peer], outcomes: dict[tuple[str, Cell], list[Outcome]], file: str) -> None:
    """The share of the requests that were answered within a time; all rounds together."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "forkserve"
    from matplotlib import pyplot

    drawn = [cell for cell in DRAWN.values() if outcomes[peers[0].name, cell]]
    figure, panels = pyplot.subplots(
        1, len(drawn), figsize=(4 + 4 * len(drawn), 4.5), sharey=True, squeeze=False
    )
    for axes, cell in zip(panels[0], drawn, strict=True):
        best = [seconds for o in outcomes[peers[0].name, cell] for seconds in o.best]
        axes.plot(*_shares(best, 0), color="#bbb", linewidth=7, label="one queue (theory)")
        colours = itertools.cycle(("#5b7fa6", "#7d9a5b", "#9a6f9e"))
        for peer in peers:
            rounds = outcomes[peer.name, cell]
            seen = [seconds for outcome in rounds for seconds in outcome.seen]
            failed = sum(outcome.failed for outcome in rounds)
            style = STRONG.get(peer.name) or {"color": next(colours), "linestyle": "--"}
            axes.plot(*_shares(seen, failed), label=peer.name, **style)
        axes.set_title(f"{cell.size} connections, opened {cell.opened}; {cell.load:.0%} load")
        axes.set_xlabel("answered within (ms)")
        axes.set_xscale("log")
        axes.set_xticks(TICKS, [f"{tick:,}" for tick in TICKS])
        axes.minorticks_off()
        axes.set_ylim(0, 1.02)
        axes.grid(alpha=0.3)
    panels[0][0].set_ylabel("share of the requests")
    panels[0][0].yaxis.set_major_formatter("{x:.0%}")
    panels[0][-1].legend(loc="lower right")
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})


def _shares(latencies: Sequence[float], failed: int) -> tuple[list[float], list[float]]:
    """Each latency in milliseconds, and the share of all requests answered by then."""
    total = len(latencies) + failed
    shares = [number / total for number in range(1, len(latencies) + 1)]
    return [latency * 1000 for latency in sorted(latencies)], shares


if __name__ == "__main__":
    main()

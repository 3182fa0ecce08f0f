"""What four workers with one model take: the sum of their proportional set sizes.

    python -m tests.bench.shared_memory [--quick]

The model is 200 MiB of buffers and 1.5 million small objects, loaded at import. It is
weighed when all workers are ready, after 2,000 requests that read it, and after a
garbage collection in each worker. All processes of a server count, master and template
too; a page that n of them share counts for an n-th in each (proc_pid_smaps(5), Pss).
"""

from __future__ import annotations

import argparse
import http.client
import random
import re
import statistics
import sys
from contextlib import closing
from pathlib import Path

from forkserve.template.sharing import immortal_is_possible
from tests.bench.peers import PEERS, Peer, Running, descendants, in_turns, machine, running

PARTS = 100
MOMENTS = ("at the start", "after use", "after a collection")
UNIT = 1 << 20

APP = """
import gc, os, socket, time

BUFFERS = [bytes([i % 251]) * (1 << 20) for i in range({buffers})]
RECORDS = [(str(i), i * 1.5, {{"id": i}}) for i in range({records})]


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as beacon:
            said = f"{{os.getpid()}} {{time.monotonic()}}"
            beacon.sendto(said.encode(), os.environ["BENCH_BEACON"])
        await send({{"type": "lifespan.startup.complete"}})
        await receive()
        await send({{"type": "lifespan.shutdown.complete"}})
        return
    if scope["path"] == "/gc":
        gc.collect()
    elif scope["path"].startswith("/touch/"):
        part = int(scope["path"].rpartition("/")[2])
        total = sum(len(a) + b + c["id"] for a, b, c in RECORDS[part :: {parts}])
        total += sum(buffer[part] for buffer in BUFFERS)
    time.sleep(0.0005)  # a moment, in which other connections go to other workers
    body = str(os.getpid()).encode()
    start = {{"type": "http.response.start", "status": 200}}
    await send({{**start, "headers": [(b"content-length", str(len(body)).encode())]}})
    await send({{"type": "http.response.body", "body": body}})
"""

_BY_NAME = {peer.name: peer for peer in PEERS}
_FORKSERVE = _BY_NAME["forkserve"]
MEASURED = (
    _FORKSERVE,
    Peer(
        "forkserve --share immortal",
        "forkserve",
        f"--share immortal {_FORKSERVE.arguments}",
        _FORKSERVE.needs,
    ),
    _BY_NAME["forkserve --no-preload"],
    _BY_NAME["gunicorn --preload"],
    _BY_NAME["gunicorn"],
)


def main() -> None:
    options = _parse()
    source = APP.format(buffers=options.buffers, records=options.records, parts=PARTS)
    peers = [peer for peer in MEASURED if _can_be_measured(peer)]
    seen: dict[str, list[list[float]]] = {peer.name: [] for peer in peers}
    for _, peer in in_turns(peers, options.rounds):
        with running(peer, options.workers, source) as server:
            seen[peer.name].append(weigh(server, options.workers, options.requests))
    print(f"{machine()}; {options.workers} workers; median of {options.rounds} runs, MiB.\n")
    print(table(peers, seen))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--buffers", type=int, default=200, help="MiB")
    parser.add_argument("--records", type=int, default=300_000, help="five objects each")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--quick", action="store_true", help="one round with a tenth of it all")
    options = parser.parse_args()
    if options.quick:
        options.rounds = 1
        options.buffers //= 10
        options.records //= 10
    return options


def _can_be_measured(peer: Peer) -> bool:
    why_not = ", ".join(peer.missing())
    if "immortal" in peer.name:
        why_not = why_not or immortal_is_possible()
    if why_not:
        print(f"{peer.name} is left out: {why_not}", file=sys.stderr)
    return not why_not


def weigh(server: Running, workers: int, requests: int) -> list[float]:
    """MiB at each of the three moments."""
    pids = set(server.wait_for_workers(workers))
    weights = [_weight(server.pid)]
    for _ in range(requests):
        _get(server, f"/touch/{random.randrange(PARTS)}")
    weights.append(_weight(server.pid))
    while pids:
        pids.discard(int(_get(server, "/gc")))
    return [*weights, _weight(server.pid)]


def _get(server: Running, path: str) -> str:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)) as connection:
        connection.request("GET", path, headers={"Connection": "close"})
        return connection.getresponse().read().decode()


def _weight(root: int) -> float:
    return sum(_pss(pid) for pid in {root} | descendants(root)) / UNIT


def _pss(pid: int) -> int:
    try:
        found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)
    except OSError:  # it has ended meanwhile
        return 0
    return int(found[1]) * 1024 if found else 0


def table(peers: list[Peer], seen: dict[str, list[list[float]]]) -> str:
    """In Markdown; the ratio compares the last weight with forkserve's."""
    medians = {
        name: [statistics.median(run[i] for run in runs) for i in range(len(MOMENTS))]
        for name, runs in seen.items()
    }
    reference = medians["forkserve"][-1]
    lines = [
        f"| server | versions | {' | '.join(MOMENTS)} | × forkserve |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for peer in peers:
        weights = " | ".join(f"{weight:.0f}" for weight in medians[peer.name])
        ratio = medians[peer.name][-1] / reference
        lines.append(f"| `{peer.name}` | {peer.versions()} | {weights} | {ratio:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

"""Who gets a connection: bursts on a handler that blocks, and long-lived connections.

    python -m tests.bench.burst [--quick]

A burst of n requests at once, whose handler blocks its worker, takes at best
``n / workers`` times as long as one. Of 64 connections that stay, a worker's fair
share is one in ``workers``.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import statistics
from collections import Counter, defaultdict
from time import monotonic

from tests.bench.peers import ACCEPTING_PEERS, Running, in_turns, installed_peers, machine, running

BLOCK = 0.2
"""Seconds that a handler blocks."""

BURSTS = (4, 8, 16)
KEPT = 64

APP = """
import os, socket, time


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as beacon:
            beacon.sendto(f"{os.getpid()} {time.monotonic()}".encode(), os.environ["BENCH_BEACON"])
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    if query := scope["query_string"]:
        time.sleep(float(query))
    elif scope["path"] == "/pid":
        time.sleep(0.002)
    body = str(os.getpid()).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
"""


def main() -> None:
    options = _parse()
    peers = installed_peers(ACCEPTING_PEERS)
    bursts: dict[tuple[str, int], list[float]] = defaultdict(list)
    shares: dict[tuple[str, bool], list[float]] = defaultdict(list)
    for _, peer in in_turns(peers, options.rounds):
        with running(peer, options.workers, APP) as server:
            server.wait_for_workers(options.workers)
            for size in BURSTS:
                ideal = BLOCK * -(-size // options.workers)
                bursts[peer.name, size].append(burst(server, size) / ideal)
            for at_once in (True, False):
                shares[peer.name, at_once].append(busiest_share(server, at_once))
    print(f"{machine()}; {options.workers} workers, {options.rounds} rounds: median (worst).\n")
    heads = [*(f"{size} at once" for size in BURSTS), "64 kept, at once", "one by one"]
    print(f"| server | versions | {' | '.join(heads)} |\n| --- | --- |{' ---: |' * len(heads)}")
    for peer in peers:
        values = [bursts[peer.name, size] for size in BURSTS]
        values += [shares[peer.name, at_once] for at_once in (True, False)]
        cells = [f"{statistics.median(v):.2f} ({max(v):.2f})" for v in values]
        print(f"| `{peer.name}` | {peer.versions()} | {' | '.join(cells)} |")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="2 rounds")
    options = parser.parse_args()
    if options.quick:
        options.rounds = 2
    return options


def _connect(server: Running) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=60)


def burst(server: Running, size: int) -> float:
    """Seconds until ``size`` blocking requests, sent at once, are all answered."""
    began = monotonic()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(_connect(server)) for _ in range(size)]
        for client in clients:
            client.sendall(b"GET /?%f HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % BLOCK)
        for client in clients:
            while client.recv(4096):
                pass
    return monotonic() - began


def busiest_share(server: Running, at_once: bool) -> float:
    """The share of 64 keep-alive connections that the worker with the most has."""
    owners: Counter[bytes] = Counter()
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(KEPT):
            clients.append(stack.enter_context(_connect(server)))
            clients[-1].sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            if not at_once:
                owners[_body(clients[-1])] += 1
        if at_once:
            owners.update(map(_body, clients))
    return max(owners.values()) / KEPT


def _body(client: socket.socket) -> bytes:
    """The pid in an answer, which may come in two pieces."""
    read = b""
    while not read.partition(b"\r\n\r\n")[2]:
        read += client.recv(4096)
    return read.partition(b"\r\n\r\n")[2]


if __name__ == "__main__":
    main()

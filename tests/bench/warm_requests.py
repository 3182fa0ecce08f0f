"""Do a few requests before the fork make the first requests after it faster?

    python -m tests.bench.warm_requests [--forks 20]

CPython specialises its bytecode as it runs (PEP 659), and much else is made on first
use. A process that imports a FastAPI app is forked after 0, 5 and 50 in-process requests
to each route; each child says how long its first request takes, and how much memory of
its own it has after 100 requests. Only os.fork is used, and no server.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import re
import statistics
import sys
import traceback
from collections.abc import Callable
from time import perf_counter
from typing import Any

from fastapi import FastAPI, Query
from pydantic import BaseModel

from tests.bench.peers import machine

COUNTS = (0, 5, 50)


class Item(BaseModel):
    name: str
    price: float
    tags: list[str] = []


def make_app() -> Any:
    app = FastAPI()

    @app.get("/items/{number}")
    async def item(number: int, short: bool = False) -> Item:
        return Item(name=f"item {number}", price=number)

    @app.get("/items")
    async def items(limit: int = Query(10, le=100)) -> list[Item]:
        return [Item(name=str(n), price=n) for n in range(limit)]

    @app.post("/items")
    async def create(item: Item) -> Item:
        return item

    return app


REQUESTS = (
    ("GET", "/items/3", b"short=true", b""),
    ("GET", "/items", b"limit=20", b""),
    ("POST", "/items", b"", json.dumps({"name": "n", "price": 2, "tags": ["a"]}).encode()),
)


async def request(app: Any, method: str, path: str, query: bytes, body: bytes) -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        assert message.get("status", 200) == 200, message

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "root_path": "",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "state": {},
    }
    await app(scope, receive, send)


async def times(app: Any, count: int) -> float:
    """The seconds that each round of all routes takes, on average."""
    began = perf_counter()
    for _ in range(count):
        for one in REQUESTS:
            await request(app, *one)
    return (perf_counter() - began) / max(1, count)


def private() -> float:
    """MiB that only this process has (proc_pid_smaps(5))."""
    with open("/proc/self/smaps_rollup") as rollup:
        found = re.search(r"^Private_Dirty:\s+(\d+)", rollup.read(), re.M)
    return int(found[1]) / 1024 if found else 0.0


def live(app: Any) -> list[float]:
    """In a child: the first round in ms, and MiB of its own after 100 rounds."""
    with asyncio.Runner() as runner:
        first = runner.run(times(app, 1)) * 1000
        runner.run(times(app, 100))
    return [first, private()]


def in_a_fork(life: Callable[[], Any]) -> Any:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writer, json.dumps(life()).encode())
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader) as pipe:
        said = pipe.read()
    os.waitpid(pid, 0)
    return json.loads(said)


def warmed(count: int, forks: int) -> list[list[float]]:
    """What the children say of a parent that has answered ``count`` rounds."""
    app = make_app()
    if count:
        asyncio.run(times(app, count))
    gc.collect()
    gc.freeze()
    return [in_a_fork(lambda: live(app)) for _ in range(forks)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--forks", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    seen: dict[int, list[list[float]]] = {count: [] for count in COUNTS}
    for _ in range(options.rounds):
        for count in COUNTS:
            seen[count] += in_a_fork(lambda count=count: warmed(count, options.forks))
    print(f"{machine()}; median of {options.rounds * options.forks} forks.\n")
    print("| requests before the fork | first round, ms | own memory after 100 rounds, MiB |")
    print("| ---: | ---: | ---: |")
    for count, results in seen.items():
        first, own = (statistics.median(column) for column in zip(*results, strict=True))
        print(f"| {count} × {len(REQUESTS)} | {first:.2f} | {own:.1f} |")
    sys.stdout.flush()


if __name__ == "__main__":
    main()

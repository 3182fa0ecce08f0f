"""How many instructions it takes to note a request on the scoreboard, of how many in all.

    python -m tests.bench.instructions

valgrind counts those of a request's way through uvicorn and the app, without the kernel's.
No noise of the machine can change that: what is to become cheaper can be seen to, line by line.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from typing import Any

import uvicorn
import uvloop
from uvicorn.server import ServerState

from forkserve.scoreboard import Scoreboard
from forkserve.worker.tracking import tracked
from tests.bench.peers import machine

FEW, MANY = 200, 2200
REQUEST = b"GET /items/7 HTTP/1.1\r\nHost: localhost\r\n\r\n"


def main() -> None:
    if len(sys.argv) > 1:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(sys.argv[1] == "noted", int(sys.argv[2])))
        return
    if not shutil.which("valgrind"):
        sys.exit("valgrind is not installed")
    noted, not_noted = _counted("noted"), _counted("not")
    print(f"{machine()}; instructions a request, raw ASGI:")
    print(f"{not_noted:,} in all, and {noted - not_noted:,} to note it.")


def _counted(how: str) -> int:
    """Instructions a request."""
    few, many = (_run(how, requests) for requests in (FEW, MANY))
    return (many - few) // (MANY - FEW)


def _run(how: str, requests: int) -> int:
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    command += [sys.executable, "-m", "tests.bench.instructions", how, str(requests)]
    environment = os.environ | {"PYTHONHASHSEED": "0"}
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    found = re.search(r"Collected : (\d+)", run.stderr)
    assert found, run.stderr
    return int(found[1])


async def _app(scope: Any, receive: Any, send: Any) -> None:
    headers = [(b"content-length", b"4")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"1234"})


async def _serve(noted: bool, requests: int) -> None:
    """So many, one after the other, on a connection that leads nowhere."""
    config = uvicorn.Config(_app, log_level="warning", access_log=False)
    config.load()
    row = Scoreboard(4).row(0)
    config.loaded_app = tracked(_app, row, None, lambda now: None) if noted else _app
    kind: Any = config.http_protocol_class
    protocol = kind(config=config, server_state=ServerState(), app_state={})
    protocol.connection_made(_Nowhere())
    for _ in range(requests):
        protocol.data_received(REQUEST)
        while not protocol.cycle.response_complete:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert not noted or row.begun() == requests


class _Nowhere(asyncio.Transport):
    def write(self, data: Any) -> None:
        pass

    def is_closing(self) -> bool:
        return False


if __name__ == "__main__":
    main()

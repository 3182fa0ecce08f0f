"""Serving HTTP in the monitor, until the master has gone or says that it is time."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator

import uvicorn

from forkserve.channel import BootExtended, LastCall, Ready
from forkserve.config.bind import Bind
from forkserve.config.monitor import is_private
from forkserve.monitor import Errand
from forkserve.monitor.doors import Doors, Token
from forkserve.monitor.feed import Feed
from forkserve.monitor.web import make_app

SIGN_OF_LIFE = 2.0
"""Seconds between two signs of life that the master gets."""

PATIENCE = 10.0
"""Seconds after such a sign for which the master has patience. Less than those take who would
end the whole service because /livez does not answer (Kubernetes: three probes, 30 s)."""

MOST_CONNECTIONS = 256
"""More are answered 503: nobody shall have the monitor use up the machine's memory."""


class _Server(uvicorn.Server):
    """uvicorn's, which leaves signals alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def serve(errand: Errand) -> int:
    """Until the end. Returns the exit code, should it ever come to that."""
    asyncio.run(_serve(errand))
    return 1


async def _serve(errand: Errand) -> None:
    feed = await Feed.over(errand.control)
    where = errand.settings.monitor
    assert where is not None
    token = Token(bytes(errand.token)) if errand.token else None
    # No browser can be led to a Unix socket.
    on_loopback = isinstance(where, Bind) and is_private(where)
    app = make_app(feed, errand.settings.ready_min)
    config = uvicorn.Config(
        Doors(app, token, only_local_names=on_loopback and token is None),
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        proxy_headers=False,
        server_header=False,
        limit_concurrency=MOST_CONNECTIONS,
    )
    loop = asyncio.get_running_loop()
    loop.add_reader(errand.channel.fileno(), _hear_the_master, errand)
    errand.channel.offer(Ready())
    await asyncio.gather(
        _show_life(errand), feed.follow(), _Server(config).serve(sockets=[errand.listener])
    )


def _hear_the_master(errand: Errand) -> None:
    messages = errand.channel.receive()
    if errand.channel.closed or LastCall() in messages:
        os._exit(0)  # whoever is connected learns from that all there is to say


async def _show_life(errand: Errand) -> None:
    while True:
        errand.channel.offer(BootExtended(PATIENCE))
        await asyncio.sleep(SIGN_OF_LIFE)

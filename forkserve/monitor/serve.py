"""Serving HTTP in the monitor, until the master has gone or says that it is time."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from typing import NoReturn

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

FAREWELL = 0.25
"""Seconds in which who has come before the end still gets an answer. Whoever is connected then
learns from its end all that there is to say."""

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
    last_call = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(errand.channel.fileno(), _hear_the_master, errand, last_call)
    errand.channel.offer(Ready())
    await asyncio.gather(
        _show_life(errand),
        feed.follow(),
        _Server(config).serve(sockets=[errand.listener]),
        _leave(errand, last_call),
    )


def _hear_the_master(errand: Errand, last_call: asyncio.Event) -> None:
    messages = errand.channel.receive()
    if errand.channel.closed:
        os._exit(0)
    if LastCall() in messages:
        last_call.set()


async def _leave(errand: Errand, last_call: asyncio.Event) -> NoReturn:
    await last_call.wait()
    # Who comes now is for the monitor of the next master, if there is one. To close the server
    # instead would turn away who has been accepted a moment ago (asyncio).
    asyncio.get_running_loop().remove_reader(errand.listener)
    # In steps, of which a machine that stalls does not take more than one.
    for _ in range(10):
        await asyncio.sleep(FAREWELL / 10)
    os._exit(0)


async def _show_life(errand: Errand) -> None:
    while True:
        errand.channel.offer(BootExtended(PATIENCE))
        await asyncio.sleep(SIGN_OF_LIFE)

"""What the master hears of a monitor that is well."""

from __future__ import annotations

import asyncio
import socket
from contextlib import closing

import pytest

from forkserve.channel import BootExtended, Channel
from forkserve.config.settings import Settings
from forkserve.monitor import Errand, serve


def test_it_gives_signs_of_life_before_the_masters_patience_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert serve.SIGN_OF_LIFE < serve.PATIENCE / 2
    monkeypatch.setattr(serve, "SIGN_OF_LIFE", 0.01)
    ours, theirs = Channel.pair()
    with closing(ours), closing(theirs), socket.socket() as unused:
        errand = Errand(Settings(), unused, unused, theirs, -1, -1)

        async def story() -> None:
            showing = asyncio.ensure_future(serve._show_life(errand))
            heard: list[object] = []
            async with asyncio.timeout(20):
                while len(heard) < 3:
                    await asyncio.sleep(0.01)
                    heard += ours.receive()
            showing.cancel()
            assert set(heard) == {BootExtended(serve.PATIENCE)}

        asyncio.run(story())

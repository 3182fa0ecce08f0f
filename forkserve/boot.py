"""For the app: saying that it needs longer to start.

A worker, or a template, that is not ready within ``--boot-timeout`` is killed. An app
that knows of a long step ahead, such as loading a model, asks for more time::

    import forkserve
    forkserve.extend_boot(90)
    model = load_model()
"""

from __future__ import annotations

import math

from forkserve.channel import BootExtended, Channel

_channel: Channel | None = None


def tell_through(channel: Channel) -> None:
    """From now on this process's requests go through ``channel``."""
    global _channel
    _channel = channel


def extend_boot(seconds: float) -> None:
    """Ask for up to ``seconds`` more, from now, until this process must be ready.

    It never shortens what is left, and does nothing in a process that is ready or that
    forkserve has not made. It may be called from any thread, and again and again by an
    app that makes progress. Raises ValueError if ``seconds`` is not a number above zero.
    """
    if not (seconds > 0 and math.isfinite(seconds)):
        raise ValueError(f"extend_boot() takes a number of seconds above zero, not {seconds!r}")
    if _channel is not None:
        _channel.send(BootExtended(float(seconds)))

"""Where the monitor listens: opened by the master, with its rights, and kept over monitors.

In an upgrade it is lent to the new master with the other listeners, among which what it is
called by tells it.
"""

from __future__ import annotations

from collections.abc import Sequence

from forkserve.config.bind import BindError
from forkserve.config.monitor import is_private, read_token, wipe
from forkserve.config.settings import Settings
from forkserve.master.estate import Estate, Left
from forkserve.master.listeners import Listener, Terms, open_listeners

_CALLED = "monitor "
"""Begins what its socket is called by: no address has a blank in it."""

TERMS = Terms(backlog=128, unix_mode=0o600)
"""A Unix socket is for the user alone who starts forkserve."""


def listen_for_the_monitor(settings: Settings, inherited: Sequence[Left] = ()) -> Listener | None:
    """Listen where the monitor is to be seen, if it is. ``inherited``: what a master before
    this one has listened on. Raises BindError, and TokenError if its token cannot be read."""
    estate = Estate(
        [
            left._replace(called=left.called.removeprefix(_CALLED))
            for left in inherited
            if left.called.startswith(_CALLED)
        ]
    )
    if settings.monitor is None:
        estate.close()
        return None
    if settings.monitor_token is not None:
        wipe(read_token(settings.monitor_token))
    try:
        (listener,) = open_listeners([settings.monitor], TERMS, estate=estate)
    except BindError as exc:
        raise BindError(str(exc).replace("--bind", "--monitor")) from exc
    listener.bind = _CALLED + listener.bind
    return listener


def what_is_the_services(inherited: Sequence[Left]) -> list[Left]:
    """All but the monitor's."""
    return [left for left in inherited if not left.called.startswith(_CALLED)]


def is_open_to_all(settings: Settings) -> str:
    """A warning, if whoever can connect is shown everything; else empty."""
    where = settings.monitor
    if where is None or is_private(where) or settings.monitor_token is not None:
        return ""
    return (
        f"the monitor at {where} asks nobody for a token: whoever can connect sees the paths of "
        "requests and what is logged; give it a --monitor-token, or an address of this machine "
        "alone"
    )

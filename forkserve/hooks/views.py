"""What a hook is given: the server, its settings, and a worker, as far as they can be seen.

The names are gunicorn's where they mean the same.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, fields
from typing import Any

from forkserve.config.settings import Settings

log = logging.getLogger("forkserve.hooks")
"""For the hooks; what they say goes where the master's own log goes."""

_GUNICORN = {
    "keepalive": "keep_alive",
    "loglevel": "log_level",
    "wsgi_app": "app",
}


class Cfg:
    """The settings, to be read under forkserve's names, and under gunicorn's common ones."""

    def __init__(self, settings: Settings) -> None:
        object.__setattr__(self, "_values", _values(settings))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)  # copy and pickle ask for what there may not be
        try:
            return self._values[name if name in self._values else _GUNICORN[name]]
        except KeyError:
            raise AttributeError(f'forkserve has no setting "{name}"') from None

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"cfg.{name} cannot be set: a hook may read the settings, only")

    def __dir__(self) -> list[str]:
        return sorted([*self._values, *_GUNICORN])


def _values(settings: Settings) -> dict[str, Any]:
    values = {f.name: getattr(settings, f.name) for f in fields(settings)}
    return values | {
        "bind": [str(bind) for bind in settings.bind],
        "preload_app": settings.preload is not False,
    }


class Server:
    """The service. A hook may put attributes of its own on it, which live as long as its
    process does."""

    def __init__(self, settings: Settings, master_pid: int) -> None:
        self.pid = master_pid
        """The master's."""
        self.cfg = Cfg(settings)
        self.address: list[str] = self.cfg.bind
        """What is listened on, as in the settings."""
        self.log = log

    def __getattr__(self, name: str) -> Any:
        has = "pid, address, cfg and log"
        raise AttributeError(f'server has no "{name}" in a hook of forkserve; it has {has}')


@dataclass
class Worker:
    """A worker. Like the server, it takes attributes of a hook's own."""

    age: int
    """Its worker id: the first is 1, and none is used again."""

    generation: int
    slot: int
    ppid: int
    """The master's pid."""

    pid: int | None = None
    """None before the fork."""

    exit_code: int | None = None
    """For child_exit: negative, if a signal has ended it."""

    cfg: Cfg | None = field(default=None, repr=False)
    log: logging.Logger = field(default=log, repr=False)

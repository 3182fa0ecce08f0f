"""Names of uvicorn's which are forkserve's business: what each comes to.

All others are passed on to uvicorn as they are, see :mod:`forkserve.config.uvicorn_options`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from forkserve.config.flags import Flag, one, several, spelled_out, switch
from forkserve.config.outcome import NOTHING, Note, Outcome, Refuse, Use

ADDRESS = ("host", "port", "uds", "fd")
"""Those that say together where to listen; see :func:`bind`."""


@dataclass(frozen=True, slots=True)
class Renamed:
    """Means the same under forkserve's name."""

    to: str


@dataclass(frozen=True, slots=True)
class NotNeeded:
    """Has no effect here."""

    why: str


NAMES: Mapping[str, Renamed | NotNeeded] = {
    "workers": Renamed("workers"),
    "backlog": Renamed("backlog"),
    "log_level": Renamed("log_level"),
    "log_config": Renamed("log_config"),
    "timeout_keep_alive": Renamed("keep_alive"),
    "timeout_graceful_shutdown": Renamed("graceful_timeout"),
    "limit_max_requests": Renamed("max_requests"),
    "limit_max_requests_jitter": Renamed("max_requests_jitter"),
    "h11_max_incomplete_event_size": Renamed("max_header_size"),
    "reload": Renamed("reload"),
    "reload_dirs": Renamed("reload_dirs"),
    "reload_includes": Renamed("reload_includes"),
    "reload_excludes": Renamed("reload_excludes"),
    "reload_delay": NotNeeded("files are watched, and changes are told at once"),
    "timeout_worker_healthcheck": NotNeeded(
        "a worker says by itself that its event loop turns; --timeout says how long it may not"
    ),
    "callback_notify": NotNeeded("a worker says by itself that its event loop turns"),
    "timeout_notify": NotNeeded("a worker says by itself that its event loop turns"),
}
"""Which of them there are besides ADDRESS."""

FLAGS: Mapping[str, Flag] = spelled_out(
    {
        "--host": one("host"),
        "--port": one("port"),
        "--uds": one("uds"),
        "--fd": one("fd"),
        "--workers": one("workers"),
        "--backlog": one("backlog"),
        "--log-level": one("log_level"),
        "--log-config": one("log_config"),
        "--timeout-keep-alive": one("timeout_keep_alive"),
        "--timeout-graceful-shutdown": one("timeout_graceful_shutdown"),
        "--limit-max-requests": one("limit_max_requests"),
        "--limit-max-requests-jitter": one("limit_max_requests_jitter"),
        "--h11-max-incomplete-event-size": one("h11_max_incomplete_event_size"),
        "--reload": switch("reload"),
        "--reload-dir": several("reload_dirs"),
        "--reload-include": several("reload_includes"),
        "--reload-exclude": several("reload_excludes"),
        "--reload-delay": one("reload_delay"),
        "--timeout-worker-healthcheck": one("timeout_worker_healthcheck"),
    }
)


def translate(name: str, value: object) -> Outcome:
    """What one of uvicorn's names comes to. None, as in uvicorn, says nothing."""
    if name in ADDRESS:
        return bind({name: value})
    if value is None:
        return NOTHING
    match NAMES.get(name):
        case Renamed(to):
            return Use({to: value})
        case NotNeeded(why):
            return Note(f"{name} has no effect: {why}.")
    return Use({name: value})


def bind(given: Mapping[str, object]) -> Outcome:
    """The address that ``host``, ``port``, ``uds`` and ``fd`` of one place say together.

    A path or a descriptor stands alone: uvicorn would silently leave out the rest.
    """
    given = {name: value for name, value in given.items() if name in ADDRESS and value is not None}
    if not given:
        return NOTHING
    alone = [name for name in given if name in ("uds", "fd")]
    if alone and len(given) > 1:
        names = " and ".join(given)
        return Refuse(f"{names} are two addresses: give --bind for each, or leave one out.")
    if "uds" in given:
        return Use({"bind": [f"unix:{given['uds']}"]})
    if "fd" in given:
        return Use({"bind": [f"fd://{given['fd']}"]})
    host = str(given.get("host", "127.0.0.1"))
    host = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return Use({"bind": [f"{host}:{given.get('port', 8000)}"]})

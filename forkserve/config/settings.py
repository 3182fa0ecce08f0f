"""Every setting, declared once.

A setting is a field of :class:`Settings`; its metadata holds what the command line
needs. Adding one is adding a field.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import Field, dataclass, field, fields
from typing import Any, TypeVar

import click

from forkserve.config.bind import AnyBind, parse_bind
from forkserve.config.owner import Owner, parse_owner
from forkserve.config.values import (
    Mode,
    parse_function,
    parse_mode,
    parse_path,
    parse_size,
    parse_worker_env,
)

T = TypeVar("T")


def _checked(
    parse: Callable[[str], T], value: Any, ctx: click.Context, param: click.Parameter
) -> T:
    """``parse(value)``; what it complains about is told as click tells it."""
    try:
        return parse(str(value))
    except ValueError as exc:
        raise click.BadParameter(str(exc), ctx, param) from exc


def _one(parse: Callable[[str], T]) -> Callable[..., T | None]:
    """Reads an option that is given once or not at all."""
    return lambda ctx, param, value: None if value is None else _checked(parse, value, ctx, param)


def _several(parse: Callable[[str], T]) -> Callable[..., tuple[T, ...]]:
    """Reads an option that may be given several times."""
    return lambda ctx, param, values: tuple(_checked(parse, v, ctx, param) for v in values)


def setting(default: Any, *flags: str, help: str, **option: Any) -> Any:
    """A field of :class:`Settings` with its command line option."""
    return field(default=default, metadata={"flags": flags, "help": help, "option": option})


_SECONDS = {"type": click.FloatRange(min=0), "metavar": "SECONDS"}


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user wants. Times in seconds."""

    app: str
    """``module:attribute``."""

    workers: int = setting(
        1,
        "-w",
        "--workers",
        type=click.IntRange(1, 512),
        help="How many workers to keep ready.",
    )
    bind: tuple[AnyBind, ...] = setting(
        (),
        "-b",
        "--bind",
        type=str,
        callback=_several(parse_bind),
        metavar="ADDRESS",
        multiple=True,
        help="Where to listen: HOST:PORT, :PORT (every IPv4 interface), [IPV6]:PORT; port 0 takes "
        "a free one; unix:PATH; fd://NUMBER or fd://NAME, a socket that was passed in. May be "
        "given several times. [default: the sockets that systemd has passed, or 127.0.0.1:8000]",
    )
    timeout: float = setting(
        30.0,
        "--timeout",
        help="Kill and replace a worker whose event loop has not turned for so long, with its "
        "stacks in the log; 0: never.",
        **_SECONDS,
    )
    boot_timeout: float = setting(
        120.0,
        "--boot-timeout",
        help="Kill a worker, or a template, that is not ready after so long; 0: never.",
        **_SECONDS,
    )
    graceful_timeout: float = setting(
        30.0,
        "--graceful-timeout",
        help="How long a leaving worker may take to finish its requests.",
        **_SECONDS,
    )
    keep_alive: float = setting(
        5.0,
        "--keep-alive",
        help="Close a connection that has been idle for so long, and up to two seconds more; "
        "below 2 to the point; at the switchboard a second more.",
        **_SECONDS,
    )
    header_timeout: float = setting(
        10.0,
        "--header-timeout",
        help="Close a connection on which the head of a request is not complete after so long; "
        "0: never.",
        **_SECONDS,
    )
    max_header_size: int = setting(
        64 * 1024,
        "--max-header-size",
        type=str,
        callback=_one(parse_size),
        metavar="SIZE",
        help="Refuse a request whose head is longer (16K, 1M); 0: no limit.",
    )
    worker_concurrency: int = setting(
        0,
        "--worker-concurrency",
        type=click.IntRange(min=0),
        help="How many requests a worker may have in flight; while it has so many, new connections "
        "wait for whichever worker is free first; 0: any number.",
    )
    switchboard: str = setting(
        "auto",
        "--switchboard",
        type=click.Choice(["auto", "on", "off"]),
        help="Whether idle keep-alive connections wait at a switchboard, from which any free "
        "worker takes the next request: while handlers are slow (auto), always, or never.",
    )
    surge: int | None = setting(
        None,
        "--surge",
        type=click.IntRange(1, 512),
        help="How many workers above --workers may live while they are replaced. "
        "[default: a quarter of the workers, at least 1]",
    )
    preload: bool | None = setting(
        None,
        "--preload/--no-preload",
        help="Import the app once, in a template that forks the workers, whatever is found in it "
        "(--preload), or in each worker (--no-preload). [default: in a template, if nothing is "
        "found in it that cannot be shared]",
    )
    share: str = setting(
        "frozen",
        "--share",
        type=click.Choice(["frozen", "immortal"]),
        help="How the template's memory stays shared: kept from the garbage collector, or from "
        "reference counting too (Python 3.12 or newer).",
    )
    warmup: str | None = setting(
        None,
        "--warmup",
        callback=_one(parse_function),
        metavar="MODULE:FUNCTION",
        help="Call this after the import, in the template if there is one: to load models, say.",
    )
    warm_path: tuple[str, ...] = setting(
        (),
        "--warm-path",
        type=str,
        callback=_several(parse_path),
        metavar="PATH",
        multiple=True,
        help="Have the app answer GET PATH a few times after the import, before its lifespan "
        "and without a socket: first requests are faster then, and workers smaller. May be "
        "given several times.",
    )
    ready_path: str | None = setting(
        None,
        "--ready-path",
        callback=_one(parse_path),
        metavar="PATH",
        help="A worker is ready only once its own app has answered GET PATH with 2xx or 3xx.",
    )
    worker_env: tuple[tuple[str, str], ...] = setting(
        (),
        "--worker-env",
        type=str,
        callback=_several(parse_worker_env),
        metavar="NAME=VALUE",
        multiple=True,
        help="Set in each worker's environment, with {slot}, {worker_id} and {generation} filled "
        "in; may be given several times.",
    )
    spares: int = setting(
        0,
        "--spares",
        type=click.IntRange(0, 512),
        help="How many more workers to keep ready that accept nothing until one dies.",
    )
    max_requests: int = setting(
        0,
        "--max-requests",
        type=click.IntRange(min=0),
        help="Recycle a worker after so many requests, its replacement first; 0: never.",
    )
    max_requests_jitter: int = setting(
        0,
        "--max-requests-jitter",
        type=click.IntRange(min=0),
        help="Add up to so many at random to --max-requests, for each worker anew.",
    )
    max_rss: int = setting(
        0,
        "--max-rss",
        type=str,
        callback=_one(parse_size),
        metavar="SIZE",
        help="Recycle a worker that uses more memory (512M, 2G), its replacement first; what it "
        "shares counts by its share; 0: never.",
    )
    max_lifetime: float = setting(
        0.0,
        "--max-lifetime",
        help="Recycle a worker that has been ready for so long, its replacement first; 0: never.",
        **_SECONDS,
    )
    log_level: str = setting(
        "info",
        "--log-level",
        type=click.Choice(["debug", "info", "warning", "error", "critical"]),
        help="Leave out what is less important.",
    )
    app_dir: str = setting(
        ".",
        "--app-dir",
        type=click.Path(exists=True, file_okay=False),
        help="Look for APP here first.",
    )
    factory: bool = setting(
        False,
        "--factory",
        is_flag=True,
        help="APP is a function that returns the app.",
    )
    backlog: int = setting(
        2048,
        "--backlog",
        type=click.IntRange(1, (1 << 31) - 1),
        help="How many connections may wait to be accepted, for each address; the system may cap "
        "it (Linux: net.core.somaxconn). A socket that was passed in keeps its own.",
    )
    reuse_port: bool = setting(
        False,
        "--reuse-port",
        is_flag=True,
        help="Let other processes of the same user listen on the same port (SO_REUSEPORT).",
    )
    unix_mode: Mode = setting(  # noqa: RUF009  # it does not change
        Mode(0o666),
        "--unix-mode",
        type=str,
        callback=_one(parse_mode),
        metavar="MODE",
        help="Permissions of the files of Unix sockets, in octal; who may write may connect.",
    )
    unix_owner: Owner | None = setting(  # noqa: RUF009  # nor does this
        None,
        "--unix-owner",
        type=str,
        callback=_one(parse_owner),
        metavar="USER[:GROUP]",
        help="Owner of the files of Unix sockets. [default: the user who starts forkserve]",
    )


def option_fields() -> list[Field[Any]]:
    """The settings that are command line options, in order."""
    return [f for f in fields(Settings) if "flags" in f.metadata]

"""Every setting, declared once.

A setting is a field of :class:`Settings`; its metadata holds what the command line
needs. Adding one is adding a field.
"""

from __future__ import annotations

from dataclasses import Field, dataclass, field, fields
from typing import Any

import click

from forkserve.config.bind import Bind, parse_bind


def _read_binds(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> tuple[Bind, ...]:
    try:
        return tuple(parse_bind(value) for value in values)
    except ValueError as exc:
        raise click.BadParameter(str(exc), ctx, param) from exc


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
    bind: tuple[Bind, ...] = setting(
        (Bind("127.0.0.1", 8000),),
        "-b",
        "--bind",
        type=str,
        callback=_read_binds,
        metavar="HOST:PORT",
        multiple=True,
        help="Address to listen on: HOST:PORT, :PORT (every interface), [IPV6]:PORT; port 0 "
        "takes a free one. May be given several times.",
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
        help="Kill a worker that is not ready after so long; 0: never.",
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
        help="Close a connection that has been idle for so long.",
        **_SECONDS,
    )
    surge: int | None = setting(
        None,
        "--surge",
        type=click.IntRange(1, 512),
        help="How many workers above --workers may live while a reload replaces them. "
        "[default: a quarter of the workers, at least 1]",
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


def option_fields() -> list[Field[Any]]:
    """The settings that are command line options, in order."""
    return [f for f in fields(Settings) if "flags" in f.metadata]

"""Where the lines of each log go to, according to the settings."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from forkserve.config.settings import Settings
from forkserve.logs.atoms import AtomFormatter
from forkserve.logs.lines import (
    DATE,
    STAMP,
    Lines,
    TextFormatter,
    json_lines,
    text_lines,
)
from forkserve.logs.outlet import Outlet
from forkserve.logs.syslog import Syslog, parse_syslog_address

__all__ = ["DATE", "STAMP", "Output"]

Output = Outlet | Syslog
"""What this module makes. Both count what they could not write."""

MakesFormatter = Callable[[bool], logging.Formatter]
"""Makes the access log's in text, with colours or without."""


def of_errors(settings: Settings, fd: int, speaks: bool = False) -> list[logging.Handler]:
    """The outputs of the error log. Who ``speaks`` says that the syslog daemon is gone."""
    if settings.log_format == "json":
        lines = told_elsewhere = json_lines()
    else:
        lines = text_lines(TextFormatter(_is_a_terminal(fd)))
        told_elsewhere = text_lines(TextFormatter(stamp=""))
    outlet = Outlet(fd, lines)
    if not settings.log_syslog:
        return [outlet]
    return [outlet, _syslog(settings, "", told_elsewhere, outlet if speaks else None)]


def of_access(
    settings: Settings, fd: int, plain: MakesFormatter | None = None
) -> list[logging.Handler]:
    """The outputs of the access log; ``plain`` makes uvicorn's line."""
    atoms = AtomFormatter(settings.access_logformat) if settings.access_logformat else None
    colours = _is_a_terminal(fd)
    if settings.log_format == "json":
        lines = told_elsewhere = json_lines(atoms)
    else:
        lines = text_lines(atoms or (plain(colours) if plain else TextFormatter(colours)))
        told_elsewhere = text_lines(atoms or TextFormatter(stamp=""))
    if not settings.log_syslog:
        return [Outlet(fd, lines)]
    return [Outlet(fd, lines), _syslog(settings, ".access", told_elsewhere)]


def access_is_logged(settings: Settings) -> bool:
    """By us: a file for it that is asked for is filled, whatever the level."""
    if settings.log_config or settings.uvicorn.get("access_log") is False:
        return False
    return settings.access_logfile is not None or settings.log_level in ("trace", "debug", "info")


def access_is_timed(settings: Settings) -> bool:
    """Whether its lines tell more than uvicorn knows."""
    return settings.log_format == "json" or settings.access_logformat is not None


def _syslog(
    settings: Settings, suffix: str, lines: Lines, complain_to: Outlet | None = None
) -> Syslog:
    return Syslog(
        parse_syslog_address(settings.log_syslog_to),
        settings.log_syslog_facility,
        settings.log_syslog_prefix + suffix,
        lines,
        complain_to,
    )


def _is_a_terminal(fd: int) -> bool:
    try:
        return os.isatty(fd)
    except OSError:
        return False

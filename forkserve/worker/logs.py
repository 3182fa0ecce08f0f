"""Logging in a worker, and what uvicorn complains about while the app starts."""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Mapping
from http import HTTPStatus
from types import TracebackType
from typing import Any

from forkserve.config.settings import Settings
from forkserve.logs import outputs
from forkserve.logs.files import LogFds
from forkserve.logs.lines import TextFormatter
from forkserve.supervisor.failures import BootFailure
from forkserve.worker.access import LOGGER as ACCESS
from forkserve.worker.app import BootError


def configure(settings: Settings, fds: LogFds) -> None:
    """Set up uvicorn's loggers, before the app is imported; the app's own are its business.

    What uvicorn says of its own comings and goings is left out unless the level is debug:
    the master says it in words that hold for all workers. Raises BootError if the file of
    ``--log-config``, which is used instead then, cannot be used.
    """
    if settings.log_config:
        _use(settings.log_config)
        return
    level = settings.log_level
    quiet = level if level in ("trace", "debug", "error", "critical") else "warning"
    errors = logging.getLogger("uvicorn")
    errors.handlers = outputs.of_errors(settings, fds.error)
    errors.setLevel(quiet.upper())
    errors.propagate = False
    logging.getLogger("uvicorn.error").setLevel(quiet.upper())
    access = logging.getLogger(ACCESS)
    # uvicorn asks for handlers, not for the level, before it puts a line together.
    plain = outputs.access_is_logged(settings) and not outputs.access_is_timed(settings)
    access.handlers = outputs.of_access(settings, fds.access, _plain_access) if plain else []
    access.setLevel(logging.INFO)
    access.propagate = False


def begin_anew(settings: Settings) -> None:
    """In a worker, whose app is imported by now: perhaps by a template, in another process.

    What the app has changed stays, but for one accident: logging.config disables every
    logger that it is not told of, unless it is told not to.
    """
    if settings.log_config:
        return
    for name in ("uvicorn", "uvicorn.error", ACCESS):
        logger = logging.getLogger(name)
        logger.disabled = False
        for handler in logger.handlers:
            if isinstance(handler, outputs.Output):
                handler.begin_anew()


def _plain_access(colours: bool) -> logging.Formatter:
    """uvicorn's own line, with our stamp. Its own formatter, which copies each record, is
    needed for colours only."""
    if not colours:
        return AccessFormatter()
    from uvicorn.logging import AccessFormatter as InColours

    form = outputs.STAMP + '%(client_addr)s - "%(request_line)s" %(status_code)s'
    return InColours(form, outputs.DATE, use_colors=colours)


class AccessFormatter(TextFormatter):
    """Adds what the status means: ``GET / HTTP/1.1" 200 OK``."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        status = record.args[-1] if isinstance(record.args, tuple) and record.args else None
        record.message += _PHRASES.get(status, "")
        return super().formatMessage(record)


_PHRASES: dict[object, str] = {status.value: f" {status.phrase}" for status in HTTPStatus}


def _use(config: str | Mapping[str, Any]) -> None:
    """Have uvicorn read the user's own configuration of logging."""
    import uvicorn

    called = f"--log-config {config}" if isinstance(config, str) else "log_config"
    try:
        # It adds to a dictionary that it is given.
        given = config if isinstance(config, str) else copy.deepcopy(dict(config))
        uvicorn.Config("", log_config=given, log_level=None)
    except Exception as exc:
        raise BootError(BootFailure(f"{called} cannot be used: {_causes(exc)}")) from exc


def _causes(exc: BaseException) -> str:
    """On one line, from the outermost to the first."""
    text = " ".join(f"{type(exc).__name__}: {exc}".split())
    return f"{text} ({_causes(exc.__cause__)})" if exc.__cause__ else text


class Troubles(logging.Handler):
    """Keeps what uvicorn would log as errors while the worker starts.

    The master tells it once, instead of each worker by itself. Use as a context
    manager around the server; it stands aside once the worker is ready.
    """

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self._texts: list[str] = []
        self._logger = logging.getLogger("uvicorn.error")

    def __enter__(self) -> Troubles:
        self._logger.addHandler(self)
        self._logger.propagate = False
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stand_aside()

    def stand_aside(self) -> None:
        self._logger.removeHandler(self)
        self._logger.propagate = True

    def emit(self, record: logging.LogRecord) -> None:
        self._texts.append(self.format(record))

    def failure(self, app: str) -> BootFailure:
        """What went wrong, from what uvicorn said of it."""
        text = "\n".join(t for t in self._texts if "Application startup failed" not in t)
        lines = text.strip().splitlines()
        cause = lines[-1].strip() if lines else "the app said lifespan.startup.failed"
        places = re.findall(r'File "([^"<]+)", line (\d+)', text)
        own = [p for p in places if "site-packages" not in p[0] and "/lib/python" not in p[0]]
        where = ":".join((own or places)[-1]) if places else ""
        details = "\n".join(lines[-12:])
        return BootFailure(f"{app} failed in its lifespan startup: {cause}", where, details)

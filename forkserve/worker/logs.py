"""Logging in a worker, and what uvicorn complains about while the app starts."""

from __future__ import annotations

import logging
import logging.config
import re
import sys
from types import TracebackType

from forkserve.supervisor.events import BootFailure

STAMP = "%(asctime)s.%(msecs)03d [%(process)d] %(levelname)-8s "
DATE = "%Y-%m-%d %H:%M:%S"


def configure(level: str) -> Troubles:
    """Set up uvicorn's loggers; the app's own are the app's business.

    What uvicorn says of its own comings and goings is left out unless ``level`` is
    debug: the master says it in words that hold for all workers.
    """
    quiet = level if level in ("debug", "error", "critical") else "warning"
    access = STAMP + '%(client_addr)s - "%(request_line)s" %(status_code)s'
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {
                "default": {"format": STAMP + "%(message)s", "datefmt": DATE},
                "access": {
                    "()": "uvicorn.logging.AccessFormatter",
                    "fmt": access,
                    "datefmt": DATE,
                    "use_colors": sys.stdout is not None and sys.stdout.isatty(),
                },
            },
            "handlers": {
                "default": {
                    "class": "logging.StreamHandler",
                    "formatter": "default",
                    "stream": "ext://sys.stderr",
                },
                "access": {
                    "class": "logging.StreamHandler",
                    "formatter": "access",
                    "stream": "ext://sys.stdout",
                },
            },
            "loggers": {
                "uvicorn": {
                    "handlers": ["default"],
                    "level": quiet.upper(),
                    "propagate": False,
                },
                "uvicorn.error": {"level": quiet.upper()},
                "uvicorn.access": {
                    # uvicorn asks for handlers, not for the level, before it puts a line together.
                    "handlers": ["access"] if level in ("debug", "info") else [],
                    "level": level.upper(),
                    "propagate": False,
                },
            },
        }
    )
    return Troubles()


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

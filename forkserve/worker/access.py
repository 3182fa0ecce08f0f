"""The access log with more than uvicorn knows of a request: time, size, headers.

Only where the format asks for it: it is passed by every request. Else uvicorn writes
its own line, and nothing of this is there.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from time import perf_counter
from typing import Any

from uvicorn.protocols.utils import get_client_addr, get_path_with_query_string

from forkserve.logs.atoms import Answered

LOGGER = "uvicorn.access"
"""Under uvicorn's name, and with its arguments, so that an app's filters on it still work."""

_MESSAGE = '%s - "%s %s HTTP/%s" %d'


def logged(app: Any, handlers: Sequence[logging.Handler]) -> Any:
    """``app``, with a line for each HTTP request once it is answered.

    An app that fails before it has begun to answer counts with the 500 that uvicorn sends
    for it. WebSockets are left out, as uvicorn leaves them out.
    """
    logger = logging.getLogger(LOGGER)

    def tell(answered: Answered) -> None:
        scope = answered.scope
        args = (
            get_client_addr(scope),
            scope["method"],
            get_path_with_query_string(scope),
            scope["http_version"],
            answered.status,
        )
        record = logging.LogRecord(LOGGER, logging.INFO, "", 0, _MESSAGE, args, None)
        record.answered = answered
        if not logger.disabled and logger.filter(record):
            for handler in handlers:
                handler.handle(record)

    async def log(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        began = perf_counter()
        answered: Answered | None = Answered(scope, 500, (), 0, 0.0)

        async def send_and_see(message: Any) -> None:
            nonlocal answered
            if answered is None:
                await send(message)
            elif message["type"] == "http.response.start":
                answered.status, answered.headers = message["status"], message.get("headers", ())
                await send(message)
            else:
                await send(message)
                answered.size += len(message.get("body", b""))
                if not message.get("more_body", False):
                    answered.seconds = perf_counter() - began
                    tell(answered)
                    answered = None

        try:
            await app(scope, receive, send_and_see)
        finally:
            if answered is not None:
                answered.seconds = perf_counter() - began
                tell(answered)

    return log

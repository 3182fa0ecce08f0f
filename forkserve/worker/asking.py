"""Sending the app a request in process, without a socket."""

from __future__ import annotations

from typing import Any

from forkserve.supervisor.failures import BootFailure

LONGEST_BODY = 2048
"""Bytes of an answer that are shown."""


class BadAnswerError(Exception):
    """The app did not answer with 2xx or 3xx, for the reason in ``failure``."""

    def __init__(self, failure: BootFailure) -> None:
        super().__init__(failure.headline)
        self.failure = failure


async def ask(app: Any, path: str, option: str, state: dict[str, Any]) -> None:
    """Send ``GET path`` to the ASGI app (asgi.readthedocs.io, HTTP spec 2.3).

    ``option``: the setting on whose behalf, for the message. Raises BadAnswerError unless
    the status is 2xx or 3xx, or what the app raises.
    """
    plain, _, query = path.partition("?")
    status: list[int] = []
    body = bytearray()
    asked = False

    async def receive() -> dict[str, Any]:
        nonlocal asked
        if asked:
            return {"type": "http.disconnect"}
        asked = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            status.append(message["status"])
        elif message["type"] == "http.response.body" and len(body) < LONGEST_BODY:
            body.extend(message.get("body", b""))

    await app(
        {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": plain,
            "raw_path": plain.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(b"host", b"localhost"), (b"user-agent", b"forkserve")],
            "client": ("127.0.0.1", 0),
            "server": ("127.0.0.1", 0),
            "state": state.copy(),
        },
        receive,
        send,
    )
    if not status or not 200 <= status[0] < 400:
        answer = f"answered {status[0]}" if status else "was not answered"
        headline = f"GET {path} ({option}) {answer}."
        shown = bytes(body[:LONGEST_BODY]).decode("utf-8", "replace")
        raise BadAnswerError(BootFailure(headline, details=shown))

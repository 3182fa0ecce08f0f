"""The monitor's answers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route

from forkserve.monitor import page
from forkserve.monitor.feed import Feed, NoAnswerError
from forkserve.monitor.metrics import registry_of
from forkserve.monitor.readiness import why_not_ready

MOST_DASHBOARDS = 64
"""So many may be open at once."""

RETRY = 1000
"""Milliseconds after which a browser whose stream has ended comes again."""


def make_app(feed: Feed, ready_min: int) -> Starlette:
    """``ready_min``: how many workers have to be ready for the service to be."""
    answers = _Answers(feed, ready_min)
    routes = [
        Route("/", answers.dashboard),
        Route("/events", answers.events),
        Route("/status", answers.status),
        Route("/metrics", answers.metrics),
        Route("/livez", answers.livez),
        Route("/readyz", answers.readyz),
    ]
    return Starlette(routes=routes, exception_handlers={NoAnswerError: _no_answer})


class _Answers:
    def __init__(self, feed: Feed, ready_min: int) -> None:
        self._feed = feed
        self._ready_min = ready_min
        self._dashboards = 0

    async def metrics(self, request: Request) -> Response:
        encode, kind = choose_encoder(request.headers.get("accept", ""))
        text = encode(registry_of(await self._feed.status()))
        return Response(text, headers={"content-type": kind})

    async def livez(self, request: Request) -> Response:
        """Whether the master's loop turns."""
        await self._feed.status()
        return PlainTextResponse("The master answers.\n")

    async def readyz(self, request: Request) -> Response:
        """Whether requests should be sent here."""
        status = await self._feed.status()
        if why_not := why_not_ready(status, self._ready_min):
            return PlainTextResponse(f"{why_not}\n", 503)
        return PlainTextResponse(f"{status['workers_ready']} workers are ready.\n")

    async def status(self, request: Request) -> Response:
        return JSONResponse(await self._feed.status())

    async def dashboard(self, request: Request) -> Response:
        return HTMLResponse(page.HTML)

    async def events(self, request: Request) -> Response:
        if self._dashboards >= MOST_DASHBOARDS:
            return PlainTextResponse(f"{MOST_DASHBOARDS} dashboards are open already.\n", 503)
        return StreamingResponse(self._stream(), media_type="text/event-stream")

    async def _stream(self) -> AsyncIterator[str]:
        self._dashboards += 1
        try:
            yield f"retry: {RETRY}\n\n"
            yield _event("past", list(self._feed.past))
            async for status in self._feed.changes():
                yield _event("status", status)
        finally:
            self._dashboards -= 1


def _event(name: str, data: object) -> str:
    """One of a stream (the HTML standard, 9.2). JSON as we write it has no line breaks."""
    return f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"


async def _no_answer(request: Request, exc: Exception) -> Response:
    sentence = str(exc)
    return PlainTextResponse(f"{sentence[:1].upper()}{sentence[1:]}.\n", 503)

"""A small app to try forkserve with: ``forkserve demo_app:app``.

``DEMO_LATENCY`` is how many seconds a prediction takes (2 unless told otherwise).
"""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Body, FastAPI, WebSocket
from fastapi.responses import StreamingResponse

logging.basicConfig(
    level=logging.INFO, format="%(asctime)s [%(process)d] %(levelname)s %(message)s"
)
logger = logging.getLogger(__name__)


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    logger.info("demo app: starting")
    yield
    logger.info("demo app: stopped")


app = FastAPI(title="forkserve demo", lifespan=lifespan)


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/pid")
async def pid() -> dict[str, int]:
    return {"pid": os.getpid()}


@app.post("/predict")
async def predict(data: Annotated[Any, Body()] = None) -> dict[str, Any]:
    # Blocks the whole event loop, on purpose: so does an ML model called from an async
    # handler. This worker answers nothing else meanwhile; the other workers do.
    time.sleep(float(os.environ.get("DEMO_LATENCY", "2")))
    return {
        "prediction": len(str(data)),
        "processed_by_worker_pid": os.getpid(),
        "input": data,
    }


@app.get("/events")
async def events(count: int | None = None) -> StreamingResponse:
    """Server-sent events: a tick a second, without end unless ``count`` is given."""

    async def ticks() -> AsyncIterator[str]:
        tick = 0
        while count is None or tick < count:
            if tick:
                await asyncio.sleep(1)
            tick += 1
            yield f"data: tick {tick} from pid {os.getpid()}\n\n"

    return StreamingResponse(ticks(), media_type="text/event-stream")


@app.websocket("/echo")
async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)

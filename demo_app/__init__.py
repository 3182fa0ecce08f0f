"""A small service to try forkserve with: ``forkserve -w 4 demo_app:app``."""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Body, FastAPI, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse

logging.basicConfig(
    level=logging.INFO, format="%(asctime)s [%(process)d] %(levelname)-8s %(message)s"
)
log = logging.getLogger("demo_app")

LATENCY = float(os.environ.get("DEMO_LATENCY", "2"))
"""Seconds that a prediction takes."""


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    log.info("demo_app: startup")
    yield
    log.info("demo_app: shutdown")


app = FastAPI(title="forkserve demo", lifespan=lifespan)


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/pid")
async def pid() -> dict[str, int]:
    return {"pid": os.getpid()}


@app.post("/predict")
async def predict(payload: Any = Body(None)) -> dict[str, Any]:
    # On purpose: most models compute in native code and block the event loop.
    time.sleep(LATENCY)
    return {
        "prediction": len(str(payload)),
        "processed_by_worker_pid": os.getpid(),
        "input": payload,
    }


@app.get("/events")
async def events() -> StreamingResponse:
    """Server-sent events, one a second, for as long as the client listens."""

    async def stream() -> AsyncIterator[str]:
        tick = 0
        while True:
            yield f"data: tick {tick} from worker {os.getpid()}\n\n"
            tick += 1
            await asyncio.sleep(1)

    return StreamingResponse(stream(), media_type="text/event-stream")


@app.websocket("/echo")
async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while True:
            await websocket.send_text(await websocket.receive_text())
    except WebSocketDisconnect:
        pass

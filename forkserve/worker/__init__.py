"""A worker process: uvicorn.Server on the shared socket, heartbeat and draining."""

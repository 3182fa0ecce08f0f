# A worker class of its own, as a class; and an address made on one line.
import os

from uvicorn_worker import UvicornWorker


class ArchiveWorker(UvicornWorker):
    CONFIG_KWARGS = {  # noqa: RUF012 - so does UvicornWorker
        "loop": "asyncio",
        "http": "auto",
        "root_path": os.getenv("ARCHIVE_SCRIPT_NAME", "/archive"),
        "lifespan": "off",
        "limit_max_requests": 10000,
        "access_log": False,
    }


bind = f"{os.getenv('ARCHIVE_BIND_ADDR', '[::]')}:{os.getenv('ARCHIVE_PORT', 8000)}"
workers = int(os.getenv("ARCHIVE_WORKERS", 1))
worker_class = ArchiveWorker
timeout = 120

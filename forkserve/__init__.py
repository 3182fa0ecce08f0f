"""forkserve: a pre-fork process manager for Python ASGI apps."""

__version__ = "0.1.0"

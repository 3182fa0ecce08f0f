"""forkserve: a pre-fork process manager for Python ASGI apps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from forkserve.boot import extend_boot as extend_boot
    from forkserve.embedding import run as run

__all__ = ["extend_boot", "run"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Only when it is asked for: importing forkserve for its version stays light.
    if name == "extend_boot":
        from forkserve.boot import extend_boot

        return extend_boot
    if name == "run":
        from forkserve.embedding import run

        return run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

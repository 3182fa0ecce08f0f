"""Whether the service is ready, by its status."""

from __future__ import annotations

from forkserve.monitor.feed import Status


def why_not_ready(status: Status, needed: int) -> str:
    """One sentence, or empty if ``needed`` workers are ready and stay."""
    if status["state"] == "stopping":
        return "The service is stopping."
    ready, wanted = status["workers_ready"], status["workers_wanted"]
    if ready < needed:
        return f"{ready} of {wanted} workers are ready; {needed} must be."
    return ""

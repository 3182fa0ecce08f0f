"""Settings that are right one by one, and wrong together or on this machine."""

from __future__ import annotations

import sys

from forkserve.config.settings import Settings


def contradiction(settings: Settings) -> str:
    """One sentence that says what is wrong and what to do, or an empty string."""
    if settings.share == "immortal" and settings.preload is False:
        return "--share immortal shares what a template has imported; leave out --no-preload"
    if settings.share == "immortal" and (why_not := _no_immortals()):
        return f"--share immortal is not possible here: {why_not}; leave it out"
    if settings.switchboard == "on" and sys.platform != "linux":
        return "--switchboard on needs Linux (epoll(7)); leave it out"
    if settings.max_requests_jitter and not settings.max_requests:
        return "--max-requests-jitter adds to --max-requests; give that too"
    if settings.initgroups and settings.user is None:
        return "--initgroups gives the app the groups of --user; give that too"
    return ""


def _no_immortals() -> str:
    from forkserve.template.sharing import immortal_is_possible

    return immortal_is_possible()

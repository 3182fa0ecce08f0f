"""Settings that are right one by one, and wrong together or on this machine."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator

from forkserve.config.settings import Settings
from forkserve.config.values import AUTO

SHORTEST_THRESHOLD = 0.05
"""Seconds. For a shorter while any process may have to wait for a processor."""


def contradictions(settings: Settings) -> list[str]:
    """Sentences that say what is wrong and what to do."""
    return list(_contradictions(settings))


def _contradictions(settings: Settings) -> Iterator[str]:
    if settings.share == "immortal" and settings.preload is False:
        yield "--share immortal shares what a template has imported; leave out --no-preload."
    if settings.share == "immortal" and (why_not := _no_immortals()):
        yield f"--share immortal is not possible here: {why_not}; leave it out."
    if settings.switchboard == "on" and sys.platform != "linux":
        yield "--switchboard on needs Linux (epoll(7)); leave it out."
    for header in settings.uvicorn.get("headers", ()):
        if not header.partition(":")[1]:
            yield f'--header "{header}" has no ":"; write NAME:VALUE.'
    if settings.max_requests_jitter and not settings.max_requests:
        yield "--max-requests-jitter adds to --max-requests; give that too."
    if 0 < settings.timeout <= settings.slow_threshold:
        slow, hung = f"{settings.slow_threshold:g}", f"{settings.timeout:g}"
        yield f"--slow-threshold {slow} is not below --timeout {hung}; write less, or 0 for none."
    if 0 < settings.slow_threshold < SHORTEST_THRESHOLD:
        shortest = f"{SHORTEST_THRESHOLD * 1000:g}ms"
        yield f"--slow-threshold is at least {shortest}: below it a busy machine is all that shows."
    if settings.log_config and (settings.access_logformat or settings.access_logfile):
        yield "--log-config says how and where requests are logged; leave out --access-log*."
    if settings.reload and importlib.util.find_spec("watchfiles") is None:
        yield '--reload needs the package watchfiles; "uvicorn[standard]" brings it.'
    if settings.initgroups and settings.user is None:
        yield "--initgroups gives the app the groups of --user; give that too."
    yield from _of_the_monitor(settings)


def _of_the_monitor(settings: Settings) -> Iterator[str]:
    if settings.monitor_token is not None and settings.monitor is None:
        yield "--monitor-token is for --monitor; give that too."
    if settings.workers != AUTO and settings.ready_min > settings.workers:
        yield (
            f"--ready-min {settings.ready_min} is more than there are --workers "
            f"({settings.workers}): the service would never be ready; lower it."
        )
    missing = [name for name in ("prometheus_client", "starlette") if not _is_installed(name)]
    if settings.monitor is not None and missing:
        names = " and ".join(name.replace("_", "-") for name in missing)
        yield f'--monitor needs {names}, which "pip install forkserve[monitor]" brings.'


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _no_immortals() -> str:
    from forkserve.template.sharing import immortal_is_possible

    return immortal_is_possible()

"""Settings from environment variables."""

from __future__ import annotations

import re
from collections.abc import Mapping

from forkserve.config.given import Found, Given

PREFIX = "FORKSERVE_"

NOT_SETTINGS = ("SLOT", "WORKER_ID", "GENERATION")
"""What a worker finds in its environment, and passes on to what it starts."""

_SERVICE_LINK = re.compile(r"(\w+_)?(SERVICE_(HOST|PORT)(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)\w*)?)")
"""What Kubernetes puts into every container for a service that is called "forkserve"."""

ECOSYSTEM = {
    "WEB_CONCURRENCY": "workers",
    "PORT": "bind",
    "FORWARDED_ALLOW_IPS": "forwarded_allow_ips",
}
"""Variables that other servers and platforms use."""


def from_environment(environ: Mapping[str, str]) -> Found:
    """``FORKSERVE_*``: each is a setting, or a mistake."""
    found = Found()
    for variable, value in sorted(environ.items()):
        name = variable.removeprefix(PREFIX)
        if name == variable or name in NOT_SETTINGS or _SERVICE_LINK.fullmatch(name):
            continue
        found.given.append(Given(name.lower(), value, variable))
    return found


def from_ecosystem(environ: Mapping[str, str]) -> Found:
    """What the platform says, in variables that are not forkserve's own.

    ``PORT`` is where a platform routes to, so every interface is listened on, as Gunicorn does.
    """
    found = Found()
    for variable, name in ECOSYSTEM.items():
        if value := environ.get(variable, "").strip():
            text = f":{value}" if variable == "PORT" else value
            found.given.append(Given(name, text, variable))
    return found

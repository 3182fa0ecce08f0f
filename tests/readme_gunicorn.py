"""Draws the README's tables of gunicorn's settings from forkserve's own.

``python -m tests.readme_gunicorn`` puts them into README.md, between their markers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from forkserve.config.gunicorn import (
    SETTINGS,
    Called,
    Ignored,
    NotCalled,
    Refused,
    Renamed,
    Translated,
)
from forkserve.config.reading import known_options
from tests import readme


def tables() -> str:
    """Three of them, as Markdown."""
    return "\n".join([*_read(), "", *_ignored(), "", *_refused()])


def _read() -> Iterator[str]:
    missing = [name for name in SETTINGS if _is_missing(name)]
    same = [n for n, entry in SETTINGS.items() if isinstance(entry, Renamed) and entry.to == n]
    same = [name for name in same if name not in missing]
    yield "| gunicorn | in forkserve |"
    yield "| --- | --- |"
    yield f"| {_names(same)} | the same |"
    for name, entry in SETTINGS.items():
        match entry:
            case _ if name in missing:
                pass
            case Renamed(to) if to != name:
                yield f"| `{name}` | `{to}` |"
            case Translated(_, says):
                yield f"| `{name}` | {says} |"
    hooks = [n for n, e in SETTINGS.items() if isinstance(e, Called) and e.moment == n]
    hooks.remove("worker_ready")
    yield f"| {_names(hooks)} | the same |"
    yield "| `post_worker_init` | `worker_ready` |"
    if missing:
        yield f"| {_names(missing)} | refused: forkserve has no such setting yet |"


def _is_missing(name: str) -> bool:
    """Whether it comes to a setting that there is not (yet)."""
    match SETTINGS[name]:
        case Renamed(to):
            return to not in known_options()
        case Translated(_, says) if target := re.match(r"`(\w+)`:", says):
            return target[1] not in known_options()
    return False


def _ignored() -> Iterator[str]:
    yield "| ignored, with a note | because |"
    yield "| --- | --- |"
    reasons: dict[str, list[str]] = {}
    for name, entry in SETTINGS.items():
        if isinstance(entry, Ignored | NotCalled):
            reasons.setdefault(entry.why, []).append(name)
    for why, names in reasons.items():
        yield f"| {_names(names)} | {why} |"


def _refused() -> Iterator[str]:
    yield "| refused | because |"
    yield "| --- | --- |"
    for name, entry in SETTINGS.items():
        if isinstance(entry, Refused):
            yield f"| `{name}` | {entry.why.removesuffix('.')} |"


def _names(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    readme.show("gunicorn", tables())

"""Draws the README's tables of gunicorn's settings from forkserve's own.

``python -m tests.readme_gunicorn`` shows them.
"""

from __future__ import annotations

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


def tables() -> str:
    """Three of them, as Markdown."""
    return "\n".join([*_read(), "", *_ignored(), "", *_refused()])


def _read() -> Iterator[str]:
    same = [n for n, entry in SETTINGS.items() if isinstance(entry, Renamed) and entry.to == n]
    yield "| gunicorn | in forkserve |"
    yield "| --- | --- |"
    yield f"| {_names(same)} | the same |"
    for name, entry in SETTINGS.items():
        match entry:
            case Renamed(to) if to != name:
                yield f"| `{name}` | `{to}` |"
            case Translated(_, says):
                yield f"| `{name}` | {says} |"
    hooks = [n for n, e in SETTINGS.items() if isinstance(e, Called) and e.moment == n]
    hooks.remove("worker_ready")
    yield f"| {_names(hooks)} | the same |"
    yield "| `post_worker_init` | `worker_ready` |"


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
    print(tables())

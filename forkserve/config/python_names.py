"""What the names in a Python file mean."""

from __future__ import annotations

from forkserve.config.given import Found, Given
from forkserve.config.hooks import ARGUMENTS, Hook
from forkserve.config.python_file import Content


def translated(content: Content, path: str, shown: str) -> Found:
    """What ``content`` says; ``shown`` is how the user calls ``path``."""
    found = Found()
    if content.problem:
        found.problems.append(content.problem)
        return found
    for name, value in content.values.items():
        line = content.lines.get(name)
        found.given.append(Given(name, value, f"{shown}:{line}" if line else shown))
    found.hooks = [Hook(name, path, name) for name in content.functions if name in ARGUMENTS]
    return found


def instead_of(name: str) -> str:
    return ""


def not_passed_to_uvicorn() -> frozenset[str]:
    return frozenset({"host", "port", "uds", "fd"})

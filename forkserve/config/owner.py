"""Who shall own a file, as the user writes it."""

from __future__ import annotations

import grp
import pwd
from dataclasses import dataclass

UNCHANGED = -1
"""For chown(2): leave it as it is."""

HIGHEST = (1 << 32) - 2
"""Of the numbers: the one above it is chown(2)'s -1."""


@dataclass(frozen=True, slots=True)
class Owner:
    """A user, a group, or both. ``str()`` gives it as the user has written it."""

    text: str
    uid: int
    """UNCHANGED if only a group was given."""
    gid: int
    """UNCHANGED if only a user was given."""

    def __str__(self) -> str:
        return self.text


def parse_owner(text: str) -> Owner:
    """Read ``USER``, ``USER:GROUP`` or ``:GROUP``: names that this system knows, or numbers.

    Raises ValueError with a sentence for the user.
    """
    user, colon, group = text.partition(":")
    if not (user or group) or (colon and not group):
        raise ValueError(f'"{text}" is not USER[:GROUP]; write for example "app:www-data".')
    return Owner(text, _uid(user), _gid(group))


def _uid(name: str) -> int:
    if not name:
        return UNCHANGED
    try:
        return _number(name) if name.isdigit() else pwd.getpwnam(name).pw_uid
    except (KeyError, ValueError) as exc:
        raise ValueError(f'"{name}" is no user of this system; see `getent passwd`.') from exc


def _gid(name: str) -> int:
    if not name:
        return UNCHANGED
    try:
        return _number(name) if name.isdigit() else grp.getgrnam(name).gr_gid
    except (KeyError, ValueError) as exc:
        raise ValueError(f'"{name}" is no group of this system; see `getent group`.') from exc


def _number(text: str) -> int:
    number = int(text) if len(text) <= 10 else HIGHEST + 1
    if number > HIGHEST:
        raise ValueError
    return number

"""With whose rights the app runs: ``--user``, ``--group`` and ``--initgroups``.

The master keeps its own. It needs them to listen on a port below 1024, to signal its
children, and to open its files again. Everybody whom it forks drops them at once, before
anything of the app is imported; what a template forks has none left to drop.
"""

from __future__ import annotations

import grp
import os
import pwd
from dataclasses import dataclass

from forkserve.config.settings import Settings
from forkserve.prctl import SET_DUMPABLE, prctl

ROOT = 0

HIGHEST = 0xFFFF_FFFE
"""The number above it means "leave it as it is" (setresuid(2))."""


class RightsError(Exception):
    """The message is one sentence for the user."""


@dataclass(frozen=True, slots=True)
class Rights:
    """A user, and its groups."""

    user: str
    """Its name, or its number if it has none."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    """The supplementary ones (credentials(7)), in place of those that the master has."""

    environment: tuple[tuple[str, str], ...] = ()
    """What says who one is, where it still says who has started forkserve."""

    def drop_others(self) -> None:
        """Have these rights, and no way back to those that there were.

        Raises RightsError; then this process must exit: it may have dropped some rights and
        not others.
        """
        if not self._are_ours():
            self._take()
            self._make_sure()
        os.environ.update(self.environment)

    def _are_ours(self) -> bool:
        """Nothing to drop, and maybe no right to do so: forkserve was started as this user."""
        ours = (os.getuid(), os.geteuid(), os.getgid(), os.getegid())
        return self.uid != ROOT and ours == (self.uid, self.uid, self.gid, self.gid)

    def _take(self) -> None:
        try:
            # In this order: who is another user already may not change groups any more.
            os.setgroups(self.groups)
            os.setgid(self.gid)
            os.setuid(self.uid)
        except OSError as exc:
            raise RightsError(
                f"cannot become user {self.user} with group {self.gid} ({exc.strerror}); start "
                "forkserve as root, or as that user and without --user and --group"
            ) from exc
        # Cleared by the change, since memory may hold the former user's secrets. All of ours
        # the app may know; and a crash without a core file, or a worker that no debugger of
        # its own user may look into, would be missed.
        prctl(SET_DUMPABLE, 1)

    def _make_sure(self) -> None:
        if self.uid == ROOT:
            return
        ways = [os.setuid, os.seteuid]
        if self.gid != ROOT:
            ways += [os.setgid, os.setegid]
        for way in ways:
            try:
                way(ROOT)
            except OSError:
                continue
            raise RightsError(
                f"user {self.user} could become root again, by a capability that was kept "
                "(capabilities(7)); start forkserve as root, or as that user and without --user"
            )


def rights_of(settings: Settings) -> Rights | None:
    """Those that the settings ask for, or None if they ask for no others.

    Whoever cannot be found makes a RightsError. This may ask the network (nsswitch.conf(5)),
    so it is for the start.
    """
    if settings.user is None and settings.group is None:
        return None
    uid, entry = _user(settings.user)
    user = entry.pw_name if entry else str(uid)
    gid = _group(settings.group, uid, entry)
    groups = [gid]
    if settings.initgroups and entry:
        groups = os.getgrouplist(entry.pw_name, gid)
    environment = _new_environment(user, entry) if settings.user is not None else ()
    return Rights(user, uid, gid, tuple(groups), environment)


def _user(text: str | None) -> tuple[int, pwd.struct_passwd | None]:
    if text is None:
        return os.geteuid(), _entry(os.geteuid())
    if text.isascii() and text.isdigit():
        uid = _number(text, "--user")
        return uid, _entry(uid)
    try:
        entry = pwd.getpwnam(text)
    except (KeyError, ValueError) as exc:
        raise RightsError(f'--user: there is no user "{text}" on this machine') from exc
    return entry.pw_uid, entry


def _group(text: str | None, uid: int, entry: pwd.struct_passwd | None) -> int:
    if text is None:
        if entry:
            return entry.pw_gid
        if uid == os.geteuid():
            return os.getegid()
        raise RightsError(f"--user {uid} has no name here, and so no group; give --group too")
    if text.isascii() and text.isdigit():
        return _number(text, "--group")
    try:
        return grp.getgrnam(text).gr_gid
    except (KeyError, ValueError) as exc:
        raise RightsError(f'--group: there is no group "{text}" on this machine') from exc


def _number(text: str, option: str) -> int:
    # The length first: int() refuses thousands of digits with a sentence of its own.
    if len(text) > len(str(HIGHEST)) or int(text) > HIGHEST:
        raise RightsError(f"{option} {text[:20]} is out of range; the highest number is {HIGHEST}")
    return int(text)


def _entry(uid: int) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        return None


def _new_environment(user: str, entry: pwd.struct_passwd | None) -> tuple[tuple[str, str], ...]:
    """HOME, USER and LOGNAME, unless somebody has given them a value of his own."""
    starter = _entry(os.geteuid())
    name, home = (starter.pw_name, starter.pw_dir) if starter else ("", "")
    changes = (
        ("HOME", home, entry.pw_dir if entry else "/"),
        ("USER", name, user),
        ("LOGNAME", name, user),
    )
    return tuple((key, now) for key, then, now in changes if os.environ.get(key, then) == then)

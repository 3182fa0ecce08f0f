"""Sockets that already listen when the master starts: socket activation, and ``fd://``.

systemd, and whoever does as it does, opens the sockets itself, leaves them to the program as
descriptors 3, 4, ... and says how many and for whom in the environment (sd_listen_fds(3)).
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import MutableMapping, Sequence

from forkserve.config.bind import Bind, BindError, InheritedBind
from forkserve.last_call import Borrowed
from forkserve.master.logbook import log

FIRST = 3
"""The first descriptor that is passed (SD_LISTEN_FDS_START)."""

_VARIABLES = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID")


class Passed:
    """The sockets that a service manager has passed to us. None, if none is given."""

    def __init__(self, names: Sequence[str] = ()) -> None:
        """``names``: each one's name, from descriptor FIRST on; empty if it has none."""
        self._names = {FIRST + number: name for number, name in enumerate(names)}

    @classmethod
    def take(cls, environ: MutableMapping[str, str], pid: int) -> Passed:
        """Read the environment, and remove from it what is not for our children.

        Raises BindError for what makes no sense.
        """
        said = {name: environ.pop(name, "") for name in _VARIABLES}
        count, for_whom = said["LISTEN_FDS"], said["LISTEN_PID"]
        if count in ("", "0"):
            return cls()
        if for_whom != str(pid):
            log.warning(
                "LISTEN_FDS says that sockets were passed to pid %s, and this is pid %d: they are "
                "not used; have forkserve started directly, or by `exec`",
                for_whom or "nobody",
                pid,
            )
            return cls()
        if not (count.isascii() and count.isdigit() and len(count) <= 4):
            raise BindError(f'LISTEN_FDS is "{count}" and no number of sockets (sd_listen_fds(3))')
        names = said["LISTEN_FDNAMES"].split(":") if said["LISTEN_FDNAMES"] else []
        # The rest has none, should there be fewer names than sockets.
        return cls((names + [""] * int(count))[: int(count)])

    def binds(self) -> tuple[InheritedBind, ...]:
        """All of them."""
        return tuple(InheritedBind(str(fd)) for fd in self._names)

    def descriptors(self, bind: InheritedBind) -> list[int]:
        """What ``bind`` means. Raises BindError if it means nothing."""
        if bind.descriptor is not None:
            return [bind.descriptor]
        found = [fd for fd, name in self._names.items() if name == bind.name]
        if not found:
            named = ", ".join(sorted({name for name in self._names.values() if name}))
            there_is = f"passed in were: {named}" if named else "no socket with a name was passed"
            raise BindError(f"{bind} is no socket's name; {there_is} (LISTEN_FDNAMES)")
        return found

    def shown(self, fd: int) -> str:
        """``fd 3``, or ``fd 3, web``."""
        name = self._names.get(fd, "")
        return f"fd {fd}, {name}" if name else f"fd {fd}"

    def close_all_but(self, used: set[int]) -> None:
        """Close those that are not listened on, and say so."""
        unused = sorted(self._names.keys() - used)
        for fd in unused:
            with contextlib.suppress(OSError):  # more were promised than there are
                os.close(fd)
        if unused:
            log.warning(
                "not used, since --bind says where to listen: %s, passed by the service manager; "
                "leave --bind out, or give those with --bind fd://%d",
                " and ".join(self.shown(fd) for fd in unused),
                unused[0],
            )


def borrow(fd: int, bind: InheritedBind) -> Borrowed:
    """The socket ``fd``, as workers need it. Raises BindError if nobody can listen on it."""
    try:
        found = socket.socket(fileno=fd)
    except OSError as exc:
        raise BindError(
            f"{bind}: descriptor {fd} is no socket ({exc.strerror}); it has to be opened by "
            "whoever starts forkserve, and left open"
        ) from exc
    try:
        _check(found, fd, bind)
    finally:
        found.detach()  # ours only when all is well
    # With proto 0 asyncio does not see a TCP socket; see listeners.py.
    proto = 0 if found.family == socket.AF_UNIX else socket.IPPROTO_TCP
    sock = Borrowed(found.family, found.type, proto, fileno=fd)
    sock.setblocking(False)
    sock.set_inheritable(False)
    return sock


def _check(sock: socket.socket, fd: int, bind: InheritedBind) -> None:
    families = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
    if sock.type != socket.SOCK_STREAM or sock.family not in families:
        raise BindError(
            f"{bind}: descriptor {fd} is no TCP or Unix stream socket; with systemd write "
            "ListenStream="
        )
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise BindError(
            f"{bind}: descriptor {fd} does not listen; with systemd write Accept=no, else have "
            "listen(2) called before forkserve starts"
        )


def url_of(sock: socket.socket) -> str:
    """Where it listens, as far as it knows itself."""
    name = sock.getsockname()
    if sock.family != socket.AF_UNIX:
        return f"http://{Bind(name[0], name[1])}"
    path = os.fsdecode(name)
    return f"unix:@{path[1:]}" if path.startswith("\0") else f"unix:{path}"

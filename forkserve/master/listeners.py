"""The listening sockets: opened once by the master, inherited by every worker."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from forkserve.config.bind import (
    AnyBind,
    Bind,
    BindError,
    InheritedBind,
    UnixBind,
    parse_bind,
)
from forkserve.config.owner import Owner
from forkserve.config.settings import Settings
from forkserve.last_call import turn_away
from forkserve.master.estate import Estate, Left
from forkserve.master.logbook import log
from forkserve.master.passed import Passed, borrow, url_of
from forkserve.master.tcp_sockets import Target, listen_on_port, resolve
from forkserve.master.unix_sockets import SocketFile, listen_on_name, listen_on_path

DEFAULT = Bind("127.0.0.1", 8000)

DEFAULT_BACKLOG = 2048

# Listener has a field of the module's name.
_Socket: TypeAlias = socket.socket


@dataclass(slots=True)
class Listener:
    """A socket that listens, not blocking and closed on exec."""

    socket: _Socket

    url: str
    """``http://host:port``, the host as asked for, the port as it really is; ``unix:path``."""

    file: SocketFile | None = None
    """What a Unix socket has made in the file system."""

    bind: str = ""
    """What it was called by, as the user has written it."""

    _given_away: bool = False

    def give_away(self) -> None:
        """A successor listens on the same socket: leave its clients and its file alone."""
        self._given_away = True
        if self.file is not None:
            self.file.give_away()

    def receive(self) -> None:
        """What a predecessor has listened on is ours alone from now on."""
        self._given_away = False
        if self.file is not None:
            self.file.receive()

    def as_left(self) -> Left:
        """For the next master."""
        file = (self.file.device, self.file.inode) if self.file is not None else None
        return Left(self.socket, self.bind, file)

    def close(self, others_accept: bool = False) -> None:
        """Let nobody in any more. Workers still serve who waits in the queue.

        ``others_accept``: somebody else's workers do, so that clients are not turned away.
        """
        if self.file is not None:
            self.file.remove()
        if not (self._given_away or others_accept):
            turn_away(self.socket)
        self.socket.close()


@dataclass(frozen=True, slots=True)
class Terms:
    """How to listen, wherever it is."""

    backlog: int = DEFAULT_BACKLOG
    """How many connections may wait to be accepted, per socket; the system may cap it."""

    reuse_port: bool = False
    unix_mode: int = 0o666
    unix_owner: Owner | None = None

    @classmethod
    def of(cls, settings: Settings) -> Terms:
        return cls(settings.backlog, settings.reuse_port, settings.unix_mode, settings.unix_owner)


def listen(settings: Settings, inherited: Sequence[Left] = ()) -> list[Listener]:
    """Listen where the user wants it, else on what a service manager has passed.

    ``inherited``: sockets of the master before this one. Those that are still wanted are taken
    over, the others are closed. Raises BindError.
    """
    passed = Passed.take(os.environ, os.getpid())
    estate = Estate(inherited)
    # A service manager passes its sockets to the first master, and that one to the next.
    handed_on = [
        bind for name in estate.names() if isinstance(bind := parse_bind(name), InheritedBind)
    ]
    binds = settings.bind or passed.binds() or tuple(handed_on) or (DEFAULT,)
    listeners = open_listeners(binds, Terms.of(settings), passed, estate)
    passed.close_all_but({listener.socket.fileno() for listener in listeners})
    if not all(isinstance(bind, InheritedBind) for bind in binds):
        _say_if_capped(settings.backlog)
    return listeners


def open_listeners(
    binds: Sequence[AnyBind],
    terms: Terms | None = None,
    passed: Passed | None = None,
    estate: Estate | None = None,
) -> list[Listener]:
    """Listen on every address, in order. Raises BindError if any fails; then none is left
    open."""
    terms, passed, estate = terms or Terms(), passed or Passed(), estate or Estate()
    targets = [resolve(bind) if isinstance(bind, Bind) else bind for bind in binds]
    listeners: list[Listener] = []
    try:
        for listener in _opened(targets, terms, passed, estate):
            listeners.append(listener)
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    finally:
        estate.close()
    return listeners


def _opened(
    targets: Sequence[Target | UnixBind | InheritedBind],
    terms: Terms,
    passed: Passed,
    estate: Estate,
) -> Iterator[Listener]:
    ipv4_ports = {t.bind.port for t in targets if isinstance(t, Target) and t.is_ipv4}
    borrowed: set[int] = set()
    for target in targets:
        called = str(target.bind if isinstance(target, Target) else target)
        if taken_over := list(_taken_over(target, called, estate, terms.backlog)):
            yield from taken_over
        elif isinstance(target, InheritedBind):
            for listener in _borrowed(target, passed, borrowed):
                borrowed.add(listener.socket.fileno())
                yield listener
        elif isinstance(target, Target):
            # [::] would take the IPv4 side of the port too, which has a socket of its own.
            v6only = target.bind.port != 0 and target.bind.port in ipv4_ports
            sock = listen_on_port(target, terms.backlog, terms.reuse_port, v6only)
            yield Listener(sock, _url(target, sock), bind=called)
        elif target.abstract:
            yield Listener(listen_on_name(target, terms.backlog), called, bind=called)
        else:
            sock, file = listen_on_path(target, terms.backlog, terms.unix_mode, terms.unix_owner)
            yield Listener(sock, f"unix:{file.path}", file, called)


def _url(target: Target, sock: _Socket) -> str:
    return f"http://{Bind(target.bind.host, sock.getsockname()[1])}"


def _taken_over(
    target: Target | UnixBind | InheritedBind, called: str, estate: Estate, backlog: int
) -> Iterator[Listener]:
    """What the predecessor has left of a bind, if anything. It listens already; its clients and
    its file are the predecessor's until that leaves them to us."""
    while left := estate.claim(called):
        listener = _as_listener(left, target, backlog)
        if listener is None:
            left.socket.close()
            return
        listener.socket.setblocking(False)
        listener.give_away()
        yield listener
        if not isinstance(target, InheritedBind):  # which alone may stand for several
            return


def _as_listener(
    left: Left, target: Target | UnixBind | InheritedBind, backlog: int
) -> Listener | None:
    """None: nobody can connect to it any more, as something else has been put at its path, or it
    was removed. Then we have to make our own, if we may."""
    if isinstance(target, InheritedBind):
        sock = borrow(left.socket.detach(), target)
        return Listener(sock, url_of(sock), bind=left.called)
    if isinstance(target, Target):
        left.socket.listen(backlog)  # this changes no more than the length of its queue
        return Listener(left.socket, _url(target, left.socket), bind=left.called)
    if target.abstract or left.file is None:
        return Listener(left.socket, str(target), bind=left.called)
    file = SocketFile(os.path.abspath(target.path), *left.file)
    return (
        Listener(left.socket, f"unix:{file.path}", file, left.called) if file.is_there() else None
    )


def _borrowed(bind: InheritedBind, passed: Passed, before: set[int]) -> Iterator[Listener]:
    for fd in passed.descriptors(bind):
        if fd in before:
            raise BindError(f"{bind} is given twice ({passed.shown(fd)}); give it once with --bind")
        sock = borrow(fd, bind)
        yield Listener(sock, f"{url_of(sock)} ({passed.shown(fd)})", bind=str(bind))


def _say_if_capped(backlog: int) -> None:
    """What listen(2) does with a backlog that is too long, it does silently."""
    try:
        with open("/proc/sys/net/core/somaxconn") as file:
            cap = int(file.read())
    except (OSError, ValueError):
        return  # not Linux, or not to be seen
    if backlog > cap:
        log.log(
            logging.INFO if backlog == DEFAULT_BACKLOG else logging.WARNING,
            "up to %d connections may wait to be accepted, for each address, and not %d as "
            "--backlog says: the system allows no more; raise it with `sysctl -w "
            "net.core.somaxconn=%d`",
            cap,
            backlog,
            backlog,
        )

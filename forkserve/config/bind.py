"""Where to listen, as the user writes it: an address, a Unix socket, an inherited socket."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import TypeAlias

EVERY_INTERFACE = "0.0.0.0"
MAX_PORT = 65535
MOST_DIGITS = 9
"""Of a descriptor's number: more do not fit into a C int."""


class BindError(Exception):
    """It cannot be listened on. The message is one sentence for the user."""


@dataclass(frozen=True, slots=True)
class Bind:
    """Where to listen. ``str()`` gives it as the user would write it."""

    host: str
    """A name or an address; an IPv6 address without its brackets."""

    port: int
    """0 to 65535; 0 lets the system take a free one."""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixBind:
    """A Unix socket (unix(7))."""

    path: str
    """Relative ones count from the directory in which the master was started. With an ``@``
    in front it is an abstract name, which has no file (Linux only)."""

    option: str = field(default="--bind", compare=False)
    """Where the user says which."""

    @property
    def abstract(self) -> bool:
        return self.path.startswith("@")

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class InheritedBind:
    """A socket that already listens when the master starts, and was passed to it."""

    name: str
    """The number of its descriptor, or the name that a service manager has given it
    (sd_listen_fds_with_names(3)); that may stand for several."""

    @property
    def descriptor(self) -> int | None:
        return int(self.name) if _is_number(self.name) else None

    def __str__(self) -> str:
        return f"fd://{self.name}"


AnyBind: TypeAlias = Bind | UnixBind | InheritedBind


def parse_bind(text: str) -> AnyBind:
    """Read ``HOST:PORT``, ``:PORT`` (every IPv4 interface), ``[IPV6]:PORT``, ``unix:PATH``,
    ``unix:@NAME``, ``fd://NUMBER`` or ``fd://NAME``.

    Nothing is looked up here. Raises ValueError with one sentence that says what is
    wrong and what to write instead; it is meant for the user as it stands.
    """
    text = text.strip()
    if text.startswith("unix:"):
        return UnixBind(_path(text.removeprefix("unix:"), text))
    if text.startswith("fd://"):
        return InheritedBind(_descriptor(text.removeprefix("fd://"), text))
    _refuse_what_is_none(text)
    if text.startswith("["):
        host, port = _split_bracketed(text)
    else:
        host, port = _split_plain(text)
    return Bind(host, _port(port, text))


def _refuse_what_is_none(text: str) -> None:
    if not text:
        raise ValueError('The address is empty; write for example "127.0.0.1:8000".')
    if "://" in text:
        raise ValueError(f'"{text}" is a URL; write only HOST:PORT, like "127.0.0.1:8000".')


def _path(path: str, text: str) -> str:
    # unix:///run/app.sock is written as well, by habit.
    path = path.removeprefix("//") if path.startswith("///") else path
    if path in ("", "@"):
        raise ValueError(f'"{text}" has no path; write for example "unix:/run/app.sock".')
    if "\0" in path:
        raise ValueError(f"{text!r} has a null byte in its path; leave it out.")
    if path.endswith("/"):
        raise ValueError(f'"{text}" is a directory; write for example "unix:{path}app.sock".')
    return path


def _descriptor(name: str, text: str) -> str:
    if not name:
        raise ValueError(f'"{text}" has no number or name; write for example "fd://3".')
    if _is_number(name) and len(name) > MOST_DIGITS:
        raise ValueError(f'"{text}" is no descriptor; write for example "fd://3".')
    if not _is_number(name) and not _is_descriptor_name(name):
        raise ValueError(
            f'"{text}" is neither a number nor a name; write for example "fd://3" or "fd://web".'
        )
    return name


def _split_bracketed(text: str) -> tuple[str, str]:
    host, closed, rest = text[1:].partition("]")
    if not closed or not _is_ipv6(host):
        raise ValueError(
            f'"{text}" has no IPv6 address in brackets; write for example "[::1]:8000".'
        )
    if rest in ("", ":"):
        raise ValueError(f'"{text}" has no port; write for example "[{host}]:8000".')
    if not rest.startswith(":"):
        raise ValueError(f'"{text}" has no ":" after "]"; write for example "[{host}]:8000".')
    return host, rest[1:]


def _split_plain(text: str) -> tuple[str, str]:
    if text.count(":") > 1:
        raise ValueError(_too_many_colons(text))
    host, _, port = text.partition(":")
    if port:
        return host or EVERY_INTERFACE, port
    if _is_number(host):
        raise ValueError(f'"{text}" is only a number; write ":{host}" if it is the port.')
    raise ValueError(f'"{text}" has no port; write for example "{host}:8000".')


def _too_many_colons(text: str) -> str:
    head, _, tail = text.rpartition(":")
    # "::1:8000" is an address as a whole too, but seldom the one that was meant.
    if _is_ipv6(head) and _is_number(tail):
        return f'"{text}" has an IPv6 address without brackets; write "[{head}]:{tail}".'
    if _is_ipv6(text):
        return f'"{text}" is an IPv6 address without brackets; write "[{text}]:8000".'
    return f'"{text}" has too many colons; write HOST:PORT, like "127.0.0.1:8000".'


def _port(port: str, text: str) -> int:
    # The length first: int() refuses thousands of digits with a sentence of its own.
    if _is_number(port) and len(port) <= len(str(MAX_PORT)) and int(port) <= MAX_PORT:
        return int(port)
    wrong = "is out of range" if _is_number(port) else "is not a number"
    before = text.removesuffix(port)
    raise ValueError(
        f'The port "{port}" {wrong}; write one from 0 to {MAX_PORT}, like "{before}8000".'
    )


def _is_number(text: str) -> bool:
    # int() would also take "+80", "8_0" and digits of other scripts.
    return text.isascii() and text.isdigit()


def _is_descriptor_name(text: str) -> bool:
    # sd_listen_fds(3): "printable characters", none of them the one that separates names.
    return text.isascii() and text.isprintable() and ":" not in text and " " not in text


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True

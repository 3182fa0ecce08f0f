"""An address to listen on, as the user writes it."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

EVERY_INTERFACE = "0.0.0.0"
MAX_PORT = 65535


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


def parse_bind(text: str) -> Bind:
    """Read ``HOST:PORT``, ``:PORT`` (every IPv4 interface) or ``[IPV6]:PORT``.

    Names are not looked up here. Raises ValueError with one sentence that says what is
    wrong and what to write instead; it is meant for the user as it stands.
    """
    text = text.strip()
    _refuse_other_kinds(text)
    if text.startswith("["):
        host, port = _split_bracketed(text)
    else:
        host, port = _split_plain(text)
    return Bind(host, _port(port, text))


def _refuse_other_kinds(text: str) -> None:
    if not text:
        raise ValueError('The address is empty; write for example "127.0.0.1:8000".')
    if text.startswith("unix:"):
        raise ValueError(
            f'"{text}": Unix sockets are not supported yet; write for example "127.0.0.1:8000".'
        )
    if text.startswith("fd://"):
        raise ValueError(
            f'"{text}": inherited sockets are not supported yet; '
            'write for example "127.0.0.1:8000".'
        )
    if "://" in text:
        raise ValueError(f'"{text}" is a URL; write only HOST:PORT, like "127.0.0.1:8000".')


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


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True

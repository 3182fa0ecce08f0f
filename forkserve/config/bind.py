"""Addresses to listen on, as the user writes them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bind:
    """One address; ``port`` 0 lets the kernel choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_bind(text: str) -> Bind:
    """Read HOST:PORT, :PORT or [IPV6]:PORT. Raises ValueError with one sentence."""
    if text.startswith(("unix:", "fd://")):
        raise ValueError(f'"{text}" is not supported yet; write HOST:PORT.')
    host, colon, port = text.rpartition(":")
    if not colon or not port:
        raise ValueError(f'"{text}" has no port; write HOST:PORT, for example 127.0.0.1:8000.')
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f'"{text}" is ambiguous; write an IPv6 address in brackets, [::1]:8000.')
    if not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise ValueError(f'"{port}" in "{text}" is not a port; ports are numbers from 0 to 65535.')
    return Bind(host or "0.0.0.0", int(port))

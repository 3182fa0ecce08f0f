"""``--access-logformat``: gunicorn's atoms, such as ``%(h)s`` and ``%({user-agent}i)s``.

The format is Python's own with names (printf-style, as gunicorn has it), so widths and
the like work: ``%(s)5s``. Where gunicorn writes ``-`` for an atom that it does not
know, here the format is refused: a wrong letter would otherwise be found out when the
line is needed.
"""

from __future__ import annotations

import base64
import binascii
import logging
import os
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

Headers = Iterable[tuple[bytes, bytes]]


@dataclass(slots=True)
class Answered:
    """One request, and what came of it."""

    scope: Any
    """The request as the app got it, its client as the proxy headers tell it."""

    status: int
    headers: Headers
    """Those of the response that the app has set."""

    size: int
    """Bytes of the body that were sent."""

    seconds: float
    """From the head of the request to the end of the response."""

    def facts(self) -> dict[str, Any]:
        """What the JSON line tells, in this order."""
        scope = self.scope
        return {
            "client": client(self),
            "method": scope["method"],
            "path": scope["path"],
            "query": _query(self),
            "version": scope["http_version"],
            "status": self.status,
            "bytes": self.size,
            "duration": round(self.seconds, 6),
            "referer": _header(scope["headers"], b"referer"),
            "user_agent": _header(scope["headers"], b"user-agent"),
        }


def client(seen: Answered) -> str | None:
    """Its address; none if it came through a Unix socket."""
    address = seen.scope.get("client")
    return address[0] if address else None


class AtomFormatter(logging.Formatter):
    """Makes lines of the access log after a format that :func:`parse_access_format` passed."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self._form = form
        self._atoms = {name: _reader(name) for name in _names(form)}

    def format(self, record: logging.LogRecord) -> str:
        seen: Answered | None = getattr(record, "answered", None)
        if seen is None:
            return record.getMessage()
        return self._form % {name: _plain(read(seen)) for name, read in self._atoms.items()}


def parse_access_format(text: str) -> str:
    """``text``, if it is a format with known atoms. Raises ValueError with a sentence."""
    try:
        names = _names(text)
    except (ValueError, TypeError) as exc:
        raise ValueError(
            f'"{text}" is not a format ({exc}); write atoms like %(h)s, and %% for a percent sign.'
        ) from exc
    for name in names:
        if _reader(name, or_none=True) is None:
            known = " ".join(_ATOMS)
            raise ValueError(
                f"there is no atom %({name})s; there are: {known}, and {{NAME}}i and {{NAME}}o "
                "for a header of the request or the response, {NAME}e for a variable."
            )
    return text


class _Names(dict[str, Any]):
    """Stands in for the values of a format, to see which it asks for."""

    def __missing__(self, name: str) -> Any:
        self[name] = 0 if name in _NUMBERS else "-"
        return self[name]


def _names(form: str) -> list[str]:
    if "%" in re.sub(r"%%|%\(", "", form):
        raise ValueError("there is a % without a name")
    names = _Names()
    form % names
    return list(names)


def _plain(value: Any) -> Any:
    """Text that a client has sent stays within its quotes and on its line."""
    if value is None or value == "":
        return "-"
    if not isinstance(value, str) or (value.isprintable() and '"' not in value):
        return value
    return "".join(map(_plain_character, value))


def _plain_character(c: str) -> str:
    if c == '"':
        return '\\"'
    return c if c.isprintable() else c.encode("unicode_escape").decode()


# -- what an atom means -------------------------------------------------------------------


def _query(seen: Answered) -> str:
    return str(seen.scope["query_string"].decode("latin-1"))


def _target(seen: Answered) -> str:
    path = seen.scope["raw_path"].decode("latin-1")
    query = _query(seen)
    return f"{path}?{query}" if query else path


def _protocol(seen: Answered) -> str:
    return f"HTTP/{seen.scope['http_version']}"


def _user(seen: Answered) -> str | None:
    """Of HTTP Basic (RFC 7617)."""
    scheme, _, credentials = (_header(seen.scope["headers"], b"authorization") or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(credentials.strip()).partition(b":")[0].decode("utf-8", "replace")
    except binascii.Error:
        return None


def _header(headers: Headers, wanted: bytes) -> str | None:
    values = [value.decode("latin-1") for name, value in headers if name.lower() == wanted]
    return ", ".join(values) if values else None


def _seconds_to_6(seen: Answered) -> str:
    return f"{seen.seconds:.6f}"


_ATOMS: dict[str, Callable[[Answered], Any]] = {
    "h": client,
    "l": lambda seen: None,
    "u": _user,
    "t": lambda seen: time.strftime("[%d/%b/%Y:%H:%M:%S %z]"),
    "r": lambda seen: f"{seen.scope['method']} {_target(seen)} {_protocol(seen)}",
    "m": lambda seen: seen.scope["method"],
    "U": lambda seen: seen.scope["path"],
    "q": _query,
    "H": _protocol,
    "s": lambda seen: seen.status,
    "B": lambda seen: seen.size,
    "b": lambda seen: str(seen.size or "-"),
    "f": lambda seen: _header(seen.scope["headers"], b"referer"),
    "a": lambda seen: _header(seen.scope["headers"], b"user-agent"),
    "T": lambda seen: int(seen.seconds),
    "D": lambda seen: int(seen.seconds * 1_000_000),
    "M": lambda seen: int(seen.seconds * 1_000),
    "L": _seconds_to_6,
    "p": lambda seen: f"<{os.getpid()}>",
}
_NUMBERS = frozenset("sBTDM")


def _reader(name: str, or_none: bool = False) -> Any:
    """What reads the atom ``name``. Raises KeyError, or returns None, if there is none."""
    if found := re.fullmatch(r"\{([^{}]+)\}([ioe])", name):
        return _NAMED[found[2]](found[1])
    return _ATOMS.get(name) if or_none else _ATOMS[name]


def _request_header(name: str) -> Callable[[Answered], Any]:
    wanted = name.lower().encode("latin-1", "replace")
    return lambda seen: _header(seen.scope["headers"], wanted)


def _response_header(name: str) -> Callable[[Answered], Any]:
    wanted = name.lower().encode("latin-1", "replace")
    return lambda seen: _header(seen.headers, wanted)


def _variable(name: str) -> Callable[[Answered], Any]:
    """One of CGI's, as a WSGI server would have it (RFC 3875, PEP 3333), or of the process."""
    upper = name.upper()
    if upper.startswith("HTTP_"):
        return _request_header(upper.removeprefix("HTTP_").replace("_", "-"))
    if upper in _CGI:
        return _CGI[upper]
    return lambda seen: os.environ.get(name, os.environ.get(upper))


_NAMED = {"i": _request_header, "o": _response_header, "e": _variable}

_CGI: dict[str, Callable[[Answered], Any]] = {
    "REQUEST_METHOD": _ATOMS["m"],
    "RAW_URI": _target,
    "PATH_INFO": _ATOMS["U"],
    "QUERY_STRING": _query,
    "SCRIPT_NAME": lambda seen: seen.scope.get("root_path"),
    "SERVER_PROTOCOL": _protocol,
    "REMOTE_ADDR": client,
    "REMOTE_PORT": lambda seen: (seen.scope.get("client") or ("", None))[1],
    "SERVER_NAME": lambda seen: (seen.scope.get("server") or ("", None))[0],
    "SERVER_PORT": lambda seen: (seen.scope.get("server") or ("", None))[1],
    "CONTENT_TYPE": _request_header("content-type"),
    "CONTENT_LENGTH": _request_header("content-length"),
    "WSGI.URL_SCHEME": lambda seen: seen.scope["scheme"],
}

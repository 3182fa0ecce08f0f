"""What is said over a control connection: JSON, one object a line.

A client asks ``{"id": 7, "do": "status"}``. The id is of its own choice and comes back with
everything that belongs to the request::

    {"id": 7, "progress": {"stage": "tried", "text": "..."}}    any number of times
    {"id": 8, "event": {...}}                                   after follow, for ever
    {"id": 7, "ok": true, ...}                                  the end, or
    {"id": 7, "ok": false, "error": "One sentence."}            the end

What cannot be understood is answered too, and with ``"id": null`` if not even that was found.
Empty lines are nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

LONGEST_REQUEST = 64 * 1024
"""Bytes of a request, its line break included."""

LONGEST_ID = 64
"""Characters. An id comes back with each line."""

NUMBER_OF_WORKERS = re.compile(r"[+-]?[0-9]{1,4}")
"""So many, or so many more or fewer."""

Id = int | str | None

Message = Mapping[str, Any]
"""One line, as an object."""


class ProtocolError(Exception):
    """The message is one sentence for whoever wrote the client."""

    def __init__(self, sentence: str, id: Id = None) -> None:
        super().__init__(sentence)
        self.id = id


@dataclass(frozen=True, slots=True)
class Request:
    """What a client wants done."""

    id: Id
    do: str
    arguments: Message = field(default_factory=dict)


class Lines:
    """Bytes as they come, and the whole lines in them, but for those that are empty."""

    def __init__(self, longest: int | None = None) -> None:
        """``longest``: bytes of a line; None: no limit."""
        self._longest = longest
        self._rest = bytearray()

    def feed(self, data: bytes) -> None:
        self._rest += data

    def next(self) -> bytes | None:
        """The next whole line, if there is one. Raises ProtocolError for one that is too long,
        whole or not; then there is no telling where the one after it begins."""
        if self._rest[:1].isspace():
            self._rest = self._rest.lstrip()
        end = self._rest.find(b"\n") + 1
        if self._longest is not None and (end or len(self._rest)) > self._longest:
            raise ProtocolError(f"A request has at most {self._longest} bytes.")
        if not end:
            return None
        line = bytes(self._rest[: end - 1])
        del self._rest[:end]
        return line

    def __iter__(self) -> Iterator[bytes]:
        while (line := self.next()) is not None:
            yield line


def encode(message: Message) -> bytes:
    """``message`` as a line. It is ASCII, whatever is in it."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> Message:
    """Raises ProtocolError."""
    try:
        # As text: of bytes json would guess the encoding.
        said = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as exc:
        raise ProtocolError("A line is one JSON object in UTF-8, and this one is not.") from exc
    if not isinstance(said, dict):
        raise ProtocolError("A line is one JSON object, and this one is something else.")
    return said


def read_request(line: bytes) -> Request:
    """Raises ProtocolError."""
    said = dict(decode(line))
    id, do = said.pop("id", None), said.pop("do", None)
    if isinstance(id, bool) or not isinstance(id, int | str | None) or len(str(id)) > LONGEST_ID:
        raise ProtocolError(f'"id" is a number or text of at most {LONGEST_ID} characters.')
    if not isinstance(do, str):
        raise ProtocolError('"do" says in one word what is wanted, such as "status".', id)
    return Request(id, do, said)

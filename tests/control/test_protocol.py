"""The wire: lines, requests, and what is none."""

from __future__ import annotations

import json

import pytest

from forkserve.control.protocol import (
    LONGEST_REQUEST,
    Lines,
    ProtocolError,
    Request,
    decode,
    encode,
    read_request,
)


def test_a_request() -> None:
    line = b'{"id": 7, "do": "scale", "to": "+1"}'
    assert read_request(line) == Request(7, "scale", {"to": "+1"})
    assert read_request(b'{"do": "status"}') == Request(None, "status", {})


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"", "one JSON object"),
        (b"status", "one JSON object"),
        (b"[1]", "something else"),
        (b"7", "something else"),
        (b'"\xff"', "one JSON object"),
        ('{"do": "status"}'.encode("utf-16"), "one JSON object"),
        (b"[" * 60_000, "one JSON object"),
        (b'{"do": ' + b"9" * 60_000 + b"}", "one JSON object"),
        (b"{}", '"do" says'),
        (b'{"do": 1}', '"do" says'),
        (b'{"id": true, "do": "status"}', '"id" is'),
        (b'{"id": [], "do": "status"}', '"id" is'),
        (b'{"id": 1.5, "do": "status"}', '"id" is'),
        (b'{"id": "' + b"x" * 65 + b'", "do": "status"}', '"id" is'),
    ],
)
def test_what_is_no_request_is_told_so(line: bytes, why: str) -> None:
    with pytest.raises(ProtocolError, match=why) as caught:
        read_request(line)
    assert str(caught.value).endswith(".")
    assert caught.value.id is None


def test_the_id_comes_back_with_an_error() -> None:
    with pytest.raises(ProtocolError) as caught:
        read_request(b'{"id": "mine"}')
    assert caught.value.id == "mine"


def test_lines_come_as_they_are_complete() -> None:
    lines = Lines()
    lines.feed(b"one\ntw")
    assert list(lines) == [b"one"]
    lines.feed(b"o\n\n \t\r\nthree")
    assert list(lines) == [b"two"]  # what is empty is none
    assert lines.next() is None
    lines.feed(b" \n")
    assert list(lines) == [b"three "]


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_line_that_is_too_long_is_noticed_before_its_end(end: bytes) -> None:
    lines = Lines(LONGEST_REQUEST)
    lines.feed(b"x" * (LONGEST_REQUEST - 1) + b"\n")
    assert len(list(lines)) == 1
    lines.feed(b"x" * LONGEST_REQUEST)
    assert lines.next() is None
    lines.feed(b"x" + end)
    with pytest.raises(ProtocolError, match="at most 65536 bytes"):
        lines.next()


def test_what_is_written_is_one_line_of_ascii() -> None:
    message = {"id": 1, "text": "zwei\nZeilen – \udcff"}
    line = encode(message)
    assert line.isascii()
    assert line.count(b"\n") == 1
    assert decode(line) == message == json.loads(line)

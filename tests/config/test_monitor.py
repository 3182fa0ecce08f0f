"""Where the monitor listens, and its token."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from forkserve.config.bind import Bind, UnixBind
from forkserve.config.monitor import (
    LONGEST_TOKEN,
    TokenError,
    is_private,
    parse_monitor,
    read_token,
    wipe,
)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("9000", Bind("127.0.0.1", 9000)),
        (":9000", Bind("127.0.0.1", 9000)),
        ("0.0.0.0:9000", Bind("0.0.0.0", 9000)),
        ("[::1]:9000", Bind("::1", 9000)),
        ("unix:/run/m.sock", UnixBind("/run/m.sock")),
    ],
)
def test_addresses(text: str, where: Bind | UnixBind) -> None:
    assert parse_monitor(text) == where


@pytest.mark.parametrize("text", ["", "fd://3", "http://127.0.0.1:9000", "99999", "host"])
def test_what_is_no_address_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r"; write|is a URL|out of range|has no port"):
        parse_monitor(text)


@pytest.mark.parametrize(
    ("text", "private"),
    [
        ("9000", True),
        ("localhost:9000", True),
        ("[::1]:9000", True),
        ("unix:m.sock", True),
        ("0.0.0.0:9000", False),
        ("[::]:9000", False),
        ("10.0.0.1:9000", False),
        ("example.org:9000", False),
    ],
)
def test_whether_others_can_connect(text: str, private: bool) -> None:
    assert is_private(parse_monitor(text)) is private


@pytest.mark.parametrize("content", [b"secret-1", b"secret-1\n", b"\n  secret-1 \r\n"])
def test_a_token_is_read_without_the_space_around_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "token").write_bytes(content)
    token = read_token(str(tmp_path / "token"))
    assert token == b"secret-1"
    wipe(token)
    assert token == bytes(8)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (b" \n", "holds no token"),
        (b"open sesame", "holds no token"),
        ("schlüssel".encode(), "holds no token"),
        (b"x" * (LONGEST_TOKEN + 1), "is longer than"),
    ],
)
def test_what_is_no_token(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(TokenError, match=why) as refused:
        read_token(str(tmp_path / "token"))
    assert "sesame" not in str(refused.value).replace(
        str(tmp_path), ""
    )  # nothing of what is in the file


def test_a_token_that_cannot_be_had(tmp_path: Path) -> None:
    with pytest.raises(TokenError, match="No such file"):
        read_token(str(tmp_path / "missing"))
    with pytest.raises(TokenError, match=r"Is a directory|is no file"):
        read_token(str(tmp_path))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TokenError, match="is no file"):
        read_token(str(tmp_path / "pipe"))

from __future__ import annotations

import re

import pytest

from forkserve.config.bind import AnyBind, Bind, InheritedBind, UnixBind, parse_bind


@pytest.mark.parametrize(
    ("text", "host", "port", "shown"),
    [
        ("127.0.0.1:8000", "127.0.0.1", 8000, "127.0.0.1:8000"),
        ("localhost:0", "localhost", 0, "localhost:0"),
        (":80", "0.0.0.0", 80, "0.0.0.0:80"),
        ("[::1]:8000", "::1", 8000, "[::1]:8000"),
        ("[::]:65535", "::", 65535, "[::]:65535"),
        ("[fe80::1%lo]:1", "fe80::1%lo", 1, "[fe80::1%lo]:1"),
        (" a.example:8000\n", "a.example", 8000, "a.example:8000"),
    ],
)
def test_reads_and_shows(text: str, host: str, port: int, shown: str) -> None:
    bind = parse_bind(text)
    assert bind == Bind(host, port)
    assert str(bind) == shown
    assert parse_bind(shown) == bind


@pytest.mark.parametrize(
    ("text", "meant", "shown"),
    [
        ("unix:/run/app.sock", UnixBind("/run/app.sock"), "unix:/run/app.sock"),
        ("unix:app.sock", UnixBind("app.sock"), "unix:app.sock"),
        ("unix:a:b c", UnixBind("a:b c"), "unix:a:b c"),
        ("unix:///run/app.sock", UnixBind("/run/app.sock"), "unix:/run/app.sock"),
        ("unix:@forkserve/a", UnixBind("@forkserve/a"), "unix:@forkserve/a"),
        ("fd://3", InheritedBind("3"), "fd://3"),
        ("fd://web.socket", InheritedBind("web.socket"), "fd://web.socket"),
    ],
)
def test_reads_sockets_of_other_kinds(text: str, meant: AnyBind, shown: str) -> None:
    bind = parse_bind(text)
    assert bind == meant
    assert str(bind) == shown
    assert parse_bind(shown) == bind


def test_what_kind_of_name_it_is() -> None:
    assert UnixBind("@a").abstract
    assert not UnixBind("a@").abstract
    assert InheritedBind("3").descriptor == 3
    assert InheritedBind("web").descriptor is None


@pytest.mark.parametrize(
    ("text", "wrong", "instead"),
    [
        ("", "is empty", '"127.0.0.1:8000"'),
        ("  ", "is empty", '"127.0.0.1:8000"'),
        ("localhost", "has no port", '"localhost:8000"'),
        ("localhost:", "has no port", '"localhost:8000"'),
        (":", "has no port", '":8000"'),
        ("8000", "only a number", '":8000"'),
        ("h:http", '"http" is not a number', '"h:8000"'),
        ("h:-1", '"-1" is not a number', '"h:8000"'),
        ("h:+80", '"+80" is not a number', '"h:8000"'),
        ("h:8_0", '"8_0" is not a number', '"h:8000"'),
        ("h:٨٠", "is not a number", '"h:8000"'),
        ("h:65536", '"65536" is out of range', "0 to 65535"),
        ("h:" + "9" * 5000, "is out of range", "0 to 65535"),
        ("[::1]:x", '"x" is not a number', '"[::1]:8000"'),
        ("::1", "without brackets", '"[::1]:8000"'),
        ("::1:9000", "without brackets", '"[::1]:9000"'),
        (":::9000", "without brackets", '"[::]:9000"'),
        ("fe80::1", "without brackets", '"[fe80::1]:8000"'),
        ("a:b:c", "too many colons", '"127.0.0.1:8000"'),
        ("[::1]", "has no port", '"[::1]:8000"'),
        ("[::1]:", "has no port", '"[::1]:8000"'),
        ("[::1]8000", 'no ":" after "]"', '"[::1]:8000"'),
        ("[::1:8000", "no IPv6 address in brackets", '"[::1]:8000"'),
        ("[127.0.0.1]:8000", "no IPv6 address in brackets", '"[::1]:8000"'),
        ("[]:8000", "no IPv6 address in brackets", '"[::1]:8000"'),
        ("unix:", "has no path", '"unix:/run/app.sock"'),
        ("unix:@", "has no path", '"unix:/run/app.sock"'),
        ("unix:/run/", "is a directory", '"unix:/run/app.sock"'),
        ("unix:a\0b", "null byte", "leave it out"),
        ("fd://", "no number or name", '"fd://3"'),
        ("fd://-1 2", "neither a number nor a name", '"fd://web"'),
        ("fd://a:b", "neither a number nor a name", '"fd://web"'),
        ("fd://" + "9" * 5000, "is no descriptor", '"fd://3"'),
        ("http://localhost:8000", "is a URL", '"127.0.0.1:8000"'),
    ],
    ids=lambda text: text[:24],
)
def test_refuses_with_one_sentence(text: str, wrong: str, instead: str) -> None:
    with pytest.raises(ValueError, match=re.escape(wrong)) as caught:
        parse_bind(text)
    message = str(caught.value)
    assert instead in message
    assert message.endswith(".")
    assert "\n" not in message

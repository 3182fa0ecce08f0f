"""gunicorn's atoms."""

from __future__ import annotations

import base64
import logging
import os
import re
from typing import Any

import pytest

from forkserve.logs.atoms import Answered, AtomFormatter, parse_access_format

HEADERS = [
    (b"host", b"example.org"),
    (b"user-agent", b'curl "7"'),
    (b"x-many", b"1"),
    (b"x-many", b"2"),
    (b"authorization", b"Basic " + base64.b64encode(b"joe\n127.0.0.1:secret")),
]
SCOPE: dict[str, Any] = {
    "type": "http",
    "method": "GET",
    "path": "/a b\n",
    "raw_path": b"/a%20b%0A",
    "query_string": b"x=1",
    "http_version": "1.1",
    "scheme": "http",
    "client": ("192.0.2.7", 4711),
    "server": ("127.0.0.1", 8000),
    "headers": HEADERS,
}


def line(form: str, **more: Any) -> str:
    seen: dict[str, Any] = {"headers": [(b"X-Powered-By", b"steam")], "size": 12, "seconds": 1.5}
    record = logging.LogRecord("x", logging.INFO, "", 0, "", None, None)
    record.answered = Answered(SCOPE, 200, **(seen | more))
    return AtomFormatter(parse_access_format(form)).format(record)


def test_the_request() -> None:
    assert line('%(h)s %(l)s "%(r)s" %(m)s %(q)s %(H)s') == (
        '192.0.2.7 - "GET /a%20b%0A?x=1 HTTP/1.1" GET x=1 HTTP/1.1'
    )


def test_the_response_and_its_time() -> None:
    assert line("%(s)s %(B)s %(b)s %(T)s %(D)s %(M)s %(L)s") == "200 12 12 1 1500000 1500 1.500000"
    assert line("%(B)s %(b)s", size=0) == "0 -"


def test_headers_are_found_however_they_are_written() -> None:
    assert line("%({Host}i)s %({X-Many}i)s %({x-powered-by}o)s %({nope}i)s") == (
        "example.org 1, 2 steam -"
    )


def test_a_client_cannot_leave_its_quotes_or_its_line() -> None:
    assert line('"%(a)s" %(u)s %(U)s') == r'"curl \"7\"" joe\n127.0.0.1 /a b\n'


def test_variables_are_those_of_cgi_and_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORKSERVE_SLOT", "3")
    form = "%({REMOTE_PORT}e)s %({wsgi.url_scheme}e)s %({HTTP_HOST}e)s %({forkserve_slot}e)s"
    assert line(form) == "4711 http example.org 3"


def test_time_and_pid() -> None:
    assert re.fullmatch(r"\[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\]", line("%(t)s"))
    assert line("%(p)s") == f"<{os.getpid()}>"


def test_the_format_is_pythons() -> None:
    assert line("100%% %(s)5s|%(D)d") == "100%   200|1500000"


@pytest.mark.parametrize("form", ["%(x)s", "%(h)s %({host}z)s", "%(request)s", "%({}i)s"])
def test_an_unknown_atom_is_refused(form: str) -> None:
    with pytest.raises(ValueError, match="there is no atom"):
        parse_access_format(form)


@pytest.mark.parametrize("form", ["%(h)", "50%", "%s", "%(a)d", "%("])
def test_what_is_no_format_is_refused(form: str) -> None:
    with pytest.raises(ValueError, match="is not a format"):
        parse_access_format(form)


def test_the_facts_of_json_have_these_keys() -> None:
    told = Answered(SCOPE | {"client": None}, 404, (), 0, 0.0012345678).facts()
    assert told == {
        "client": None,
        "method": "GET",
        "path": "/a b\n",
        "query": "x=1",
        "version": "1.1",
        "status": 404,
        "bytes": 0,
        "duration": 0.001235,
        "referer": None,
        "user_agent": 'curl "7"',
    }

"""Who gets in: the token, the names that a browser may have used, and what browsers are told."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from forkserve.monitor import page

OPEN = ("/livez", "/readyz")
"""For who checks health, and has no place for a token."""

COOKIE = "forkserve_monitor_"
"""Begins the cookie's name. Browsers keep cookies by host and not by port, so those of several
monitors on one machine have to differ."""


class Token:
    """What everybody has to know, and what a browser keeps instead."""

    def __init__(self, token: bytes) -> None:
        self._key = token
        self.cookie = self._derived(b"forkserve's dashboard")
        self.cookie_name = COOKIE + self._derived(b"its name")[:8]

    def _derived(self, purpose: bytes) -> str:
        """From which nobody can tell the token."""
        return hmac.new(self._key, purpose, hashlib.sha256).hexdigest()

    def is_right(self, said: str) -> bool:
        return hmac.compare_digest(_digest(self._key), _digest(said.encode("utf-8", "replace")))

    def is_known_to(self, headers: Headers) -> bool:
        """By ``Authorization: Bearer``, or by the cookie."""
        scheme, _, said = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.is_right(said.strip()):
            return True
        kept = _cookie(headers.get("cookie", ""), self.cookie_name)
        return hmac.compare_digest(_digest(self.cookie.encode()), _digest(kept.encode()))


class Doors:
    """An ASGI app in front of another, which only those reach who may."""

    def __init__(self, app: ASGIApp, token: Token | None, only_local_names: bool) -> None:
        """``only_local_names``: nobody but this machine can connect, and no token is asked
        for. A page of somebody else's, in a browser on this machine, could then read all of
        it by having its own name lead here (DNS rebinding); so only names are answered that
        nobody can own."""
        self._app = app
        self._token = token
        self._only_local_names = only_local_names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        refusal = None if request.url.path in OPEN else self._refusal(request)

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                _tell_browsers(MutableHeaders(scope=message))
            await send(message)

        await (refusal or self._app)(scope, receive, send_on)

    def _refusal(self, request: Request) -> Response | None:
        if self._only_local_names and not is_local_name(request.headers.get("host", "")):
            sentence = "Only localhost and IP addresses are answered without --monitor-token.\n"
            return PlainTextResponse(sentence, 421)
        if self._token is None or self._token.is_known_to(request.headers):
            return None
        said = request.query_params.get("token", "")
        if request.url.path == "/" and said and self._token.is_right(said):
            return self._admission()
        return _closed(request)

    def _admission(self) -> Response:
        assert self._token is not None
        response = RedirectResponse("./", 303)
        token = self._token
        response.set_cookie(token.cookie_name, token.cookie, httponly=True, samesite="strict")
        return response


def is_local_name(host: str) -> bool:
    """Whether a Host header (RFC 9110, 7.2) is an address, or localhost; or missing."""
    name = re.sub(r"(?<=\])$|(?<=\]):\d*$|^([^:]*):\d*$", r"\1", host).strip("[]").lower()
    if name in ("", "localhost") or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _closed(request: Request) -> Response:
    challenge = {"www-authenticate": 'Bearer realm="forkserve"'}
    sentence = "A token is needed: Authorization: Bearer TOKEN, or in a browser /?token=TOKEN\n"
    return PlainTextResponse(sentence, 401, challenge)


def _cookie(header: str, name: str) -> str:
    try:
        found = SimpleCookie(header).get(name)
    except CookieError:
        return ""
    return found.value if found else ""


def _digest(secret: bytes) -> bytes:
    # Of one length, so that comparing them does not tell the other's.
    return hashlib.sha256(secret).digest()


def _tell_browsers(headers: MutableHeaders) -> None:
    headers["cache-control"] = "no-store"
    headers["content-security-policy"] = page.POLICY
    headers["x-content-type-options"] = "nosniff"
    headers["referrer-policy"] = "no-referrer"
    headers["cross-origin-resource-policy"] = "same-origin"

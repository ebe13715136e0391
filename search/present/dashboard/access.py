"""Access control of the dashboard, applied before any route.

    method      GET, HEAD, POST
    Host        a name of this machine: another name may be a foreign page whose address was made to point here
    Origin      absent or our own; a browser's Sec-Fetch-Site must not say that another site is asking
    token       where one is set: a cookie that /?token=... gives, or `Authorization: Bearer`
    POST        JSON of at most 64 kB, so that a plain HTML form of another site cannot send it

Every answer carries the headers that keep it from being framed, sniffed or read by other sites.
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

METHODS = frozenset({"GET", "HEAD", "POST"})
MOST_BODY = 65_536
COOKIE = "paretoprune_token"
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_CLOSED = "default-src 'none'; frame-ancestors 'none'; sandbox"
"""The policy of every answer that does not bring its own."""


@dataclass(frozen=True)
class ListenAddress:
    """Where the dashboard listens, and its access token (empty: none, on the loopback only)."""

    host: str = "127.0.0.1"
    port: int = 8060
    token: str = field(default="", repr=False)

    @property
    def is_loopback(self) -> bool:
        """True if only this machine can reach it."""
        return self.host in _LOOPBACK

    def knows(self, name: str) -> bool:
        """Return whether a Host header's name is ours: when listening everywhere, plain addresses and our own names."""
        if name in _LOOPBACK or name == self.host.lower():
            return True
        return not self.is_loopback and (
            _is_address(name) or name in {socket.gethostname().lower(), socket.getfqdn().lower()}
        )


class AccessGuard:
    """ASGI middleware that admits only what `ListenAddress` allows."""

    def __init__(self, app: ASGIApp, address: ListenAddress) -> None:
        self._app = app
        self._address = address

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # no web sockets here

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("Content-Security-Policy", _CLOSED)
            await send(message)

        answer = self._refusal(scope)
        await (answer or self._app)(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if scope["method"] not in METHODS:
            return PlainTextResponse("method not allowed", 405, {"Allow": ", ".join(sorted(METHODS))})
        if not self._address.knows(_name_of(headers.get("host", ""))):
            return PlainTextResponse("this is not a name of this machine", 403)
        if not _same_site(headers, scope):
            return PlainTextResponse("another site is asking", 403)
        if scope["method"] == "POST" and (fault := _body_fault(headers)):
            return PlainTextResponse(*fault)
        return self._ask_for_token(headers, scope)

    def _ask_for_token(self, headers: Headers, scope: Scope) -> Response | None:
        token = self._address.token
        if not token:
            return None
        offered = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["path"] == "/" and offered and hmac.compare_digest(offered.encode(), token.encode()):
            answer = RedirectResponse("/", 303)
            answer.set_cookie(COOKIE, token, httponly=True, samesite="strict")
            return answer
        if any(hmac.compare_digest(one.encode(), token.encode()) for one in _offered(headers)):
            return None
        return PlainTextResponse("open the address with its token: http://HOST:PORT/?token=...", 401)


def _offered(headers: Mapping[str, str]) -> list[str]:
    bearer = headers.get("authorization", "")
    found = [bearer[len("Bearer ") :]] if bearer.startswith("Bearer ") else []
    try:
        cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        cookie = None
    return [*found, *([cookie.value] if cookie else [])]


def _same_site(headers: Mapping[str, str], scope: Scope) -> bool:
    origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
    if origin is not None and _place_of(origin) != headers.get("host", "").lower():
        return False
    is_link = scope["method"] == "GET" and scope["path"] == "/" and headers.get("sec-fetch-mode") == "navigate"
    return site in ("none", "same-origin") or is_link


def _body_fault(headers: Mapping[str, str]) -> tuple[str, int] | None:
    if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        return "expected application/json", 415
    length = headers.get("content-length", "")
    if not length.isdecimal():
        return "expected a Content-Length", 411
    return ("at most 64 kB", 413) if len(length) > 9 or int(length) > MOST_BODY else None


def _place_of(origin: str) -> str | None:
    """Return host and port of an Origin header; None if it is no address."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def _name_of(host: str) -> str:
    """Return the name in a Host header, without its port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True

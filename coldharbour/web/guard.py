"""The door of the pages: wraps every answer in security headers and refuses requests that other sites caused.

There is no login yet, so only loopback names are answered: a name that an attacker points at 127.0.0.1
(DNS rebinding) is turned away, and so is whatever a foreign page asks for in the background.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from ipaddress import ip_address
from typing import Any

# The types of ASGI, as loosely as every server and framework agrees on them.
Scope = Any
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Application = Callable[[Any, Any, Any], Awaitable[None]]

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
OWN_SITES = frozenset({b"same-origin", b"none", b""})


def is_loopback(host: str) -> bool:
    """Say whether a host name or address can only be reached from this machine."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """The outermost application: lets in what this machine's own browser asks for, and nothing else."""

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        guarded = _with_headers(send)
        refusal = _refusal(scope)
        if refusal is None:
            await self._application(scope, receive, guarded)
            return
        status, reason = refusal
        await guarded(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [(b"content-type", b"text/plain; charset=utf-8")],
            }
        )
        await guarded({"type": "http.response.body", "body": reason.encode()})


def _refusal(scope: Scope) -> tuple[int, str] | None:
    headers = dict(scope["headers"])
    host = headers.get(b"host", b"").decode("latin-1")
    if not is_loopback(_without_port(host)):
        return 400, f"this server does not answer for the host {host!r}: use http://localhost or http://127.0.0.1"
    navigates = headers.get(b"sec-fetch-mode") == b"navigate"
    if headers.get(b"sec-fetch-site", b"") not in OWN_SITES and not navigates:
        return 403, "only this server's own pages may ask for that"
    return None


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()


def _with_headers(send: Send) -> Send:
    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = list(message.get("headers", []))
            caching = () if any(name == b"cache-control" for name, _ in given) else ((b"cache-control", b"no-store"),)
            message = {**message, "headers": [*given, *HEADERS, *caching]}
        await send(message)

    return guarded

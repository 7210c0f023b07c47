"""The outermost application: turns away what must not come in, and wraps every answer in security headers.

A name that an attacker points at this machine (DNS rebinding), a foreign page's request in the background, a body
too large, a form that these pages did not make: none of them reaches a route. Who may come in is the door's to say.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs, quote

import anyio
import structlog

from coldharbour.errors import Transient
from coldharbour.web.access.door import LOGIN, Asked, Door
from coldharbour.web.access.visitor import Visitor

# The types of ASGI, as loosely as every server and framework agrees on them.
Scope = Any
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Application = Callable[[Any, Any, Any], Awaitable[None]]

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),  # "no-referrer" makes browsers send forms with "Origin: null"
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
OWN_SITES = frozenset({"same-origin", "none", ""})
BODY_LIMIT = 65_536  # bytes; the largest form has a few hundred
RECHECK_S = 5.0  # how long a stream may outlive its login

log = structlog.get_logger(__name__)


class Refused(Exception):
    """A request that reaches no route, and what it is told."""

    def __init__(self, status: int, reason: str, location: str = "") -> None:
        self.status, self.reason, self.location = status, reason, location
        super().__init__(reason)


class Guard:
    """Lets in what the door and the rules of the web allow, and nothing else."""

    def __init__(self, application: Application, door: Door) -> None:
        self._application, self._door = application, door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI); routes find the visitor in the scope as "user", None for a stranger."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        guarded = _with_headers(send)
        asked = asked_of(scope)
        try:
            self._check(asked)
            visitor = await self._visitor(asked)
            if asked.writes:
                receive = await self._checked_form(asked, visitor, receive)
        except Refused as refused:
            await _refuse(guarded, refused)
            return
        scope = {**scope, "user": visitor}
        if visitor is None or self._door.auth.mode == "none":
            await self._application(scope, receive, guarded)
        else:
            await self._serve_while_in(visitor, scope, receive, guarded)

    def _check(self, asked: Asked) -> None:
        """Raise Refused for what no visitor may ask."""
        if not self._door.answers_for(asked.host) and asked.path != "/healthz":
            raise Refused(400, f"this server does not answer for the host {asked.host!r}: use http://localhost or "
                               "http://127.0.0.1, or name its address in [web] origins")  # fmt: skip
        if not asked.text(b"content-length").strip().isdigit() and b"content-length" in asked.headers:
            raise Refused(400, "the length of the body is no number")
        if int(asked.text(b"content-length") or 0) > BODY_LIMIT:
            raise Refused(413, f"a body has at most {BODY_LIMIT} bytes here")
        navigates = asked.text(b"sec-fetch-mode") == "navigate" and not asked.writes
        if asked.text(b"sec-fetch-site") not in OWN_SITES and not navigates:
            raise Refused(403, "only this server's own pages may ask for that")
        if asked.writes and b"origin" in asked.headers and not self._door.is_own(asked.text(b"origin"), asked.host):
            raise Refused(403, "only a form of this server's own pages may change something")
        if self._door.is_too_much(asked):
            raise Refused(429, "too many requests: wait a little")

    async def _visitor(self, asked: Asked) -> Visitor | None:
        """Return who asks, None where strangers may. Raises Refused for a stranger anywhere else."""
        is_open = self._door.is_open(asked)
        if is_open and asked.path != LOGIN:
            return None
        try:
            visitor = await self._door.visitor(asked)
        except Transient as error:
            raise Refused(503, "the database does not answer, so nobody can be recognized: try again soon") from error
        if visitor is not None or is_open:
            return visitor
        if self._door.auth.mode != "password":
            raise Refused(401, STRANGERS[self._door.auth.mode])
        if asked.writes or asked.text(b"sec-fetch-mode") not in ("navigate", "") or not _wants_html(asked):
            raise Refused(401, "log in first: /login")
        raise Refused(303, "log in first", f"{LOGIN}?next={quote(asked.path, safe='/')}")

    async def _checked_form(self, asked: Asked, visitor: Visitor | None, receive: Receive) -> Receive:
        """Return the body again for the routes. Raises Refused unless it carries the token of this session's form."""
        body = await _read(receive)
        token = asked.text(b"x-csrf-token")
        if not token and asked.text(b"content-type").startswith("application/x-www-form-urlencoded"):
            token = _field(body, "token")
        if not self._door.forms.fits(token, self._door.form_session(asked, visitor)):
            raise Refused(403, "this form is not of this session, or older than the server: reload the page, try again")
        return _again(body, receive)

    async def _serve_while_in(self, visitor: Visitor, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve; a stream, which outlives its request, ends with its login."""
        is_stream = is_finished = False
        async with anyio.create_task_group() as tasks:

            async def watched(message: Message) -> None:
                nonlocal is_stream, is_finished
                await send(message)
                if message["type"] == "http.response.start" and _is_stream(message):
                    is_stream = True
                    tasks.start_soon(self._until_out, visitor, tasks.cancel_scope)
                is_finished = message["type"] == "http.response.body" and not message.get("more_body", False)

            await self._application(scope, receive, watched)
            tasks.cancel_scope.cancel()
        if is_stream and not is_finished:
            await send({"type": "http.response.body", "body": b""})

    async def _until_out(self, visitor: Visitor, serving: anyio.CancelScope) -> None:
        while True:
            with anyio.move_on_after(RECHECK_S):
                await (visitor.left or anyio.Event()).wait()
            try:
                is_in = await self._door.is_still_in(visitor)
            except Transient:  # what cannot be looked up stays as it was, until its own end
                continue
            if not is_in:
                log.info("web.stream_ended", visitor=visitor.name, reason="the login has ended")
                serving.cancel()
                return


STRANGERS = {
    "none": "this came through a proxy, and the pages have no login: set [web.auth], see docs/configuration.md",
    "proxy": "the proxy did not say who you are",
    "cloudflare": "Cloudflare Access did not vouch for you",
}


def asked_of(scope: Scope) -> Asked:
    """Return what the door looks at of an ASGI request."""
    return Asked(
        method=scope["method"],
        path=scope["path"],
        headers=dict(scope["headers"]),
        peer=(scope.get("client") or ("", 0))[0],
    )


def _wants_html(asked: Asked) -> bool:
    return "text/html" in asked.text(b"accept") and b"hx-request" not in asked.headers


def _is_stream(message: Message) -> bool:
    return any(
        name.lower() == b"content-type" and value.startswith(b"text/event-stream") for name, value in message["headers"]
    )


async def _read(receive: Receive) -> bytes:
    """Return the whole body. Raises Refused for one that grows too large, or whose sender went away."""
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused(400, "the request ended in the middle")
        body += bytes(message.get("body", b""))
        if len(body) > BODY_LIMIT:
            raise Refused(413, f"a body has at most {BODY_LIMIT} bytes here")
        if not message.get("more_body", False):
            return body


def _field(body: bytes, name: str) -> str:
    try:
        return parse_qs(body.decode("latin-1"), max_num_fields=50).get(name, [""])[0]
    except ValueError:
        return ""


def _again(body: bytes, receive: Receive) -> Receive:
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Any:
        return waiting.pop() if waiting else await receive()

    return replay


async def _refuse(send: Send, refused: Refused) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
    if refused.location:
        headers.append((b"location", refused.location.encode()))
    if refused.status in (429, 503):
        headers.append((b"retry-after", b"5"))
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": refused.reason.encode()})


def _with_headers(send: Send) -> Send:
    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = list(message.get("headers", []))
            caching = () if any(name == b"cache-control" for name, _ in given) else ((b"cache-control", b"no-store"),)
            message = {**message, "headers": [*given, *HEADERS, *caching]}
        await send(message)

    return guarded

"""The door: decides for each request who asks and whether they may, by the configured way of proof; shows nothing."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from coldharbour.access import is_loopback
from coldharbour.clock import Clock
from coldharbour.db import Database
from coldharbour.sections import AuthSettings, WebSettings
from coldharbour.settings import Configuration
from coldharbour.web.access import cloudflare
from coldharbour.web.access.cloudflare import CloudflareAccess, KeyRing, fetch_keys
from coldharbour.web.access.limits import Lockout, Rate, address_key
from coldharbour.web.access.passwords import Passwords
from coldharbour.web.access.proxies import Proxies, was_forwarded
from coldharbour.web.access.sessions import Sessions
from coldharbour.web.access.visitor import FormTokens, Visitor

NOBODY = Visitor("this machine", "loopback")  # without a login, whoever may open a loopback connection
LOGIN = "/login"
OPEN = ("/healthz", LOGIN)
LOCAL = ("/readyz", "/metrics", "/schema")  # this machine's own probes need no login
SESSION, FORM = "session", "form"
READS = frozenset({"GET", "HEAD", "OPTIONS"})
REQUESTS_PER_S, REQUESTS_AT_ONCE = 50.0, 500
LOGINS_PER_S, LOGINS_AT_ONCE = 0.2, 10
ACCOUNT_WAITS_S, ADDRESS_WAITS_S = 60.0, 900.0  # an account's wait is short: strangers can cause it


@dataclass(frozen=True, slots=True)
class Asked:
    """What the door looks at of a request."""

    method: str
    path: str
    headers: Mapping[bytes, bytes]
    peer: str

    def text(self, header: bytes) -> str:
        """Return a header as text, empty without it."""
        return self.headers.get(header, b"").decode("latin-1")

    @property
    def host(self) -> str:
        """The host that the browser meant, with its port."""
        return self.text(b"host").lower()

    @property
    def writes(self) -> bool:
        """Whether the request may change something."""
        return self.method not in READS

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies by name; none if they cannot be read."""
        try:
            return {name: morsel.value for name, morsel in SimpleCookie(self.text(b"cookie")).items()}
        except CookieError:
            return {}


class Door:
    """Who may come in. One per process: it remembers failures, rates and logins."""

    def __init__(
        self, web: WebSettings, *, clock: Clock, passwords: Passwords, sessions: Sessions, keys: KeyRing
    ) -> None:
        self.web, self.clock, self.passwords, self.sessions = web, clock, passwords, sessions
        self.forms = FormTokens(secrets.token_bytes(32))
        self.by_account, self.by_address = Lockout(ACCOUNT_WAITS_S), Lockout(ADDRESS_WAITS_S)
        self._proxies = Proxies(web.auth.proxies)
        self._cloudflare = CloudflareAccess(web.auth.team, web.auth.audience, keys, clock)
        self._requests = Rate(REQUESTS_PER_S, REQUESTS_AT_ONCE)
        self._logins = Rate(LOGINS_PER_S, LOGINS_AT_ONCE)
        self._origins = {urlsplit(origin).netloc.lower(): origin.lower() for origin in web.origins}

    @property
    def auth(self) -> AuthSettings:
        """The configured way of proof."""
        return self.web.auth

    def answers_for(self, host: str) -> bool:
        """Say whether the pages are served under this host: a configured origin's, or a loopback name."""
        return host in self._origins or is_loopback(without_port(host))

    def is_own(self, origin: str, host: str) -> bool:
        """Say whether an Origin header names these pages: a configured origin, or the loopback host that was asked."""
        is_asked = origin.lower() == f"http://{host}" and is_loopback(without_port(host))
        return is_asked or origin.lower() in self._origins.values()

    def cookie_name(self, kind: str, host: str) -> str:
        """Return what a cookie is called for a host: over https it is bound to exactly that host."""
        return f"__Host-coldharbour-{kind}" if self._is_secure(host) else f"coldharbour-{kind}"

    def set_cookie(self, kind: str, host: str, value: str) -> str:
        """Return a Set-Cookie header; an empty value removes the cookie."""
        ends = f"; Max-Age={int(self.auth.session_limit_s) if value else 0}"
        secure = "; Secure" if self._is_secure(host) else ""
        return f"{self.cookie_name(kind, host)}={value}; Path=/; HttpOnly; SameSite=Strict{ends}{secure}"

    def address(self, asked: Asked) -> str:
        """Return what counts as the visitor's address."""
        return address_key(self._proxies.visitor_address(asked.peer, asked.headers))

    def is_too_much(self, asked: Asked) -> bool:
        """Count a request, and say whether its address asks too often."""
        if self.auth.mode == "none":  # this machine alone is served
            return False
        now_s, address = self.clock.monotonic(), self.address(asked)
        if asked.writes and asked.path == LOGIN and not self._logins.allows(address, now_s):
            return True
        return not self._requests.allows(address, now_s)

    def is_open(self, asked: Asked) -> bool:
        """Say whether a path is served to strangers: the probe of the process, the login and its looks."""
        if asked.path in OPEN or asked.path.startswith("/static/"):
            return True
        is_probe = asked.path in LOCAL or asked.path.startswith("/schema/")
        return is_probe and not asked.writes and self._is_this_machine(asked)

    async def visitor(self, asked: Asked) -> Visitor | None:
        """Return who asks, None if they did not prove it. Raises Transient if a login cannot be looked up."""
        match self.auth.mode:
            case "none":
                return None if was_forwarded(asked.headers) else NOBODY
            case "password":
                cookie = asked.cookies.get(self.cookie_name(SESSION, asked.host), "")
                return await self.sessions.find(cookie) if cookie else None
            case "proxy":
                name = self._proxies.visitor_name(asked.peer, asked.headers, self.auth.user_header)
                ends = self.clock.now() + timedelta(seconds=self.auth.session_limit_s)
                return Visitor(name, f"proxy {name}", ends) if name else None
            case "cloudflare":
                assertion = asked.text(cloudflare.HEADER)
                return await self._cloudflare.visitor(assertion) if assertion else None

    async def is_still_in(self, visitor: Visitor) -> bool:
        """Say whether a visitor who came in a while ago may stay. Raises Transient if that cannot be looked up."""
        if visitor.until is not None and self.clock.now() >= visitor.until:
            return False
        return self.auth.mode != "password" or await self.sessions.find(visitor.session) is not None

    def form_session(self, asked: Asked, visitor: Visitor | None) -> str:
        """Return what the tokens of this request's forms are bound to: the login, or the cookie of the login page."""
        if visitor is not None:
            return visitor.session
        return "stranger " + asked.cookies.get(self.cookie_name(FORM, asked.host), "")

    def _is_secure(self, host: str) -> bool:
        return self._origins.get(host, "").startswith("https://")

    def _is_this_machine(self, asked: Asked) -> bool:
        return (
            is_loopback(asked.peer) and is_loopback(without_port(asked.host)) and not was_forwarded(asked.headers)
        )  # fmt: skip


def open_door(configuration: Configuration, db: Database, clock: Clock) -> Door:
    """Return the door that a configuration describes."""
    web = configuration.settings.web
    url = f"https://{web.auth.team}.cloudflareaccess.com/cdn-cgi/access/certs"
    return Door(
        web,
        clock=clock,
        passwords=Passwords(configuration.password_hashes),
        sessions=Sessions(db, clock, web.auth),
        keys=KeyRing(lambda: fetch_keys(url), clock),
    )


def without_port(host: str) -> str:
    """Return a Host header's name or address."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()

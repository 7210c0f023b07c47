"""A visitor of the pages with a password: sends what a browser would, cookie by cookie, and nothing by itself."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache

import httpx
from pydantic import SecretStr

from coldharbour.sections import AuthSettings, WebSettings
from coldharbour.web.access.passwords import hash_password

ORIGIN = "https://room.example.org"
HOST = "room.example.org"
PASSWORD = "CANARY-4711 horse battery staple"
TOKEN = re.compile(r'name="token" value="([0-9a-f]{64})"')


def with_passwords(**more: object) -> WebSettings:
    """Return the settings of pages that ask for a password."""
    auth = AuthSettings(mode="password", users=("anna", "ben"))
    return WebSettings(origins=(ORIGIN,), auth=auth.model_copy(update=more.pop("auth", {})), **more)  # type: ignore[arg-type]


@cache
def hashes() -> dict[str, SecretStr]:
    """Return the password hashes of those who may log in; both have the same password."""
    return {user: SecretStr(hash_password(PASSWORD)) for user in ("anna", "ben")}


def token_of(response: httpx.Response) -> str:
    """Return the token of the form on a page."""
    found = TOKEN.search(response.text)
    assert found, response.text
    return found[1]


@dataclass
class Visitor:
    """One browser's view of the pages at `url`."""

    url: str
    client: httpx.AsyncClient
    host: str = HOST
    cookies: dict[str, str] = field(default_factory=dict)

    async def get(self, path: str, **headers: str) -> httpx.Response:
        """Open a page as a click does."""
        return self._keep(await self.client.get(self.url + path, headers=self._headers(accept="text/html", **headers)))

    async def post(self, path: str, form: dict[str, str], **headers: str) -> httpx.Response:
        """Send a form, with exactly what it holds."""
        sent = self._headers(origin=f"https://{self.host}" if self.host == HOST else f"http://{self.host}") | headers
        return self._keep(await self.client.post(self.url + path, data=form, headers=sent))

    async def log_in(self, user: str = "anna", password: str = PASSWORD, after: str = "/") -> httpx.Response:
        """Fill the login form and send it."""
        token = token_of(await self.get("/login"))
        return await self.post("/login", {"token": token, "user": user, "password": password, "next": after})

    @property
    def session(self) -> str:
        """The cookie of the login."""
        return next(value for name, value in self.cookies.items() if name.endswith("coldharbour-session"))

    def _headers(self, **more: str) -> dict[str, str]:
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        return {"host": self.host} | ({"cookie": cookies} if cookies else {}) | more

    def _keep(self, response: httpx.Response) -> httpx.Response:
        for header in response.headers.get_list("set-cookie"):
            name, _, value = header.partition(";")[0].partition("=")
            self.cookies[name] = value
        self.client.cookies.clear()
        return response

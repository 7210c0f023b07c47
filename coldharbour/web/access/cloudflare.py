"""Cloudflare Access: its signed assertion is verified for every request, with keys that are fetched in bounds.

The e-mail header that comes with it proves nothing and is not read.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import anyio
import httpx
import jwt
import structlog

from coldharbour.clock import Clock
from coldharbour.web.access.visitor import Visitor

HEADER = b"cf-access-jwt-assertion"
ALGORITHM = "RS256"
REFRESH_S = 3_600.0  # keys rotate every six weeks, and old ones stay valid for a week
ASK_AGAIN_S = 60.0  # an unknown key id, or a failure, makes us ask no sooner
TRUSTED_FOR_S = 86_400.0  # keys that could not be refreshed for so long are not believed any more
MOST_BYTES = 65_536
MOST_KEYS = 20
FETCH_S = 5.0
UNREADABLE = (httpx.HTTPError, jwt.PyJWTError, TimeoutError, ValueError, LookupError, TypeError, AttributeError)

log = structlog.get_logger(__name__)


async def fetch_keys(url: str) -> bytes:
    """Return the document of a team's public keys. Raises httpx.HTTPError, ValueError for one that is too long."""
    body = b""
    async with (
        httpx.AsyncClient(timeout=FETCH_S, follow_redirects=False) as client,
        client.stream("GET", url) as response,
    ):
        response.raise_for_status()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > MOST_BYTES:
                raise ValueError(f"{url} answers with more than {MOST_BYTES} bytes")
    return body


class KeyRing:
    """The public keys of a team, by key id."""

    def __init__(self, fetch: Callable[[], Awaitable[bytes]], clock: Clock) -> None:
        self._fetch, self._clock = fetch, clock
        self._keys: dict[str, jwt.PyJWK] = {}
        self._turn = anyio.Lock()
        self._asked_s = self._got_s = -TRUSTED_FOR_S

    async def key(self, key_id: str) -> jwt.PyJWK | None:
        """Return the key of this id, None if the team has none."""
        async with self._turn:
            now_s = self._clock.monotonic()
            if (key_id not in self._keys or now_s - self._got_s >= REFRESH_S) and now_s - self._asked_s >= ASK_AGAIN_S:
                self._asked_s = now_s
                await self._refresh()
            if now_s - self._got_s > TRUSTED_FOR_S:
                self._keys = {}
            return self._keys.get(key_id)

    async def _refresh(self) -> None:
        try:
            with anyio.fail_after(FETCH_S):
                written = json.loads(await self._fetch())["keys"]
            keys = [jwt.PyJWK(key, algorithm=ALGORITHM) for key in written[:MOST_KEYS] if key.get("kty") == "RSA"]
            self._keys = {key.key_id: key for key in keys if key.key_id}
        except UNREADABLE as error:
            log.warning("cloudflare.keys_unread", error=f"{type(error).__name__}: {error}")
            return
        self._got_s = self._clock.monotonic()


class CloudflareAccess:
    """Turns a team's assertions for one application into visitors."""

    def __init__(self, team: str, audience: str, keys: KeyRing, clock: Clock) -> None:
        self._issuer, self._audience = f"https://{team}.cloudflareaccess.com", audience
        self._keys, self._clock = keys, clock

    async def visitor(self, assertion: str) -> Visitor | None:
        """Return whom a valid assertion names, None for any other."""
        try:
            claims = await self._claims(assertion)
        except jwt.PyJWTError as error:
            log.warning("cloudflare.refused", reason=f"{type(error).__name__}: {error}")
            return None
        name = str(claims.get("email") or claims.get("common_name") or claims["sub"])
        return Visitor(name, f"cloudflare {name}", datetime.fromtimestamp(float(claims["exp"]), UTC))

    async def _claims(self, assertion: str) -> dict[str, Any]:
        header = jwt.get_unverified_header(assertion)
        if header.get("alg") != ALGORITHM:
            raise jwt.InvalidAlgorithmError(f"signed with {header.get('alg')!r} in place of {ALGORITHM}")
        key = await self._keys.key(str(header.get("kid", "")))
        if key is None:
            raise jwt.InvalidKeyError("the team has no key of this id")
        claims: dict[str, Any] = jwt.decode(
            assertion, key, algorithms=[ALGORITHM], audience=self._audience, issuer=self._issuer,
            # By our clock, below: the library has no other than the machine's.
            options={"require": ["exp", "iat", "iss", "aud", "sub"],
                     "verify_exp": False, "verify_iat": False, "verify_nbf": False},
        )  # fmt: skip
        now_s = self._clock.now().timestamp()
        if not isinstance(claims["exp"], int | float) or claims["exp"] <= now_s:
            raise jwt.ExpiredSignatureError("it has expired")
        begins = [claims[name] for name in ("nbf", "iat") if name in claims]
        if any(not isinstance(begin, int | float) or begin > now_s + ASK_AGAIN_S for begin in begins):
            raise jwt.ImmatureSignatureError("it is not valid yet")
        return claims

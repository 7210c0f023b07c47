"""Cloudflare Access: only an assertion that the team signed, for this application and for now, names a visitor."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm

from coldharbour.clock import VirtualClock
from coldharbour.web.access.cloudflare import CloudflareAccess, KeyRing

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
NOON_S = int(NOON.timestamp())
OURS, THEIRS, NEXT = (generate_private_key(public_exponent=65_537, key_size=2_048) for _ in range(3))
CLAIMS: dict[str, Any] = {
    "iss": "https://harbour.cloudflareaccess.com", "aud": ["f00d"], "sub": "7f3a", "email": "anna@example.org",
    "iat": NOON_S - 60, "nbf": NOON_S - 60, "exp": NOON_S + 3_600,
}  # fmt: skip


def document(**keys: RSAPrivateKey) -> bytes:
    """Return the team's certificates as Cloudflare publishes them."""
    public = [
        RSAAlgorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": kid, "use": "sig"} for kid, key in keys.items()
    ]
    return json.dumps({"keys": public, "public_cert": {}}).encode()


def assertion(key: Any = OURS, kid: str = "one", algorithm: str = "RS256", **claims: Any) -> str:
    written = {name: value for name, value in (CLAIMS | claims).items() if value is not None}
    return jwt.encode(written, key, algorithm=algorithm, headers={"kid": kid})


class Team:
    """A team whose certificates can be fetched, replaced and lost."""

    def __init__(self) -> None:
        self.clock = VirtualClock(NOON)
        self.answer: bytes | Exception = document(one=OURS)
        self.fetched = 0
        self.access = CloudflareAccess("harbour", "f00d", KeyRing(self.fetch, self.clock), self.clock)

    async def fetch(self) -> bytes:
        self.fetched += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def name(self, token: str) -> str | None:
        visitor = await self.access.visitor(token)
        return visitor.name if visitor else None


@pytest.fixture
def team() -> Team:
    return Team()


async def test_a_valid_assertion_names_its_visitor_until_it_expires(team: Team) -> None:
    visitor = await team.access.visitor(assertion())

    assert visitor is not None
    assert (visitor.name, visitor.until) == ("anna@example.org", NOON + timedelta(hours=1))


async def test_a_service_token_is_named_by_its_common_name(team: Team) -> None:
    assert await team.name(assertion(email=None, common_name="probe.access")) == "probe.access"


def _swap_payload(token: str) -> str:
    head, _, signature = token.split(".")
    return ".".join((head, assertion(email="eve@example.org").split(".")[1], signature))


def _confused() -> str:
    """Return what a verifier accepts that takes the algorithm from the token and the public key for an HMAC secret."""
    pem = OURS.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    hmac = jwt.get_algorithm_by_name("HS256")
    head, body = (
        jwt.utils.base64url_encode(json.dumps(part).encode()) for part in ({"alg": "HS256", "kid": "one"}, CLAIMS)
    )
    signature = hmac.sign(head + b"." + body, pem)
    return b".".join((head, body, jwt.utils.base64url_encode(signature))).decode()


FORGERIES: dict[str, Callable[[], str]] = {
    "signed by somebody else": lambda: assertion(THEIRS),
    "with another's claims": lambda: _swap_payload(assertion()),
    "without a signature": lambda: assertion(None, algorithm="none"),
    "signed with the public key as a secret": _confused,
    "of another algorithm": lambda: assertion(algorithm="RS512"),
    "of an unknown key": lambda: assertion(kid="two"),
    "without a key id": lambda: assertion(kid=""),
    "for another application": lambda: assertion(aud=["beef"]),
    "for no application": lambda: assertion(aud=None),
    "of another team": lambda: assertion(iss="https://pirates.cloudflareaccess.com"),
    "expired": lambda: assertion(exp=NOON_S),
    "without an expiry": lambda: assertion(exp=None),
    "of the future": lambda: assertion(nbf=NOON_S + 120),
    "empty": lambda: "",
    "no token at all": lambda: "anna@example.org",
    "of strange types": lambda: assertion(exp="tomorrow"),
}


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_an_assertion_names_nobody_if_it_is(team: Team, forgery: str) -> None:
    assert await team.name(FORGERIES[forgery]()) is None


async def test_keys_are_fetched_once_and_a_made_up_key_id_causes_no_storm(team: Team) -> None:
    for number in range(20):
        await team.name(assertion())
        await team.name(assertion(THEIRS, kid=f"made-up-{number}"))

    assert team.fetched == 1


async def test_a_new_key_is_found_a_minute_later_and_the_old_one_goes_with_its_document(team: Team) -> None:
    await team.name(assertion())
    team.answer = document(two=NEXT)

    assert await team.name(assertion(NEXT, kid="two")) is None
    team.clock.advance(61)
    assert await team.name(assertion(NEXT, kid="two")) == "anna@example.org"
    assert await team.name(assertion()) is None


@pytest.mark.parametrize("answer", [httpx.ConnectError("away"), b"<html>", b"{}", b'{"keys": [7]}', b'{"keys": "no"}'])
async def test_an_unreadable_document_leaves_the_known_keys_for_a_day_and_no_longer(
    team: Team, answer: bytes | Exception
) -> None:
    await team.name(assertion())
    team.answer = answer
    valid = assertion(exp=NOON_S + 200_000)

    team.clock.advance(23 * 3_600)
    assert await team.name(valid) == "anna@example.org"
    team.clock.advance(2 * 3_600)
    assert await team.name(valid) is None

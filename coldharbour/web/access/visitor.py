"""A visitor who proved who they are, and the tokens that prove a form was theirs; knows no way to prove it."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime

import anyio


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks. `session` is what their forms are bound to, `until` when the proof ends, `left` set at a logout."""

    name: str
    session: str
    until: datetime | None = None
    left: anyio.Event | None = None


class FormTokens:
    """Makes and checks the tokens of forms: each fits one session, and this process alone can make it."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def token(self, session: str) -> str:
        """Return the token that a form of this session carries."""
        return hmac.new(self._key, session.encode(), hashlib.sha256).hexdigest()

    def fits(self, token: str, session: str) -> bool:
        """Say whether a form with this token was made for this session; takes the same time either way."""
        return hmac.compare_digest(token.encode(), self.token(session).encode())

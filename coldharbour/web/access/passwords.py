"""Passwords: hashed with argon2id, compared in threads so that the pages go on; keeps none."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from functools import cache

import anyio
import anyio.to_thread
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from pydantic import SecretStr

MOST_AT_ONCE = 2  # each comparison takes 64 MiB and a core
SHORTEST, LONGEST = 12, 1_024  # characters

hasher = PasswordHasher()


def hash_password(password: str) -> str:
    """Return the argon2id hash of a password, salted."""
    return str(hasher.hash(password))


@cache
def decoy() -> str:
    """Return a hash that no password has: an unknown name takes as long as a wrong password."""
    return hash_password(secrets.token_hex())


class Passwords:
    """The password hashes of those who may log in, by user name."""

    def __init__(self, hashes: Mapping[str, SecretStr]) -> None:
        self._hashes = {user: value.get_secret_value() for user, value in hashes.items()}
        self._decoy = decoy() if hashes else ""
        self._limiter = anyio.CapacityLimiter(MOST_AT_ONCE)

    def knows(self, user: str) -> bool:
        """Say whether there is such a user."""
        return user in self._hashes

    async def match(self, user: str, password: str) -> bool:
        """Say whether this is the user's password; an unknown user has none."""
        wanted = self._hashes.get(user, self._decoy)
        fits = await anyio.to_thread.run_sync(_fits, wanted, password[:LONGEST], limiter=self._limiter)
        return fits and self.knows(user)


def _fits(wanted: str, password: str) -> bool:
    try:
        return bool(hasher.verify(wanted, password))
    except (VerificationError, InvalidHashError):
        return False

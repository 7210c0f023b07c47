"""Logins: begun under a new id, found by their cookie, ended by logout, idleness or age; decides no password.

The table decides, so a login outlives a restart of the pages and a logout holds in every process. What was just
found there counts for a few seconds, and while the database is away until the login's own limits.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import anyio

from coldharbour.clock import Clock
from coldharbour.db import Database
from coldharbour.errors import Transient
from coldharbour.sections import AuthSettings
from coldharbour.web.access import store
from coldharbour.web.access.visitor import Visitor

FRESH = timedelta(seconds=4)  # how long a look at the table counts
KEPT = 1_000


@dataclass(slots=True)
class _Known:
    account: str
    begun_at: datetime
    used_at: datetime
    looked_at: datetime
    left: anyio.Event = field(default_factory=anyio.Event)


class Sessions:
    """The logins of this installation, as one process knows them."""

    def __init__(self, db: Database, clock: Clock, auth: AuthSettings) -> None:
        self._db, self._clock = db, clock
        self._idle = timedelta(seconds=auth.session_idle_s)
        self._limit = timedelta(seconds=auth.session_limit_s)
        self._known: OrderedDict[bytes, _Known] = OrderedDict()

    async def begin(self, account: str) -> str:
        """Begin a login under an id that nobody could have known before, and return the id: the cookie's value."""
        cookie, now = secrets.token_urlsafe(32), self._clock.now()
        async with self._db.transaction() as conn:
            await store.prune_sessions(conn, begun_before=now - self._limit, used_before=now - self._idle)
            await store.begin_session(conn, _hashed(cookie), account, now)
        return cookie

    async def find(self, cookie: str) -> Visitor | None:
        """Return whose login this is and note that it is used; None if there is none or it has ended.

        Raises Transient if the database does not answer and the login is not known here.
        """
        id_hash, now = _hashed(cookie), self._clock.now()
        known = self._known.get(id_hash)
        if known is not None and self._has_ended(known, now):
            self._forget(id_hash)
            return None
        if known is None or now - known.looked_at >= FRESH:
            try:
                known = await self._look(id_hash, now)
            except Transient:
                if known is None:
                    raise
        if known is None:
            return None
        known.used_at = now
        return Visitor(known.account, cookie, known.begun_at + self._limit, known.left)

    async def end(self, cookie: str) -> None:
        """End a login, and with it every stream that was opened under it."""
        id_hash = _hashed(cookie)
        async with self._db.transaction() as conn:
            await store.end_session(conn, id_hash)
        self._forget(id_hash)

    async def _look(self, id_hash: bytes, now: datetime) -> _Known | None:
        async with self._db.transaction() as conn:
            found = await store.use_session(
                conn, id_hash, now=now, begun_after=now - self._limit, used_after=now - self._idle
            )
        if found is None:
            self._forget(id_hash)
            return None
        known = self._known.pop(id_hash, None) or _Known(*found, used_at=now, looked_at=now)
        known.looked_at = now
        self._known[id_hash] = known
        while len(self._known) > KEPT:
            self._known.popitem(last=False)
        return known

    def _has_ended(self, known: _Known, now: datetime) -> bool:
        return now - known.begun_at >= self._limit or now - known.used_at >= self._idle

    def _forget(self, id_hash: bytes) -> None:
        known = self._known.pop(id_hash, None)
        if known is not None:
            known.left.set()


def _hashed(cookie: str) -> bytes:
    return hashlib.sha256(cookie.encode()).digest()

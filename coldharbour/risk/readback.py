"""Reading back what became of a request: the old stop, what took its place, and the order that bears our name.

Owns when it is looked and what counts as one reading; what readings prove is `evidence`'s.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import chain, repeat

from coldharbour.broker import Broker, NotFound, Priority
from coldharbour.clock import Clock
from coldharbour.db import Database
from coldharbour.risk.evidence import REPLACED, Reading
from coldharbour.risk.intents import store
from coldharbour.risk.model import Leg
from coldharbour.risk.moves import Intent

# Seconds between readings: soon, since most are settled in 0.2 s; three that stand still span the 15 s that it takes.
PAUSES_S = (0.1, 0.15, 0.25, 0.5, 1.0, 2.0, 4.0, 4.0, 3.6)
LATER_S = 10.0
HEARD = timedelta(seconds=20)  # an idle stream notes every few seconds that it is alive


def pauses_s() -> Iterator[float]:
    """Yield the seconds to wait before each reading, for ever."""
    return chain(PAUSES_S, repeat(LATER_S))


class ReadBack:
    """Reads the orders of intents of one account."""

    def __init__(self, db: Database, broker: Broker, clock: Clock, slug: str) -> None:
        self._db, self._broker, self._clock, self._slug = db, broker, clock, slug

    async def read(self, intent: Intent, since: datetime) -> Reading:
        """Return one round of reading. since: the round before, or the end of the request.

        Raises Transient and BrokerRefused: a round in which a read failed is no reading.
        """
        at_s = self._clock.monotonic()
        old = await self.leg(intent.move.order_id)
        heir = await self.leg(old.replaced_by) if old.status == REPLACED and old.replaced_by else None
        ours = heir if heir and heir.client_order_id == intent.client_order_id else await self._ours(intent)
        return Reading(at_s=at_s, old=old, heir=heir, ours=ours, stream_healthy=await self._is_heard(since))

    async def leg(self, order_id: str) -> Leg:
        """Return a stop order as it is now."""
        return Leg.of(await self._broker.order(order_id, nested=False, priority=Priority.WRITE))

    async def _ours(self, intent: Intent) -> Leg | None:
        try:
            order = await self._broker.order_by_client_id(intent.client_order_id, priority=Priority.WRITE)
        except NotFound:
            return None
        return Leg.of(order)

    async def _is_heard(self, since: datetime) -> bool:
        async with self._db.transaction() as conn:
            return await store.stream_heard(conn, self._slug, since, self._clock.now() - HEARD)

"""One look at an account's protection: reads what is open, keeps the episodes and their events, returns what is new."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from coldharbour.accounts import Lease
from coldharbour.db import Database
from coldharbour.events import Event, PositionProtected, PositionUnprotected, StopExpiring
from coldharbour.journal import record
from coldharbour.live.valuation import days_to_expire
from coldharbour.risk.protection import store
from coldharbour.risk.protection.episodes import Changes, changes
from coldharbour.risk.protection.model import Exposure, GuardedLot
from coldharbour.risk.protection.unprotected import unprotected
from coldharbour.sessions import NEW_YORK


@dataclass(frozen=True, slots=True)
class Look:
    """What one look found. expiring: lots that were not warned of today before."""

    changes: Changes
    expiring: tuple[GuardedLot, ...]
    at: datetime

    @property
    def events(self) -> list[Event]:
        """What is told of it; the look has put them on record."""
        return [
            *(_raised(each, self.at) for each in self.changes.raised),
            *(_healed(each, self.at) for each in self.changes.healed),
            *(_expiring(lot, self.at) for lot in self.expiring),
        ]


async def look(
    db: Database, slug: str, now: datetime, *, grace: timedelta, warn_days: int, lease: Lease | None = None
) -> Look:
    """Look at all that is open, in one transaction, in which the lease is checked before anything is written.

    While the open lots do not follow the lake, nothing can be said of them, and everything stays as it is.
    """
    async with db.transaction() as conn:
        if not await store.are_lots_in_step(conn, slug, now):
            return Look(Changes(), (), now)
        lots = await store.guarded_lots(conn, slug)
        orders = await store.orders_of(conn, slug, lots)
        found = unprotected(lots, orders, await store.strays(conn, slug))
        new = changes(await store.episodes(conn, slug), found, now, grace)
        expiring = [lot for lot in lots if _ends_soon(lot, now, warn_days)]
        if lease is not None and (new or expiring):
            await lease.check(conn)
        if new:
            await store.end_episodes(conn, slug, [each.key for each in (*new.gone, *new.healed)], now)
            await store.save_episodes(conn, slug, new.saved)
        day = now.astimezone(NEW_YORK).date()
        unwarned = await store.note_warnings(conn, slug, [lot.parent_id for lot in expiring], day) if expiring else ()
        seen = Look(new, tuple(lot for lot in expiring if lot.parent_id in unwarned), now)
        await record(conn, slug, seen.events)
    return seen


def _ends_soon(lot: GuardedLot, now: datetime, warn_days: int) -> bool:
    days = days_to_expire(lot.expires_at, now)
    return days is not None and days <= warn_days


def _raised(exposure: Exposure, now: datetime) -> Event:
    return PositionUnprotected(
        at=now, symbol=exposure.symbol, parent_id=exposure.parent_id, side=exposure.side, qty=exposure.qty,
        reason=exposure.reason, exposed_s=(now - exposure.since).total_seconds(),
    )  # fmt: skip


def _healed(exposure: Exposure, now: datetime) -> Event:
    exposed_s = (now - exposure.since).total_seconds()
    return PositionProtected(at=now, symbol=exposure.symbol, parent_id=exposure.parent_id, exposed_s=exposed_s)


def _expiring(lot: GuardedLot, now: datetime) -> Event:
    return StopExpiring(
        at=now, symbol=lot.symbol, parent_id=lot.parent_id, days_left=days_to_expire(lot.expires_at, now) or 0,
        expires_at=lot.expires_at or now,
    )  # fmt: skip

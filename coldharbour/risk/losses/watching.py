"""One look at how a session stands against its limits: keeps that, latches what was reached; acts on no order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from psycopg import AsyncConnection

from coldharbour.accounts import Lease
from coldharbour.db import Database
from coldharbour.events import LossLimitReached
from coldharbour.journal import record
from coldharbour.risk.losses import store
from coldharbour.risk.losses.limits import LossLimit, Reached, evidence, noted, reached, together
from coldharbour.risk.losses.model import Blind, Day, Latch, Watch


@dataclass(frozen=True, slots=True)
class Rules:
    """What is compared with what. limits: the mildest first. lease: what is checked before anything is written."""

    limits: tuple[LossLimit, ...]
    max_minute_age: timedelta
    max_price_age: timedelta = timedelta(0)
    lease: Lease | None = None

    @property
    def is_limited(self) -> bool:
        """Whether any limit is set."""
        return any(limit.pct > 0 or limit.amount > 0 for limit in self.limits)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a look found. changed: whether anything is to be shown anew. events: on record, of what was latched now."""

    seen: Day | Blind | None
    changed: bool
    events: list[LossLimitReached] = field(default_factory=list)


async def look_at_account(db: Database, slug: str, now: datetime, rules: Rules, *, is_open: bool) -> Verdict:
    """Compare an account's session with its limits.

    is_open: whether these are regular hours; in others too many symbols do not trade to be sure of anything.
    """
    async with db.transaction() as conn:
        known = await _known(conn, slug)
        seen: Day | Blind | None = None
        if is_open:
            minute = await store.newest_minute(conn, slug)
            seen = evidence(
                minute, now, max_minute_age=rules.max_minute_age, max_price_age=rules.max_price_age,
                blind_at=known.blind_at,
            )  # fmt: skip
        return await _settle(conn, known, seen, now, rules)


async def look_at_all(db: Database, slugs: Sequence[str], now: datetime, rules: Rules) -> Verdict:
    """Compare all accounts together with the limits that they share."""
    async with db.transaction() as conn:
        seen = together(await store.watches(conn, slugs), slugs, now, rules.max_minute_age)
        return await _settle(conn, await _known(conn, store.TOGETHER), seen, now, rules)


async def _known(conn: AsyncConnection, destination: str) -> Watch:
    known = await store.watches(conn, [destination])
    return known[0] if known else Watch(destination)


async def _settle(
    conn: AsyncConnection, known: Watch, seen: Day | Blind | None, now: datetime, rules: Rules
) -> Verdict:
    """Keep what was seen, and latch what is reached by it."""
    watch, events = noted(known, seen, now, is_limited=rules.is_limited), []
    if rules.lease is not None and (watch != known or isinstance(seen, Day)):
        await rules.lease.check(conn)
    if watch != known:
        await store.save_watch(conn, watch)
    if isinstance(seen, Day):
        counted_from = await store.counted_from(conn, known.destination, seen.session_date)
        events = [
            _event(limit, seen, now)
            for limit in reached(seen, rules.limits, counted_from)
            if await store.latch(conn, _latch(limit, known.destination, seen, now))
        ]
        await record(conn, known.destination, events)
    return Verdict(seen, replace(watch, blind_at=known.blind_at) != known or bool(events), events)


def _latch(limit: Reached, destination: str, day: Day, now: datetime) -> Latch:
    return Latch(
        destination=destination, session_date=day.session_date, stage=limit.stage, latched_at=now, day_pnl=day.day_pnl,
        baseline=day.baseline, note=f"the day's loss was {-day.day_pnl:,.2f}, the limit is {limit.allowed:,.2f}",
        limit_pnl=limit.limit_pnl,
    )  # fmt: skip


def _event(limit: Reached, day: Day, now: datetime) -> LossLimitReached:
    return LossLimitReached(
        at=now, stage=limit.stage, day_pnl=day.day_pnl, baseline=day.baseline, limit=limit.allowed
    )  # fmt: skip

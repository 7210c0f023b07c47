"""What a day's loss leads to: which minute of equity is evidence, which limits are reached; pure rules, no action.

A price that is stale or missing proves nothing: then nothing is reached, and it says why.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

from coldharbour.live.model import ZERO
from coldharbour.risk.losses.model import Blind, Day, Minute, Stage, Watch


@dataclass(frozen=True, slots=True)
class LossLimit:
    """What a stage allows to be lost in a day. pct: of the previous close's equity. amount: in money. 0: no limit."""

    stage: Stage
    pct: float = 0
    amount: Decimal = ZERO

    def allowed(self, baseline: Decimal) -> Decimal | None:
        """Return the loss at which the stage is reached, the smaller of both; None if none is set.

        baseline: equity at the previous close; where it is not above 0, a percentage of it says nothing.

        >>> LossLimit(Stage.HALT, 2.5, Decimal(2000)).allowed(Decimal(60_000))
        Decimal('1500.0')
        """
        of_equity = baseline * Decimal(str(self.pct)) / 100 if baseline > ZERO else ZERO
        return min((limit for limit in (of_equity, self.amount) if limit > ZERO), default=None)


@dataclass(frozen=True, slots=True)
class Reached:
    """A limit that a day reached. allowed: the loss that it allows. limit_pnl: the day's result at which it is reached.

    Both are the same but for the sign, unless the stage was reset in this session and counts on from there.
    """

    stage: Stage
    allowed: Decimal
    limit_pnl: Decimal


def evidence(
    minute: Minute | None,
    now: datetime,
    *,
    max_minute_age: timedelta,
    max_price_age: timedelta,
    blind_at: datetime | None = None,
) -> Day | Blind:
    """Return how the session stands, or why the newest minute of equity proves nothing.

    blind_at: the newest look at which prices or minutes were wrong. A minute that began before may be made of these.
    """
    if minute is None:
        return Blind("there is no minute of equity yet")
    if now - minute.at > max_minute_age:
        return Blind(f"the newest minute of equity is older than {max_minute_age.total_seconds():g} s")
    if doubt := _doubt(minute, now, max_price_age):
        return Blind(doubt, spoils=True)
    if blind_at is not None and minute.at < blind_at:
        return Blind("no minute of equity has begun since prices are back")
    return Day(session_date=minute.session_date, day_pnl=minute.profit, baseline=minute.baseline, as_of=minute.at)


def _doubt(minute: Minute, now: datetime, max_price_age: timedelta) -> str:
    if not minute.is_certain:
        return "the newest minute of equity is incomplete or stale"
    if minute.stalest is not None and minute.stalest_at is None:
        return f"{minute.stalest} has no price"
    if minute.stalest_at is not None and now - minute.stalest_at > max_price_age:
        return f"the price of {minute.stalest} is older than {max_price_age.total_seconds():g} s"
    return ""


def reached(day: Day, limits: Iterable[LossLimit], counted_from: Mapping[Stage, Decimal]) -> list[Reached]:
    """Return the limits that a day's loss has reached, in the order given; equal to the limit is reached.

    counted_from: how the day stood when a stage was reset; from there, or from 0 where that was a gain, it counts on.
    A flatten is never reached before a halt, wherever each of them counts from.
    """
    found, halts_at = [], ZERO
    for limit in limits:
        allowed = limit.allowed(day.baseline)
        if allowed is None:
            continue
        limit_pnl = min(counted_from.get(limit.stage, ZERO), ZERO) - allowed
        if limit.stage is Stage.HALT:
            halts_at = limit_pnl
        elif limit.stage is Stage.FLATTEN:
            limit_pnl = min(limit_pnl, halts_at)
        if day.day_pnl <= limit_pnl:
            found.append(Reached(limit.stage, allowed, limit_pnl))
    return found


def together(watches: Sequence[Watch], names: Iterable[str], now: datetime, max_age: timedelta) -> Day | Blind | None:
    """Return how all accounts stand together; None while none of them has anything new to say.

    watches: how each stands. names: the accounts that there are. One that is blind, missing or behind the others makes
    all blind: a sum without it would be another number.
    """
    known = {watch.destination: watch for watch in watches}
    newest = max((watch.as_of for watch in watches if watch.as_of), default=None)
    if newest is None or now - newest > max_age:
        return None
    days = []
    for name in names:
        watch = known.get(name)
        day = watch.day if watch else None
        if watch is None or day is None or newest - day.as_of > max_age:
            return Blind(f"{name} has no minute of equity like the others")
        if watch.blind:
            return Blind(f"{name}: {watch.blind}")
        days.append(day)
    session = max(day.session_date for day in days)
    if any(day.session_date != session for day in days):
        return Blind("the accounts are in different sessions")
    return Day(
        session_date=session,
        day_pnl=sum((day.day_pnl for day in days), ZERO),
        baseline=sum((day.baseline for day in days), ZERO),
        as_of=min(day.as_of for day in days),
    )


def noted(known: Watch, seen: Day | Blind | None, now: datetime, *, is_limited: bool) -> Watch:
    """Return how a session stands after a look. seen: None while there is nothing to see, as at night.

    What was certain last stays beside blindness. is_limited: whether any limit is set.
    """
    watch = replace(known, blind="", blind_since=None, is_limited=is_limited)
    if isinstance(seen, Day):
        return replace(
            watch, session_date=seen.session_date, day_pnl=seen.day_pnl, baseline=seen.baseline, as_of=seen.as_of
        )
    if isinstance(seen, Blind):
        blind_at = now if seen.spoils else known.blind_at
        return replace(watch, blind=seen.why, blind_since=known.blind_since or now, blind_at=blind_at)
    return watch

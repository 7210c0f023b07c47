"""Completeness: the broker's history compared with the lake, row by row; changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from coldharbour.broker import Activity, Broker, NotFound, Order, Priority
from coldharbour.clock import Clock
from coldharbour.db import Database
from coldharbour.lake.completeness import store as completeness
from coldharbour.lake.model import activity_row
from coldharbour.sessions import NEW_YORK

OrderFact = tuple[str, Decimal, Decimal | None]
ActivityFact = tuple[str, Decimal | None, Decimal | None, Decimal | None]
Reach = Callable[[int], None]

ROUNDS = 5
SETTLE_S = 1.0
CENT = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Comparison:
    """One kind of row at the broker and in the lake: how many, which are missing, unexpected or different."""

    what: str
    at_broker: int
    in_lake: int
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    different: tuple[str, ...]

    @property
    def is_complete(self) -> bool:
        return not (self.missing or self.unexpected or self.different)


@dataclass(frozen=True, slots=True)
class Proof:
    """What was compared for one account, and the cash that the broker shows beyond the lake's activities."""

    comparisons: tuple[Comparison, ...]
    cash_delta: Decimal | None

    @property
    def holds(self) -> bool:
        return all(comparison.is_complete for comparison in self.comparisons) and not self.cash_delta


def compare(what: str, at_broker: Mapping[str, object], in_lake: Mapping[str, object]) -> Comparison:
    """Compare facts by id; ids are sorted, so that two runs print the same."""
    return Comparison(
        what=what,
        at_broker=len(at_broker),
        in_lake=len(in_lake),
        missing=tuple(sorted(at_broker.keys() - in_lake.keys())),
        unexpected=tuple(sorted(in_lake.keys() - at_broker.keys())),
        different=tuple(sorted(key for key, fact in at_broker.items() if key in in_lake and in_lake[key] != fact)),
    )


async def prove(db: Database, broker: Broker, slug: str, *, day: date | None, reach: Reach, clock: Clock) -> Proof:
    """Read the broker's whole history (or one New York day) and compare it with the lake.

    Both sides go on living meanwhile, so what disagrees is read again before it is called a difference.
    reach(rows) reports progress. Cash is compared for the whole history only.
    """
    orders = await _broker_orders(broker, day, reach)
    activities = await _broker_activities(broker, day, reach)
    for _ in range(ROUNDS):
        lake_orders, lake_activities = await _lake_facts(db, slug, day)
        comparisons = _compare(orders, activities, lake_orders, lake_activities)
        suspects = {key for c in comparisons for key in (*c.different, *c.unexpected, *c.missing)}
        if not suspects:
            break
        await clock.sleep(SETTLE_S)
        orders |= await _again(broker, suspects & (orders.keys() | lake_orders.keys()))
        if suspects & (lake_activities.keys() - activities.keys()):
            activities = await _broker_activities(broker, day, reach)
    delta = None if day else await _cash_delta(db, broker, slug)
    return Proof(comparisons, delta)


def _compare(
    orders: Mapping[str, OrderFact],
    activities: Mapping[str, ActivityFact],
    lake_orders: Mapping[str, OrderFact],
    lake_activities: Mapping[str, ActivityFact],
) -> tuple[Comparison, ...]:
    return (
        compare("orders", orders, lake_orders),
        compare("fills", _fills(activities), _fills(lake_activities)),
        compare("other activities", _others(activities), _others(lake_activities)),
    )


async def _again(broker: Broker, order_ids: Iterable[str]) -> dict[str, OrderFact]:
    """Read some orders again; one the broker does not know stays what it was."""
    facts: dict[str, OrderFact] = {}
    for order_id in sorted(order_ids):
        try:
            facts.update(_order_facts(await broker.order(order_id, nested=False)))
        except NotFound:
            continue  # the comparison itself reports it as unexpected
    return facts


async def _cash_delta(db: Database, broker: Broker, slug: str) -> Decimal | None:
    """Return the broker's cash less the lake's, to the cent; None while the lake does not stand still."""
    for _ in range(ROUNDS):
        async with db.transaction() as conn:
            before = await completeness.cash(conn, slug)
        account = await broker.account()
        async with db.transaction() as conn:
            after = await completeness.cash(conn, slug)
        if before == after:
            return (account.cash - before).quantize(CENT)
    return None


async def _lake_facts(
    db: Database, slug: str, day: date | None
) -> tuple[dict[str, OrderFact], dict[str, ActivityFact]]:
    bounds = _bounds(day)
    async with db.transaction(timeout_s=60) as conn:
        return await completeness.order_facts(conn, slug, *bounds), await completeness.activity_facts(
            conn, slug, *bounds
        )


async def _broker_orders(broker: Broker, day: date | None, reach: Reach) -> dict[str, OrderFact]:
    after, until = _bounds(day)
    facts: dict[str, OrderFact] = {}
    nested = day is None  # a day's list is by submission, and a leg has a submission of its own
    async for page in broker.walk_orders(after, until, nested=nested, priority=Priority.BULK):
        for order in page.orders:
            facts.update(_order_facts(order))
        reach(len(page.orders))
    return facts


def _order_facts(order: Order) -> Iterable[tuple[str, OrderFact]]:
    yield str(UUID(order.id)), (order.status, order.filled_qty or Decimal(0), order.filled_avg_price)
    for leg in order.legs:
        yield from _order_facts(leg)


async def _broker_activities(broker: Broker, day: date | None, reach: Reach) -> dict[str, ActivityFact]:
    after, until = _bounds(day)
    facts: dict[str, ActivityFact] = {}
    async for page in broker.walk_activities(after, until, priority=Priority.BULK):
        facts.update(_activity_fact(activity) for activity in page.activities if _is_on(activity, day))
        reach(len(page.activities))
    return facts


def _activity_fact(activity: Activity) -> tuple[str, ActivityFact]:
    row = activity_row(activity)
    return activity.id, (activity.activity_type, row.qty, row.price, row.net_amount)


def _is_on(activity: Activity, day: date | None) -> bool:
    if day is None:
        return True
    if activity.transaction_time is None:
        return activity.date == day
    return activity.transaction_time.astimezone(NEW_YORK).date() == day


def _bounds(day: date | None) -> tuple[datetime | None, datetime | None]:
    if day is None:
        return None, None
    start = datetime(day.year, day.month, day.day, tzinfo=NEW_YORK)
    return start - timedelta(microseconds=1), start + timedelta(days=1)


def _fills(facts: Mapping[str, ActivityFact]) -> dict[str, ActivityFact]:
    return {key: fact for key, fact in facts.items() if fact[0] == "FILL"}


def _others(facts: Mapping[str, ActivityFact]) -> dict[str, ActivityFact]:
    return {key: fact for key, fact in facts.items() if fact[0] != "FILL"}

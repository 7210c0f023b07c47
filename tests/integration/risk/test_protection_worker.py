"""The `protection` worker against a simulated broker: every way to lose a stop is an alarm once, and heals once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from coldharbour_plugins.simulator.broker import SimulatedBroker
from fakes.ingest import WORKERS, Station, becomes, simulated
from fakes.trades import LIVE, trading, until_in_step

pytestmark = pytest.mark.anyio

SLUG = "paper"
BRACKET = {
    "symbol": "KO", "qty": "10", "side": "buy", "type": "market", "time_in_force": "gtc", "order_class": "bracket",
    "take_profit": {"limit_price": "500"}, "stop_loss": {"stop_price": "1"},
}  # fmt: skip
PROMPT = """
[workers.protection]
interval_s = 0.2
grace_s = 0.5
[workers.snapshot]
interval_s = 0.2
recheck_s = 0.2
"""


@asynccontextmanager
async def guarded(
    database_url: str, folder: Path, tables: str = PROMPT
) -> AsyncIterator[tuple[Station, SimulatedBroker]]:
    """Lend an account that is watched; what its history left without a stop is no matter here."""
    async with (
        simulated(SLUG) as (broker, address),
        trading(
            database_url, folder, broker.accounts[SLUG], address, tables=tables, kinds=(*WORKERS, *LIVE, "protection")
        ) as station,
    ):
        yield station, broker


async def buy(station: Station, **changes: Any) -> dict[str, Any]:
    """Buy what a bracket protects; return the filled order with its legs."""
    placed = station.account.place({**BRACKET, **changes})
    await becomes(station.account, placed["id"], "filled")
    await until_in_step(station)
    return station.account.order(str(placed["id"]), nested=True)


def stop_of(order: dict[str, Any]) -> str:
    return next(str(leg["id"]) for leg in order["legs"] if leg["type"] == "stop")


async def alarms(station: Station, key: str) -> list[dict[str, Any]]:
    query = """
        select symbol, parent_id, side, qty, reason, since, raised_at, healed_at from accounts.unprotected
        where destination = %s and key = %s and raised_at is not null order by since
    """
    return await station.select(query, SLUG, key)


async def until_alarm(station: Station, key: str, **expected: Any) -> dict[str, Any]:
    """Return an open alarm once it is as expected."""

    async def look() -> dict[str, Any] | None:
        found = [row for row in await alarms(station, key) if row["healed_at"] is None]
        return next((row for row in found if expected.items() <= row.items()), None)

    return dict(await station.until(look))


async def until_healed(station: Station, key: str) -> None:
    async def is_healed() -> bool:
        rows = await alarms(station, key)
        return bool(rows) and all(row["healed_at"] for row in rows)

    await station.until(is_healed)


async def told(station: Station, key: str) -> list[str]:
    """Return the events about a lot, or about a symbol's shares without one, oldest first."""
    query = """
        select kind from accounts.events where destination = %s and kind in ('PositionUnprotected', 'PositionProtected')
            and coalesce(payload ->> 'parent_id', payload ->> 'symbol') = %s order by id
    """
    return [row["kind"] for row in await station.select(query, SLUG, key.removeprefix("symbol:"))]


async def until_told(station: Station, key: str, *kinds: str) -> None:
    async def is_told() -> bool:
        return await told(station, key) == [*kinds]

    await station.until(is_told)


async def test_a_canceled_stop_is_told_once_and_its_healing_once(database_url: str, tmp_path: Path) -> None:
    async with guarded(database_url, tmp_path) as (station, _):
        entry = await buy(station)
        lot = str(entry["id"])

        station.account.cancel(stop_of(entry))
        alarm = await until_alarm(station, lot, reason="stop_canceled", qty=Decimal(10), side="Long")
        assert alarm["raised_at"] >= alarm["since"] + timedelta(seconds=0.5)
        assert await told(station, lot) == ["PositionUnprotected"]  # no row without its event

        station.account.place(
            {"symbol": "KO", "qty": "10", "side": "sell", "type": "stop", "time_in_force": "gtc", "stop_price": "1"}
        )
        await until_healed(station, lot)
        assert await told(station, lot) == ["PositionUnprotected", "PositionProtected"]
        assert len(await alarms(station, lot)) == 1


async def test_a_stop_that_was_moved_is_no_alarm_and_the_end_of_another_kind_of_stop_is_named(
    database_url: str, tmp_path: Path
) -> None:
    async with guarded(database_url, tmp_path) as (station, _):
        entry = await buy(station)
        lot = str(entry["id"])
        for price in ("1.1", "1.2", "1.3"):
            station.account.replace(stop_of(station.account.order(lot, nested=True)), {"stop_price": price})
            await station.until_complete()
        moved = stop_of(station.account.order(lot, nested=True))

        station.account.cancel(moved)
        await until_alarm(station, lot, reason="stop_canceled")
        pair = station.account.place(
            {"symbol": "KO", "qty": "10", "side": "sell", "type": "limit", "time_in_force": "gtc", "order_class": "oco",
             "take_profit": {"limit_price": "500"}, "stop_loss": {"stop_price": "1"}}
        )  # fmt: skip
        await until_healed(station, lot)

        station.account.cancel(str(pair["id"]))
        await until_alarm(station, lot, reason="stop_canceled")
        await until_told(station, lot, "PositionUnprotected", "PositionProtected", "PositionUnprotected")


async def test_a_stop_for_fewer_shares_leaves_the_rest_bare_until_the_lot_is_closed(
    database_url: str, tmp_path: Path
) -> None:
    async with guarded(database_url, tmp_path) as (station, _):
        entry = await buy(station)
        lot = str(entry["id"])
        station.account.cancel(stop_of(entry))
        await until_alarm(station, lot, reason="stop_canceled")

        small = station.account.place(
            {"symbol": "KO", "qty": "4", "side": "sell", "type": "stop", "time_in_force": "gtc", "stop_price": "1"}
        )
        await until_alarm(station, lot, reason="stop_too_small", qty=Decimal(6))

        station.account.cancel(str(small["id"]))
        await becomes(station.account, small["id"], "canceled")
        station.account.close_position("KO")
        await until_healed(station, lot)


async def test_what_the_broker_holds_beyond_our_lots_is_exposed(database_url: str, tmp_path: Path) -> None:
    async with guarded(database_url, tmp_path) as (station, _):
        await buy(station)
        position = station.account.blotter.ledger.positions["KO"]

        position.qty += 7
        await until_alarm(station, "symbol:KO", parent_id=None, qty=Decimal(7), reason="no_lot", side="Long")

        position.qty -= 7
        await until_healed(station, "symbol:KO")
        await until_told(station, "symbol:KO", "PositionUnprotected", "PositionProtected")


async def test_legs_that_are_held_while_the_entry_fills_protect_nothing_yet(database_url: str, tmp_path: Path) -> None:
    async with guarded(database_url, tmp_path) as (station, broker):
        placed = station.account.place({**BRACKET, "type": "limit", "limit_price": "2"})
        await becomes(station.account, placed["id"], "new")
        order, blotter = station.account.blotter.book.get(str(placed["id"])), station.account.blotter

        blotter.fill(order, Decimal(4), Decimal(2), blotter.moment(broker.now()))
        await until_alarm(station, str(placed["id"]), reason="legs_held", qty=Decimal(4))

        blotter.fill(order, Decimal(6), Decimal(2), blotter.moment(broker.now()))
        await until_healed(station, str(placed["id"]))


async def test_a_stop_that_expired_is_an_alarm_and_one_that_soon_will_is_warned_of_once_a_day(
    database_url: str, tmp_path: Path
) -> None:
    async with guarded(database_url, tmp_path) as (station, broker):
        entry, other = await buy(station), await buy(station, time_in_force="day")
        stop, blotter = station.account.blotter.book.get(stop_of(entry)), station.account.blotter

        blotter.expire(stop, blotter.moment(broker.now()))
        await until_alarm(station, str(entry["id"]), reason="stop_expired", qty=Decimal(10))

        query = """
            select payload ->> 'parent_id' as lot, payload ->> 'days_left' as days from accounts.events
            where destination = %s and kind = 'StopExpiring'
        """
        warned = await station.select(query, SLUG)
        assert [row["lot"] for row in warned].count(str(other["id"])) == 1
        assert str(entry["id"]) not in {row["lot"] for row in warned}
        assert {row["days"] for row in warned if row["lot"] == str(other["id"])} <= {"0", "1", "2", "3", "4"}

"""Closed trades as they are kept in production: archived on close, told once, measured, and made again by rebuild."""

from __future__ import annotations

import json
import os
import sys
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

import anyio
import psycopg
import pytest
from coldharbour_plugins.simulator.broker import SimulatedBroker
from fakes.ingest import WORKERS, Station, becomes, simulated
from fakes.trades import closed_trades, open_trades, trading, until_in_step

from coldharbour.clock import SystemClock
from coldharbour.live.store import take_turn

pytestmark = pytest.mark.anyio

SLUG = "paper"
BRACKET = {
    "symbol": "KO", "qty": "10", "side": "buy", "type": "market", "time_in_force": "gtc", "order_class": "bracket",
    "take_profit": {"limit_price": "500"}, "stop_loss": {"stop_price": "1"},
}  # fmt: skip
OFTEN = "[workers.closed_trades]\ninterval_s = 0.2\n"


class BrokersClock(SystemClock):
    """The simulated broker's time: the real one, moved by hand."""

    def __init__(self, ago: timedelta) -> None:
        self.ago = ago

    def now(self) -> datetime:
        return super().now() - self.ago


async def buy(station: Station) -> str:
    """Buy ten KO under a bracket, and return the lot's key."""
    placed = station.account.place(BRACKET)
    await becomes(station.account, placed["id"], "filled")
    return str(placed["id"])


async def stop_out(station: Station, broker: SimulatedBroker, lot: str) -> None:
    """Let the price fall through a lot's stop."""
    broker.market.pin("KO", Decimal("0.90"))
    legs = await station.select(
        "select id from account_activities.raw_orders where parent_id::text = %s and stop_price is not null", lot
    )
    await becomes(station.account, str(legs[0]["id"]), "filled")
    broker.market.pin("KO", None)


async def closing_of(station: Station, lot: str) -> dict[str, Any]:
    """Return the one closed trade of a lot once it is archived."""

    async def archived() -> list[dict[str, Any]]:
        query = "select * from accounts.closed_trades where destination = %s and entry_lot_id = %s"
        return await station.select(query, SLUG, lot)

    [row] = await station.until(archived)
    found: dict[str, Any] = row
    return found


async def test_a_stopped_lot_is_archived_told_once_and_gone(database_url: str, tmp_path: Path) -> None:
    async with (
        simulated(SLUG) as (broker, address),
        trading(database_url, tmp_path, broker.accounts[SLUG], address) as station,
        station.db.listener() as listener,
        listener.subscribe(f"closed_channel_{SLUG}") as notes,
    ):
        await anext(notes)
        lot = await buy(station)
        await until_in_step(station)
        await stop_out(station, broker, lot)
        row = await closing_of(station, lot)
        told = json.loads((await anext(notes)).payload)

        assert (row["side"], row["qty"], row["exit_type"], row["closes_lot"]) == ("Long", 10, "SL", True)
        assert row["pnl_cash"] == 10 * (row["exit_price"] - row["entry_price"])
        assert row["r_multiple"] == round((row["exit_price"] - row["entry_price"]) / (row["entry_price"] - 1), 6)
        assert told == {"op": "closed", "entry_lot_id": lot, "exit_order_id": row["exit_order_id"]}
        assert lot not in [trade["parent_id"] for trade in await open_trades(station)]


async def test_a_closing_is_news_once_and_history_is_none(database_url: str, tmp_path: Path) -> None:
    events = "select payload from accounts.events where kind = 'TradeClosed'"
    async with simulated(SLUG) as (broker, address):
        account = broker.accounts[SLUG]
        account.burst(60)
        async with trading(database_url, tmp_path, account, address) as station:
            assert await closed_trades(station)
            lot = await buy(station)
            await until_in_step(station)
            await stop_out(station, broker, lot)
            row = await closing_of(station, lot)

            async def is_told() -> list[dict[str, Any]]:
                return await station.select(events)

            [told] = await station.until(is_told)

        async with trading(database_url, tmp_path, account, address) as station:
            assert await station.select(events) == [told]
        assert (told["payload"]["lot_id"], told["payload"]["exit_type"]) == (lot, "SL")
        assert Decimal(told["payload"]["pnl_cash"]) == row["pnl_cash"]


async def test_what_the_ledger_no_longer_says_is_removed(database_url: str, tmp_path: Path) -> None:
    """A row that follows from nothing goes at the next start: the ledger is the evidence."""
    async with simulated(SLUG) as (broker, address):
        account = broker.accounts[SLUG]
        async with trading(database_url, tmp_path, account, address) as station:
            before = await closed_trades(station)
            async with station.db.transaction() as conn:
                await conn.execute(
                    "insert into accounts.closed_trades select destination, entry_lot_id || 'x', exit_order_id,"
                    " exit_parent_id, symbol, side, qty, entry_time, entry_price, exit_time, exit_price, exit_type,"
                    " pnl_cash, pnl_cash_fifo, diff_pnl, return_pct, duration_sec from accounts.closed_trades limit 1"
                )

        async with trading(database_url, tmp_path, account, address) as station:
            assert await closed_trades(station) == before


async def test_extremes_come_from_bars_where_nobody_watched(database_url: str, tmp_path: Path) -> None:
    clock = BrokersClock(ago=timedelta(minutes=30))
    async with simulated(SLUG, clock=clock) as (broker, address):
        account = broker.accounts[SLUG]
        account.burst(60)
        clock.ago = timedelta(minutes=20)
        account.burst(60)
        clock.ago = timedelta(0)
        async with trading(database_url, tmp_path, account, address, tables=OFTEN) as station:

            async def measured() -> list[dict[str, Any]]:
                query = "select * from accounts.closed_trades where destination = %s and high_px is not null"
                return await station.select(query, SLUG)

            rows = await station.until(measured)

        assert {row["extremes_source"] for row in rows} == {"bars"}
        for row in rows:
            assert row["low_px"] <= min(row["entry_price"], row["exit_price"])
            assert row["high_px"] >= max(row["entry_price"], row["exit_price"])


async def test_extremes_of_a_lot_that_was_watched_are_taken_over(database_url: str, tmp_path: Path) -> None:
    async with (
        simulated(SLUG) as (broker, address),
        trading(database_url, tmp_path, broker.accounts[SLUG], address, tables=OFTEN) as station,
    ):
        lot = await buy(station)
        await until_in_step(station)
        async with station.db.transaction() as conn:
            await conn.execute(
                "update accounts.open_trades set high_px = 777, low_px = 0.25, extremes_through = clock_timestamp()"
                " where parent_id = %s",
                [lot],
            )
        await stop_out(station, broker, lot)

        async def measured() -> list[dict[str, Any]]:
            query = "select * from accounts.closed_trades where entry_lot_id = %s and high_px is not null"
            return await station.select(query, lot)

        [row] = await station.until(measured)
        assert (row["high_px"], row["low_px"], row["extremes_source"]) == (777, Decimal("0.25"), "ticks")


async def test_a_rebuild_makes_the_rows_of_live_operation(database_url: str, tmp_path: Path) -> None:
    async with simulated(SLUG) as (broker, address):
        account = broker.accounts[SLUG]
        async with trading(database_url, tmp_path, account, address) as station:
            for _ in range(4):
                account.burst(60)
                await station.until_complete()
            await until_in_step(station)
            live = await open_trades(station), await closed_trades(station)

            before = await versions(station)
            await rebuild(tmp_path, database_url)
            assert (await open_trades(station), await closed_trades(station)) == live
            assert await versions(station) == before

        async with trading(database_url, tmp_path, account, address, kinds=WORKERS) as station:
            async with station.db.transaction() as conn:
                await conn.execute("delete from accounts.open_trades")
                await conn.execute("update accounts.closed_trades set pnl_cash = 0, exit_type = 'MANUAL'")
                await conn.execute("delete from accounts.closed_trades where md5(exit_order_id) < '8'")
            await rebuild(tmp_path, database_url)

            assert (await open_trades(station), await closed_trades(station)) == live
            events = await station.select("select * from accounts.events where kind = 'TradeClosed'")
            assert len({row["payload"]["lot_id"] for row in events}) == len(events)


async def test_a_rebuild_that_is_killed_leaves_each_table_old_or_new(database_url: str, tmp_path: Path) -> None:
    async with simulated(SLUG) as (broker, address):
        account = broker.accounts[SLUG]
        account.burst(60)
        async with trading(database_url, tmp_path, account, address) as station:
            await until_in_step(station)
            live = await open_trades(station), await closed_trades(station)
        async with trading(database_url, tmp_path, account, address, kinds=WORKERS) as station:
            async with station.db.transaction() as conn:
                await conn.execute("delete from accounts.open_trades")
                await conn.execute("update accounts.closed_trades set pnl_cash = 0")
            spoilt = await closed_trades(station)

            async def first_is_done() -> bool:
                return await open_trades(station) == live[0]

            async with await psycopg.AsyncConnection.connect(database_url) as hindrance:
                await take_turn(hindrance, SLUG, "closed_trades")
                async with await anyio.open_process(
                    rebuilding(tmp_path), env=environment(database_url), stderr=DEVNULL
                ) as process:
                    await station.until(first_is_done)
                    process.kill()
            assert (await open_trades(station), await closed_trades(station)) == (live[0], spoilt)

            await rebuild(tmp_path, database_url)
            assert (await open_trades(station), await closed_trades(station)) == live


async def versions(station: Station) -> dict[str, int]:
    """Return the version of each open trade."""
    rows = await station.select("select parent_id, version from accounts.open_trades")
    return {row["parent_id"]: row["version"] for row in rows}


async def rebuild(folder: Path, database_url: str) -> None:
    """Run the command on the configuration in a folder."""
    done = await anyio.run_process(rebuilding(folder), env=environment(database_url), check=False)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()


def rebuilding(folder: Path) -> list[str]:
    """Return the command line."""
    return [sys.executable, "-m", "coldharbour", "rebuild", "--config", str(folder / "ingest.toml")]


def environment(database_url: str) -> dict[str, str]:
    """Return the environment of the command."""
    return {
        **os.environ,
        "COLDHARBOUR_DATABASE__URL": database_url,
        f"ALPACA_API_KEY_{SLUG.upper()}": f"SIM-{SLUG}",
        f"ALPACA_SECRET_KEY_{SLUG.upper()}": "simulator",
    }

"""Open and closed trades as the tables hold them, beside what the simulated broker holds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from coldharbour_plugins.simulator.account import SimulatedAccount
from coldharbour_plugins.simulator.server import SimulatorAddress

from fakes.ingest import WORKERS, Station, recorded

LIVE = ("snapshot", "closed_trades")
OPEN = """
    select parent_id, symbol, side, qty, entry_qty, avg_fill, buy_value, entry_time, last_fill_time, initial_stop,
           sl_px, stop_order_id, tp_px, take_order_id, expires_at, unprotected_s, unprotected_since
    from accounts.open_trades where destination = %s order by parent_id
"""
CLOSED = """
    select entry_lot_id, exit_order_id, exit_parent_id, symbol, side, qty, entry_time, entry_price, exit_time,
           exit_price, exit_type, pnl_cash, pnl_cash_fifo, diff_pnl, return_pct, duration_sec, initial_stop, r_multiple,
           unprotected_s, closes_lot
    from accounts.closed_trades where destination = %s order by entry_lot_id, exit_order_id
"""

Rows = list[dict[str, Any]]


@asynccontextmanager
async def trading(
    database_url: str,
    folder: Path,
    account: SimulatedAccount,
    address: SimulatorAddress,
    *,
    tables: str = "",
    kinds: Sequence[str] = (*WORKERS, *LIVE),
) -> AsyncIterator[Station]:
    """Record one account and keep its trades, from when everything so far is in the tables."""
    async with recorded(database_url, folder, [(account, address)], tables, kinds) as [station]:
        await station.until_ready()
        for kind in set(kinds) & set(LIVE):
            await until_worker_ready(station, kind)
        yield station


async def until_worker_ready(station: Station, kind: str) -> None:
    """Return when a worker says that it is ready."""

    async def is_ready() -> bool:
        return await station.state(kind) == "ready"

    await station.until(is_ready)


async def open_trades(station: Station) -> Rows:
    """Return the open trades: what follows from the ledger."""
    return await station.select(OPEN, station.slug)


async def closed_trades(station: Station) -> Rows:
    """Return the closed trades: what follows from the ledger."""
    return await station.select(CLOSED, station.slug)


async def held(station: Station) -> dict[str, Decimal]:
    """Return the signed shares of each symbol that our lots add up to."""
    query = "select symbol, sum(qty) as qty from accounts.open_trades where destination = %s group by symbol"
    return {row["symbol"]: row["qty"] for row in await station.select(query, station.slug)}


def held_by_broker(station: Station) -> dict[str, Decimal]:
    """Return the signed shares of each symbol that the broker holds for the account."""
    positions = station.account.blotter.ledger.positions
    return {symbol: position.qty for symbol, position in positions.items() if position.qty}


async def until_in_step(station: Station) -> None:
    """Return when our lots add up to what the broker holds, and every fill of the lake is in a row."""

    async def is_in_step() -> bool:
        return await held(station) == held_by_broker(station) and await _closed_equals_sold(station)

    await station.until(is_in_step)


async def _closed_equals_sold(station: Station) -> bool:
    """Say whether bought shares are sold or still open, per symbol, long and short alike."""
    query = """
        with fills as (
            select symbol, sum(qty) as traded from account_activities.raw_activities
            where destination = %s and activity_type = 'FILL' group by symbol
        ), closed as (
            select symbol, sum(qty) as closed from accounts.closed_trades where destination = %s group by symbol
        ), open as (
            select symbol, sum(abs(qty)) as open from accounts.open_trades where destination = %s group by symbol
        )
        select symbol from fills left join closed using (symbol) left join open using (symbol)
        where traded <> 2 * coalesce(closed, 0) + coalesce(open, 0)
    """
    return not await station.select(query, station.slug, station.slug, station.slug)

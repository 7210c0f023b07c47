"""Open trades as the whole product keeps them: entered, valued and closed by three workers, with nobody in the way."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from fakes.ingest import WORKERS, Station, becomes, simulated
from fakes.pricing import open_all_day
from fakes.trades import LIVE, held_by_broker, trading

pytestmark = pytest.mark.anyio

SLUG = "paper"
KINDS = (*WORKERS, *LIVE, "prices")
QUICK = "[workers.prices]\nbatch_s = 0.02\n[workers.healing]\ninterval_s = 1\n"


async def enter(station: Station, symbol: str, price: Decimal, side: str = "buy") -> str:
    """Have the broker fill a bracket whose exits are far from the market; return the lot's key."""
    up, down = price * Decimal("1.2"), price * Decimal("0.8")
    far, near = (up, down) if side == "buy" else (down, up)
    placed = station.account.place({
        "symbol": symbol, "qty": "10", "side": side, "type": "market", "time_in_force": "gtc",
        "order_class": "bracket", "take_profit": {"limit_price": f"{far:.2f}"},
        "stop_loss": {"stop_price": f"{near:.2f}"},
    })  # fmt: skip
    await becomes(station.account, placed["id"], "filled")
    return str(placed["id"])


async def valued(station: Station, parent_id: str) -> dict[str, Any]:
    """Return a lot's row once it has a price of the stream."""

    async def look() -> dict[str, Any] | None:
        rows = await station.select("select * from accounts.open_trades where parent_id = %s", parent_id)
        return rows[0] if rows and rows[0]["mkt_px"] is not None else None

    found: dict[str, Any] = await station.until(look)
    return found


async def test_a_filled_bracket_is_valued_by_the_stream_and_gone_when_it_is_closed(
    database_url: str, tmp_path: Path
) -> None:
    open_all_day(database_url)
    async with simulated(SLUG) as (broker, address):
        tables = f'{QUICK}[feed]\nendpoint = "{address.price_endpoint}"\n'
        account = broker.accounts[SLUG]
        async with trading(database_url, tmp_path, account, address, tables=tables, kinds=KINDS) as station:
            bought, sold = [symbol for symbol in broker.market.symbols if symbol not in held_by_broker(station)][:2]
            long = await enter(station, bought, broker.market.price(bought))
            short = await enter(station, sold, broker.market.price(sold), side="sell")

            rows = {parent_id: await valued(station, parent_id) for parent_id in (long, short)}
            broker.market.pin(bought, broker.market.price(bought) * Decimal("1.3"))  # beyond the take-profit

            async def is_gone() -> bool:
                return not await station.select("select 1 from accounts.open_trades where parent_id = %s", long)

            await station.until(is_gone)
            states = await station.select("select kind, state, restarts from accounts.worker_status")

    for row, qty in ((rows[long], Decimal(10)), (rows[short], Decimal(-10))):
        assert row["qty"] == qty
        assert row["mkt_value"] == qty * row["mkt_px"]
        assert row["profit_loss_lot"] == qty * (row["mkt_px"] - row["avg_fill"])
        assert row["low_px"] <= row["avg_fill"] <= row["high_px"]
        assert abs(row["mkt_px"] / row["avg_fill"] - 1) < Decimal("0.1")
    assert [state for state in states if state["restarts"]] == []

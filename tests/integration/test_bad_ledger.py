"""What a ledger holds and cannot be used is recorded, logged once and shown; the rest goes on, and nothing is lost."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
import structlog.testing
from coldharbour_plugins.trades.store import unsettled
from fakes.ingest import WORKERS, Station, simulated
from fakes.lake import activity, cash_json, fill_json, name, order, order_json
from fakes.trades import LIVE, held, trading

from coldharbour.clock import SystemClock
from coldharbour.lake.writer import Lake

pytestmark = pytest.mark.anyio

SLUG = "paper"
KINDS = (*WORKERS, *LIVE, "schedule", "cash_flows", "equity")
TABLES = "\n".join(f"[workers.{kind}]\ninterval_s = 1\n" for kind in ("schedule", "cash_flows", "equity", "snapshot"))
UNDATED, UNKNOWN, SELF = "an undated dividend", "an unknown order", "an order that replaces itself"
LONG_AGO = cash_json("long ago", activity_type="CSD", date="2024-03-04", net_amount="10")  # before their calendar
EXPECTED = {
    "activities": {cash_json(UNDATED)["id"]},
    "book": {name(UNKNOWN), name(SELF)},
    "prices": {"UNPRICED"},
    "calendar": {"2024-03-04"},
}


async def findings(station: Station) -> dict[str, set[str]]:
    """Return the keys of what is unsettled, by area."""
    rows = await station.select("select area, key from accounts.findings where resolved_at is null")
    return {area: {row["key"] for row in rows if row["area"] == area} for area in {row["area"] for row in rows}}


async def test_a_bad_ledger_costs_nothing_but_what_is_bad(database_url: str, tmp_path: Path) -> None:
    async with simulated(SLUG) as (broker, address):
        with structlog.testing.capture_logs() as lines:
            async with trading(
                database_url, tmp_path, broker.accounts[SLUG], address, tables=TABLES, kinds=KINDS
            ) as station:
                await station.until_complete()
                before = await held(station)
                lake = Lake(SLUG, station.db, SystemClock())
                bad = [
                    cash_json(UNDATED, date=None),
                    LONG_AGO,
                    fill_json("of an unknown order", order=UNKNOWN, symbol="UNPRICED", qty="3", price="20"),
                    fill_json("of the order that replaces itself", order=SELF, symbol="ITSELF", qty="4"),
                ]
                await lake.write_orders(
                    [order(order_json(SELF, symbol="ITSELF", status="filled", replaces=name(SELF)))]
                )
                await lake.write_activities([activity(told) for told in bad])

                async def is_found() -> bool:
                    found = await findings(station)
                    return all(keys <= found.get(area, set()) for area, keys in EXPECTED.items())

                await station.until(is_found)

                station.account.place(
                    {"symbol": "KO", "side": "buy", "qty": 7, "type": "market", "time_in_force": "day"}
                )

                async def goes_on() -> bool:
                    now = await held(station)
                    return now == {
                        **before, "KO": before.get("KO", Decimal()) + 7, "UNPRICED": Decimal(3), "ITSELF": Decimal(4),
                    }  # fmt: skip

                await station.until(goes_on)
                kept = await station.select(
                    "select count(*) from account_activities.raw_activities where destination = %s and id = any(%s)",
                    SLUG, [told["id"] for told in bad],
                )  # fmt: skip
                async with station.db.transaction() as conn:
                    shown = [found.finding for found in await unsettled(conn, SLUG, 20)]

    assert kept == [{"count": 4}]
    logged = [line.get("finding", line.get("problem")) for line in lines]
    assert {text: logged.count(text) for text in shown} == dict.fromkeys(shown, 1)

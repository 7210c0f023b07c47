"""From the broker's socket to the key figures: what the workers make of an account is what the broker has."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from coldharbour_plugins.simulator.account import SimulatedAccount
from coldharbour_plugins.simulator.broker import SimulatedBroker
from coldharbour_plugins.simulator.stamps import new_york_day
from fakes.ingest import WORKERS, Station, recorded, simulated

pytestmark = pytest.mark.anyio

COUNTING = ("schedule", "cash_flows", "equity", "metrics")
TABLES = "[workers.schedule]\ninterval_s = 1\n\n[workers.equity]\ninterval_s = 1\n\n[workers.metrics]\ninterval_s = 1\n"


def close_of(broker: SimulatedBroker, symbol: str, day: date) -> Decimal:
    """Return the price of a symbol when a day's session closed."""
    session = broker.sessions.on(day)
    assert session is not None
    return broker.market.price_ns(symbol, session.close)


def first_day(account: SimulatedAccount) -> date:
    """Return the day of an account's first activity."""
    return min(activity.day or new_york_day(activity.at) for activity in account.blotter.ledger.everything())


def deposit_of(broker: SimulatedBroker, slug: str, day: date) -> Decimal:
    """Add up what the broker's own account was worth when a day ended."""
    cash, held = Decimal(0), dict[str, Decimal]()
    for activity in broker.accounts[slug].blotter.ledger.everything():
        if (activity.day or new_york_day(activity.at)) <= day:
            cash += activity.net_amount
            if activity.symbol is not None:
                held[activity.symbol] = held.get(activity.symbol, Decimal(0)) + activity.signed_qty
    return cash + sum(qty * close_of(broker, symbol, day) for symbol, qty in held.items())


async def test_history_is_worth_what_the_broker_says(database_url: str, tmp_path: Path) -> None:
    async with simulated("paper") as (broker, address):
        account = broker.accounts["paper"]
        past = [session.day for session in broker.sessions.all if first_day(account) <= session.day < broker.anchor]
        expected = {day: round(deposit_of(broker, "paper", day), 2) for day in past}
        async with recorded(database_url, tmp_path, [(account, address)], TABLES, WORKERS + COUNTING) as [station]:
            await station.until_complete()

            async def is_counted() -> bool:
                return await deposits(station, past) == expected

            await station.until(is_counted)
            document = await station.until(lambda: figures(station))

        flows = [activity for activity in account.blotter.ledger.everything() if activity.type != "FILL"]
        fees = sum(activity.net_amount for activity in flows if activity.type == "FEE")

    assert len(past) >= 2
    assert document["cash"] == float(account.blotter.ledger.cash)
    assert document["total_fees"] == pytest.approx(float(fees))


async def deposits(station: Station, days: list[date]) -> dict[date, Decimal]:
    rows = await station.select(
        "select session_date, deposit from accounts.equity_full where destination = %s and session_date = any(%s)",
        station.slug, days,
    )  # fmt: skip
    return {row["session_date"]: round(row["deposit"], 2) for row in rows}


async def figures(station: Station) -> dict[str, Any] | None:
    """Return the key figures once they know of a deposit and of fees."""
    rows = await station.select("select document from accounts.account_metrics where id = 'latest'")
    document = rows[0]["document"] if rows else {}
    return document if document.get("cash") is not None and document.get("total_fees") else None

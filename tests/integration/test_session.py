"""A whole trading day, accelerated: whatever happens in it, the product says at every minute what the broker knows.

Some minutes are compared while it lasts, one at least every two hours, and the whole curve at its end.
`SOAK_EVERY_MIN=1 python -m pytest tests/integration/test_session.py` compares every minute while it lasts, for some
five minutes; `SOAK_DAY=2025-11-28` makes it a day that closes at one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from coldharbour_plugins.simulator.bookings import Booking
from fakes.session import INGEST, MANAGE, MINUTE, Session, at, session

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(3600 if "SOAK_EVERY_MIN" in os.environ else 300)]

Plan = Mapping[datetime, Callable[[Session], None]]

DAY = date.fromisoformat(os.environ.get("SOAK_DAY", "2025-11-24"))
EVERY = timedelta(minutes=int(os.environ.get("SOAK_EVERY_MIN", "120")))


def book(type_: str, **fields: object) -> Callable[[Session], None]:
    """Return the booking of money or shares."""
    booking = Booking.model_validate({"type": type_, **fields})

    def act(session: Session) -> None:
        session.account.book(booking)

    return act


def dividend(session: Session) -> None:
    """Pay 25 cents for each share of what is held."""
    symbol = min(session.account.holdings().quantities)
    book("DIV", symbol=symbol, per_share="0.25", sub_type="CDIV")(session)


def transfer_in(session: Session) -> None:
    """Receive shares of something that was never traded."""
    book("ACATS", symbol=never_traded(session), qty="40")(session)


def transfer_out(session: Session) -> None:
    """Give them away again."""
    book("ACATS", symbol=never_traded(session), qty="-40")(session)


def never_traded(session: Session) -> str:
    """Return a symbol without orders."""
    orders = session.account.blotter.book
    return next(symbol for symbol in session.broker.market.symbols if next(orders.newest(symbol), None) is None)


def trade_out_of_hours(session: Session) -> None:
    """Let everything that is held trade two percent higher, at once."""
    for symbol in session.account.holdings().quantities:
        session.broker.market.pin(symbol, session.broker.market.price(symbol) * Decimal("1.02"))


def let_go(session: Session) -> None:
    """Let no price be held any more."""
    for symbol in session.broker.market.symbols:
        session.broker.market.pin(symbol, None)


def buy_early(session: Session) -> None:
    """Buy a few shares outside regular hours."""
    limit = session.broker.market.price("KO") * Decimal("1.1")
    session.account.place(
        {"symbol": "KO", "side": "buy", "qty": 3, "type": "limit", "limit_price": str(round(limit, 2)),
         "time_in_force": "day", "extended_hours": True}
    )  # fmt: skip


def nothing(_: Session) -> None:
    """Leave the account alone."""


async def live_through(session: Session, until: datetime, plan: Plan) -> None:
    """Run the product until a moment; do what is planned, and compare before it and now and then."""
    async with session.running():
        while session.now < until:
            due = [session.now + EVERY, *plan, until]
            await session.pause(min(moment for moment in due if moment > session.now) - MINUTE)
            ended = await session.minute()
            await session.agrees(ended)
            plan.get(ended + MINUTE, nothing)(session)


async def test_a_full_session_with_restarts(database_url: str, tmp_path: Path) -> None:
    plan = {
        at(DAY, 7, 30): trade_out_of_hours,
        at(DAY, 8, 15): let_go,
        at(DAY, 9, 10): buy_early,
        at(DAY, 9, 45): transfer_in,
        at(DAY, 11, 7): book("CSD", amount="5000"),
        at(DAY, 12, 40): transfer_out,
        at(DAY, 13, 20): dividend,
        at(DAY, 14, 2): book("FEE", amount="-1.23", sub_type="REG"),
        at(DAY, 17, 0): book("CSW", amount="-2500.5"),
        at(DAY, 18, 0): buy_early,
    }
    async with session(database_url, tmp_path, at(DAY, 3, 58), kinds=INGEST + MANAGE) as day:
        await live_through(day, at(DAY, 10, 30), plan)
        await live_through(day, at(DAY, 12, 0), plan)
        await day.pause(day.now + 3 * MINUTE)  # nobody listens, and the market goes on
        await live_through(day, at(DAY, 15, 45), plan)
        await live_through(day, at(DAY, 20, 20), plan)
        await ends_as_the_broker_has_it(day, DAY)


async def ends_as_the_broker_has_it(session: Session, day: date) -> None:
    """Compare what is only known at the end: every minute again, profit by exit, and the day's own row."""
    [row] = await session.select("select * from accounts.equity_full where session_date = %s", day)
    [last] = await session.select("select equity from accounts.equity_intraday order by at desc limit 1")

    assert await session.curve_differences(day) == {}
    assert await session.profit_differences() == {}
    assert (row["provisional"], row["complete"]) == (False, True)
    assert round(row["deposit"], 2) == round(last["equity"], 2)

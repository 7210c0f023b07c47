"""Activities of an account in few words, and Hypothesis strategies for whole ledgers."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import count

from hypothesis import strategies as st

from coldharbour.live.cash import AccountActivity

MONDAY, TUESDAY, WEDNESDAY, THURSDAY, FRIDAY = (date(2026, 10, day) for day in range(5, 10))
SATURDAY, NEXT_MONDAY = date(2026, 10, 10), date(2026, 10, 12)
WEEK = (MONDAY, TUESDAY, WEDNESDAY, THURSDAY, FRIDAY, NEXT_MONDAY)  # session days

_ids = count(1)


def money(*amounts: float | str) -> list[Decimal]:
    """Return exact amounts."""
    return [Decimal(amount) for amount in amounts]


def fill(
    day: date, side: str, qty: str, symbol: str, price: str, *, at: str = "13:30:00", net_amount: str | None = None
) -> AccountActivity:
    """Return a fill at a time of a day, UTC; its amount is left to its quantity and price unless it is given."""
    return AccountActivity(
        id=f"fill {next(_ids)}",
        activity_type="FILL",
        transaction_time=datetime.combine(day, time.fromisoformat(at), UTC),
        symbol=symbol,
        side=side,
        qty=Decimal(qty),
        price=Decimal(price),
        net_amount=None if net_amount is None else Decimal(net_amount),
    )


def cash(
    day: date | None, kind: str, amount: str, *, status: str = "executed", symbol: str = "", booked: str | None = None
) -> AccountActivity:
    """Return an activity that moves cash on a day. booked: when the broker created it, as ISO text."""
    return AccountActivity(
        f"{kind} {next(_ids)}", kind, None, day, symbol, net_amount=Decimal(amount), status=status,
        created_at=None if booked is None else datetime.fromisoformat(booked),
    )  # fmt: skip


def shares(
    day: date, kind: str, qty: str, symbol: str, amount: str = "0", *, price: str | None = None
) -> AccountActivity:
    """Return an activity that moves shares on a day."""
    return AccountActivity(
        f"{kind} {next(_ids)}", kind, None, day, symbol, qty=Decimal(qty), net_amount=Decimal(amount),
        price=None if price is None else Decimal(price), status="executed",
    )  # fmt: skip


def prices(**by_symbol: str) -> dict[str, dict[date, Decimal]]:
    """Return closes of the week: "61 62 - 63" is Monday's, Tuesday's and Thursday's."""
    return {
        symbol: {day: Decimal(price) for day, price in zip(WEEK, text.split(), strict=False) if price != "-"}
        for symbol, text in by_symbol.items()
    }


SYMBOLS = ("KO", "MSFT", "TSLA")
_days = st.sampled_from([*WEEK, SATURDAY])
_cents = st.integers(1, 50_000).map(lambda cents: Decimal(cents).scaleb(-2))
_times = st.integers(8 * 60, 23 * 60).map(lambda minute: f"{minute // 60:02d}:{minute % 60:02d}:30")
_fills = st.builds(
    lambda day, side, qty, symbol, price, at: fill(day, side, str(qty), symbol, str(price), at=at),
    _days,
    st.sampled_from(["buy", "sell", "sell_short"]),
    st.integers(1, 300),
    st.sampled_from(SYMBOLS),
    _cents,
    _times,
)
_cash = st.builds(
    lambda day, kind, amount, status: cash(day, kind, str(amount), status=status),
    _days,
    st.sampled_from(["CSD", "CSW", "DIV", "FEE", "INT", "TRANS"]),
    st.integers(-1_000_000, 3_000_000).map(lambda cents: Decimal(cents).scaleb(-2)),
    st.sampled_from(["executed", "correct", "canceled"]),
)
_shares = st.builds(
    lambda day, kind, qty, symbol: shares(day, kind, str(qty), symbol),
    _days,
    st.sampled_from(["JNLS", "ACATS", "SPLIT", "SPIN", "MA"]),
    st.integers(-50, 100).filter(bool),
    st.sampled_from(SYMBOLS),
)

ledgers = st.lists(st.one_of(_fills, _fills, _cash, _shares), max_size=25)
closes = st.dictionaries(st.sampled_from(SYMBOLS), st.dictionaries(st.sampled_from(WEEK), _cents))
full_closes = st.fixed_dictionaries({s: st.fixed_dictionaries(dict.fromkeys(WEEK, _cents)) for s in SYMBOLS})


def minutes(day: date, first: str, how_many: int) -> list[datetime]:
    """Return so many minutes of a day, UTC."""
    start = datetime.combine(day, time.fromisoformat(first), UTC)
    return [start + timedelta(minutes=number) for number in range(how_many)]

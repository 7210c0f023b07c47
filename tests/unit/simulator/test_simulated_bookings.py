"""Money and shares that move by hand in the simulator: deposits, dividends, transfers, splits, and what is refused."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from coldharbour_plugins.simulator.bookings import Booking, SplitOrder
from coldharbour_plugins.simulator.broker import Refused
from simulated_bench import DEPOSIT, MONDAY, SLUG, Bench, text

EVENING = datetime(2025, 11, 24, 23, 0, tzinfo=UTC)  # 18:00 in New York
TUESDAY_MORNING = datetime(2025, 11, 25, 11, 0, tzinfo=UTC)


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.price("AAPL", "100")
    return bench


def book(bench: Bench, **fields: object) -> dict[str, object]:
    return bench.account.book(Booking.model_validate(fields))


def buy(bench: Bench, qty: int) -> None:
    bench.place(qty=qty)
    bench.settle()


def figures(bench: Bench) -> tuple[str, str, str]:
    """Return cash, equity and shares of AAPL."""
    account = bench.account.account()
    return text(account, "cash"), text(account, "equity"), bench.held()


@pytest.mark.parametrize(
    ("type_", "amount", "cash"), [("CSD", "2500.5", "102500.5"), ("CSW", "-99.99", "99900.01"), ("FEE", "-1", "99999")]
)
def test_an_amount_moves_cash_and_equity_at_once(bench: Bench, type_: str, amount: str, cash: str) -> None:
    row = book(bench, type=type_, amount=amount, description="by hand")

    assert figures(bench)[:2] == (cash, cash)
    assert (row["activity_type"], row["net_amount"], row["date"]) == (type_, amount, "2025-11-24")
    assert (row["description"], row["status"]) == ("by hand", "executed")
    assert text(row, "id").startswith("20251124000000000::")
    assert row in bench.account.activities(types=[type_])


def test_a_dividend_is_paid_on_the_shares_that_are_held(bench: Bench) -> None:
    buy(bench, 7)

    row = book(bench, type="DIV", symbol="AAPL", per_share="0.333", sub_type="CDIV")

    assert (row["net_amount"], row["qty"], row["per_share_amount"]) == ("2.33", "7", "0.333")
    assert (row["symbol"], row["activity_sub_type"]) == ("AAPL", "CDIV")
    assert figures(bench) == ("99302.33", "100002.33", "7")


def test_a_fee_may_count_on_an_earlier_day(bench: Bench) -> None:
    row = book(bench, type="FEE", amount="-0.05", date="2025-11-21")

    assert row["date"] == "2025-11-21"
    assert text(row, "id").startswith("20251121000000000::")
    assert text(row, "created_at").startswith("2025-11-24T15:0")


def test_shares_come_at_their_price_and_go_first_in_first_out(bench: Bench) -> None:
    buy(bench, 10)
    bench.price("AAPL", "120")

    arrived = book(bench, type="ACATS", symbol="AAPL", qty="10")
    assert (arrived["qty"], arrived["price"], arrived["net_amount"]) == ("10", "120", "0")
    assert figures(bench) == ("99000", "101400", "20")
    assert bench.account.position("AAPL")["avg_entry_price"] == "110"
    left = book(bench, type="JNLS", symbol="AAPL", qty="-15", price="110")

    assert figures(bench) == ("99000", "99600", "5")
    assert bench.account.realised() == {left["id"]: Decimal(10 * 10 - 5 * 10)}  # ten of 100, five of 120


def test_a_transfer_is_no_profit_in_the_brokers_own_history(bench: Bench) -> None:
    book(bench, type="ACATS", symbol="AAPL", qty="10")
    book(bench, type="CSD", amount="500")
    bench.settle(120)

    history = bench.account.portfolio_history(period="1D", timeframe="1Min")
    assert history["equity"][-1] == 101_500.0  # type: ignore[index]
    assert set(history["profit_loss"]) == {0.0}  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("fields", "status", "message"),
    [
        ({"type": "FILL", "amount": 1}, 422, "type: FILL cannot be booked: fills come from orders"),
        ({"type": "SPLIT", "symbol": "AAPL", "qty": 1}, 422, "type: SPLIT cannot be booked"),
        ({"type": "LOOT", "amount": 1}, 422, "type: LOOT cannot be booked"),
        ({"type": "CSD"}, 422, "CSD takes an amount"),
        ({"type": "DIV", "symbol": "NOSUCH", "amount": 1}, 404, "asset not found for NOSUCH"),
        ({"type": "DIV", "symbol": "KO", "per_share": 1}, 422, "on a symbol that is held"),
        ({"type": "CSD", "per_share": 1}, 422, "per_share is for a DIV"),
        ({"type": "ACATS", "symbol": "AAPL"}, 422, "ACATS takes a symbol and a qty"),
        ({"type": "ACATS", "symbol": "AAPL", "qty": -11}, 422, "only 10 shares of AAPL can be transferred out"),
        ({"type": "CSD", "amount": 1, "date": "2025-11-25"}, 422, "date: 2025-11-25 is not within the 40 days"),
        ({"type": "CSD", "amount": 1, "date": "2025-10-15"}, 422, "date: 2025-10-15 is not within the 40 days"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_nothing_is_booked(
    bench: Bench, fields: dict[str, object], status: int, message: str
) -> None:
    buy(bench, 10)
    before = bench.account.truth()

    with pytest.raises(Refused, match=message) as refusal:
        book(bench, **fields)

    assert refusal.value.status == status
    assert bench.account.truth() == before


@pytest.mark.parametrize(
    ("ratio", "row", "position"),
    [
        ("2", ("10", "FSPLIT"), ("20", "50", "50")),
        ("0.1", ("-9", "RSPLIT"), ("1", "1000", "1000")),
        ("1.5", ("5", "FSPLIT"), ("15", "66.666667", "66.67")),
    ],
)
def test_a_split_changes_shares_and_price_and_no_worth(
    bench: Bench, ratio: str, row: tuple[str, str], position: tuple[str, str, str]
) -> None:
    buy(bench, 10)

    booked = bench.broker.split(SplitOrder.model_validate({"symbol": "AAPL", "ratio": ratio}))
    bench.settle()

    (split,) = bench.account.activities(types=["SPLIT"])
    assert (split["qty"], split["activity_sub_type"], split["net_amount"]) == (*row, "0")
    assert booked[SLUG].id == split["id"]
    shown = bench.account.position("AAPL")
    assert (shown["qty"], shown["avg_entry_price"], shown["current_price"]) == position
    assert abs(Decimal(figures(bench)[1]) - DEPOSIT) <= Decimal("0.05")  # fifteen prices rounded to a cent


def test_prices_before_a_split_stay_raw_and_the_day_is_compared_in_new_shares() -> None:
    bench = Bench(EVENING, always_open=False)
    market, before = bench.broker.market, MONDAY
    raw = market.price_at("AAPL", before)
    book(bench, type="ACATS", symbol="AAPL", qty="10")
    close = market.price("AAPL")

    bench.clock.advance((TUESDAY_MORNING - EVENING).total_seconds())
    bench.broker.split(SplitOrder(symbol="AAPL", ratio=Decimal(4)))
    bench.settle()

    assert market.price_at("AAPL", before) == raw
    assert abs(market.price("AAPL") * 4 - close) <= Decimal("0.02")
    assert market.last("AAPL").at == TUESDAY_MORNING
    position = bench.account.position("AAPL")
    assert (position["qty"], position["change_today"]) == ("40", "0")
    assert abs(Decimal(text(bench.account.account(), "last_equity")) - (DEPOSIT + 10 * close)) == 0


def test_a_split_leaves_the_legs_of_a_bracket_alone_and_the_stop_fires() -> None:
    bench = Bench()
    parent = bench.bracket(qty=10, target="110", stop="95")

    bench.broker.split(SplitOrder(symbol="AAPL", ratio=Decimal(2)))
    target, stop = bench.legs(parent)
    assert (target["limit_price"], stop["stop_price"], stop["qty"]) == ("110", "95", "10")
    bench.settle()

    _, stop = bench.legs(parent)
    assert (stop["status"], stop["filled_avg_price"], bench.held()) == ("filled", "50", "10")
    assert sum(bench.account.realised().values()) == 0  # sold at 50 what had become 50 each


def test_a_restart_remembers_bookings_and_splits(tmp_path: Path) -> None:
    folder = tmp_path / "first"
    folder.mkdir()
    bench = Bench(journal=folder / "journal.jsonl")
    bench.price("AAPL", "100")
    buy(bench, 10)
    book(bench, type="CSD", amount="7")
    bench.broker.market.pin("AAPL", None)
    bench.settle()
    bench.broker.split(SplitOrder(symbol="AAPL", ratio=Decimal(2)))
    bench.settle()
    copy = Path(shutil.copytree(folder, tmp_path / "second"))

    again = Bench(bench.clock.now() + timedelta(minutes=1), journal=copy / "journal.jsonl")

    assert again.held() == "20"
    assert again.account.truth()["cash"] == bench.account.truth()["cash"] == "99007"
    later = again.clock.now()
    assert again.broker.market.price_at("AAPL", later) == bench.broker.market.price_at("AAPL", later)
    again.broker.close()
    bench.broker.close()

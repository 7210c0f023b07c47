"""What is stored of lots and closed trades: R multiples, and the broker's average."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from coldharbour.live.model import ClosedTrade, ExitType, Lot, Side
from coldharbour.live.rows import open_row, r_multiple

NOON = datetime(2026, 10, 8, 16, 0, tzinfo=UTC)
TRADE = ClosedTrade(
    entry_lot_id="lot", exit_order_id="exit", exit_parent_id="lot", symbol="KO", side=Side.LONG, qty=Decimal(10),
    entry_time=NOON, entry_price=Decimal(50), exit_time=NOON, exit_price=Decimal("51.60"),
    exit_type=ExitType.TAKE_PROFIT, pnl_cash=Decimal(16), pnl_cash_fifo=Decimal(16), diff_pnl=Decimal(0),
    return_pct=Decimal("3.2"), duration_sec=0, initial_stop=Decimal("49.20"),
)  # fmt: skip
LOT = Lot(
    parent_id="lot", symbol="KO", side=Side.SHORT, qty=Decimal(-10), entry_qty=Decimal(10), avg_fill=Decimal("50.5"),
    avg_px_symbol=Decimal(51), entry_time=NOON, last_fill_time=NOON,
)  # fmt: skip


@pytest.mark.parametrize(
    ("side", "entry", "stop", "exit_price", "expected"),
    [
        (Side.LONG, "50", "49.20", "51.60", "2"),
        (Side.LONG, "50", "49.20", "49.20", "-1"),
        (Side.SHORT, "50", "50.80", "48.40", "2"),
        (Side.SHORT, "50", "50.80", "51.20", "-1.5"),
        (Side.LONG, "50", "47", "51", "0.333333"),
        (Side.LONG, "50", "50", "51", None),
        (Side.LONG, "50", None, "51", None),
    ],
)
def test_r_is_the_exits_move_in_units_of_the_initial_risk(
    side: Side, entry: str, stop: str | None, exit_price: str, expected: str | None
) -> None:
    trade = replace(
        TRADE, side=side, entry_price=Decimal(entry), exit_price=Decimal(exit_price),
        initial_stop=None if stop is None else Decimal(stop),
    )  # fmt: skip

    assert r_multiple(trade) == (None if expected is None else Decimal(expected))


def test_the_brokers_average_takes_the_place_of_ours_where_it_is_given() -> None:
    assert open_row(LOT, None)["avg_px_symbol"] == Decimal(51)
    assert open_row(LOT, Decimal("51.25"))["avg_px_symbol"] == Decimal("51.25")


def test_the_value_of_a_short_lot_is_negative() -> None:
    assert open_row(LOT, None)["buy_value"] == Decimal("-505.0")

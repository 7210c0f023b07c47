"""What a lot is worth: hand-worked figures for long and short lots, and every case in which there is none."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldharbour.live.model import Lot, Side
from coldharbour.live.valuation import (
    Excursions,
    Valuation,
    buy_value,
    days_to_expire,
    excursions,
    holding_days,
    r_multiple,
    tp_sl_reach_pct,
    value,
)

D = Decimal
NOON = datetime(2026, 10, 8, 16, 0, tzinfo=UTC)

# Bought 40 of 60 that are left, at 50.00; the symbol's average cost is 51.00; R is 0.80.
LONG = Lot(
    parent_id="long", symbol="KO", side=Side.LONG, qty=D(40), entry_qty=D(60), avg_fill=D("50.00"),
    avg_px_symbol=D("51.00"), entry_time=NOON, last_fill_time=NOON, initial_stop=D("49.20"), stop_price=D("49.60"),
    stop_order_id="stop", take_price=D("54.00"), take_order_id="take",
)  # fmt: skip
# Sold short 40 at 50.00; stop above, take-profit below.
SHORT = replace(
    LONG, parent_id="short", side=Side.SHORT, qty=D(-40), avg_px_symbol=D("49.50"), initial_stop=D("50.80"),
    stop_price=D("50.40"), take_price=D("46.00"),
)  # fmt: skip


class TestWorkedByHand:
    def test_a_long_lot_above_entry(self) -> None:
        # 40*52; 40*(52-51); 40*(52-50); half of the 4.00 to the take-profit; 2.00/0.80
        assert value(LONG, D("52.00")) == Valuation(D("52.00"), D(2080), D(40), D(80), D(50), D("2.5"))

    def test_a_long_lot_below_entry(self) -> None:
        # 40*49.9; 40*(49.9-51); 40*-0.1; a quarter of the 0.40 to the stop as it stands now; -0.10/0.80
        assert value(LONG, D("49.90")) == Valuation(D("49.90"), D(1996), D(-44), D(-4), D(-25), D("-0.125"))

    def test_a_short_lot_in_profit(self) -> None:
        # -40*48; -40*(48-49.5); -40*(48-50); half of the 4.00 down to the take-profit; 2.00/0.80
        assert value(SHORT, D("48.00")) == Valuation(D("48.00"), D(-1920), D(60), D(80), D(50), D("2.5"))

    def test_a_short_lot_at_a_loss(self) -> None:
        # -40*50.1; -40*(50.1-49.5); -40*0.1; a quarter of the 0.40 up to the stop; -0.10/0.80
        assert value(SHORT, D("50.10")) == Valuation(D("50.10"), D(-2004), D(-24), D(-4), D(-25), D("-0.125"))

    def test_what_was_paid_is_negative_for_a_short_lot(self) -> None:
        assert (buy_value(LONG.qty, LONG.avg_fill), buy_value(SHORT.qty, SHORT.avg_fill)) == (D(2000), D(-2000))

    def test_money_keeps_every_digit(self) -> None:
        odd = replace(LONG, qty=D("0.123456789"), avg_fill=D("3.6199"), avg_px_symbol=D("3.6199"))

        # 0.123456789 * (3.6201 - 3.6199)
        assert value(odd, D("3.6201")).profit_loss == D("0.0000246913578")


class TestReach:
    @pytest.mark.parametrize(
        ("side", "price", "reach"),
        [
            (Side.LONG, "54.00", "100.0000"),
            (Side.LONG, "49.60", "-100.0000"),
            (Side.LONG, "56.00", "150.0000"),
            (Side.LONG, "50.00", "0.0000"),
            (Side.SHORT, "46.00", "100.0000"),
            (Side.SHORT, "50.40", "-100.0000"),
        ],
    )
    def test_it_is_100_at_the_take_profit_and_minus_100_at_the_stop(self, side: Side, price: str, reach: str) -> None:
        lot = LONG if side is Side.LONG else SHORT

        assert str(value(lot, D(price)).tp_sl_reach_pct) == reach

    @pytest.mark.parametrize(
        ("side", "price", "take", "stop"),
        [
            (Side.LONG, "51", None, "49"),  # no take-profit
            (Side.LONG, "49", "54", None),  # no stop
            (Side.LONG, "50", None, "49"),  # at entry the way is the one to the take-profit
            (Side.LONG, "49", "54", "50"),  # the stop at break-even
            (Side.LONG, "49", "54", "51"),  # the stop past it
            (Side.LONG, "51", "50", "49"),  # a take-profit at entry
            (Side.LONG, "51", "49", "48"),  # a take-profit on the wrong side
            (Side.SHORT, "49", None, "51"),
            (Side.SHORT, "51", "46", None),
            (Side.SHORT, "51", "46", "50"),
            (Side.SHORT, "51", "46", "49"),
            (Side.SHORT, "49", "51", "52"),
        ],
    )
    def test_it_is_empty_without_a_target_beyond_entry_on_its_side(
        self, side: Side, price: str, take: str | None, stop: str | None
    ) -> None:
        targets = {"take": take and D(take), "stop": stop and D(stop)}

        assert tp_sl_reach_pct(side, D(50), D(price), **targets) is None  # type: ignore[arg-type]

    @pytest.mark.parametrize(("price", "reach"), [("50.000001", "0.0000"), ("50.000015", "0.0002")])
    def test_it_is_rounded_half_to_even(self, price: str, reach: str) -> None:
        # 100*0.000001/2 = 0.00005 lies half-way to 0.0001; 100*0.000015/10... is 0.00015, half-way to 0.0002
        take = D(52) if price == "50.000001" else D(60)

        assert str(tp_sl_reach_pct(Side.LONG, D(50), D(price), take=take, stop=None)) == reach


class TestR:
    @pytest.mark.parametrize("stop", [None, D(50)])
    def test_it_is_empty_without_a_risk(self, stop: Decimal | None) -> None:
        assert r_multiple(Side.LONG, D(50), stop, D(55)) is None

    def test_a_stop_on_the_profit_side_still_measures_a_distance(self) -> None:
        assert r_multiple(Side.LONG, D(50), D("50.80"), D("51.60")) == 2

    def test_it_follows_the_initial_stop_not_the_moved_one(self) -> None:
        moved = replace(LONG, stop_price=D("49.99"))

        assert value(moved, D("51.60")).r_multiple == 2

    def test_it_is_rounded_to_six_decimals(self) -> None:
        assert str(r_multiple(Side.LONG, D(50), D(47), D(51))) == "0.333333"


class TestExcursions:
    def test_a_long_lot(self) -> None:
        # from 50.00: up 1.60 = 2 R, down 0.40 = half an R
        assert excursions(LONG, D("51.60"), D("49.60")) == Excursions(D("1.60"), D("-0.40"), D(2), D("-0.5"))

    def test_a_short_lot(self) -> None:
        assert excursions(SHORT, D("50.40"), D("48.40")) == Excursions(D("1.60"), D("-0.40"), D(2), D("-0.5"))

    def test_a_price_that_never_left_the_entry_on_one_side_makes_zero_there(self) -> None:
        assert excursions(LONG, D("51.60"), D("50.20")).mae == 0
        assert excursions(LONG, D("49.90"), D("49.60")).mfe == 0

    def test_without_a_risk_there_is_no_r(self) -> None:
        found = excursions(replace(LONG, initial_stop=None), D("51.60"), D("49.60"))

        assert (found.mfe_r, found.mae_r) == (None, None)


class TestDays:
    @pytest.mark.parametrize(("held", "days"), [({"hours": 23}, 0), ({"days": 1}, 1), ({"days": 9, "hours": 23}, 9)])
    def test_holding_counts_whole_days(self, held: dict[str, int], days: int) -> None:
        assert holding_days(NOON, NOON + timedelta(**held)) == days

    def test_a_clock_behind_the_brokers_makes_no_negative_day(self) -> None:
        assert holding_days(NOON, NOON - timedelta(seconds=2)) == 0

    @pytest.mark.parametrize(("left", "days"), [({"days": 89, "hours": 23}, 89), ({"hours": 1}, 0), ({"hours": -5}, 0)])
    def test_expiry_counts_whole_days_and_never_below_zero(self, left: dict[str, int], days: int) -> None:
        assert days_to_expire(NOON + timedelta(**left), NOON) == days

    def test_legs_that_never_expire_have_no_day(self) -> None:
        assert days_to_expire(None, NOON) is None


prices = st.decimals(min_value="0.01", max_value="10000", places=4)


@given(entry=prices, price=prices, stop=prices, take=prices, average=prices)
def test_a_short_lot_is_the_mirror_image_of_a_long_one(
    entry: Decimal, price: Decimal, stop: Decimal, take: Decimal, average: Decimal
) -> None:
    long = replace(LONG, avg_fill=entry, avg_px_symbol=average, initial_stop=stop, stop_price=stop, take_price=take)
    mirrored = {name: 2 * entry - getattr(long, name) for name in ("avg_px_symbol", "stop_price", "take_price")}
    short = replace(long, side=Side.SHORT, qty=-long.qty, initial_stop=2 * entry - stop, **mirrored)

    ours, theirs = value(long, price), value(short, 2 * entry - price)

    assert ours.profit_loss == theirs.profit_loss
    assert ours.profit_loss_lot == theirs.profit_loss_lot
    assert ours.tp_sl_reach_pct == theirs.tp_sl_reach_pct
    assert ours.r_multiple == theirs.r_multiple

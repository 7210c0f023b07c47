"""Key figures: every one worked by hand, lots collapsed before they are counted, and null where nothing divides."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from fakes.accounting import MONDAY, TUESDAY, WEDNESDAY, WEEK, cash, fill, money, prices

from coldharbour.live.model import ClosedTrade, ExitType, Side
from coldharbour.metrics.equity import daily_equity
from coldharbour.metrics.kpis import FORMULAS, EquityFigures, OpenFigures, equity_figures, kpis
from coldharbour.metrics.model import EquityPoint, IntradayPoint
from coldharbour.metrics.outcomes import ClosedFigures, closed_figures, lot_outcomes

NOON = datetime(2026, 10, 7, 16, 0, tzinfo=UTC)
TP, SL, MANUAL = ExitType.TAKE_PROFIT, ExitType.STOP_LOSS, ExitType.MANUAL


def closing(
    lot: str,
    exit_type: ExitType,
    pnl: str,
    *,
    qty: str = "100",
    price: str = "10",
    fifo: str = "0",
    held_days: float = 1,
) -> ClosedTrade:
    return ClosedTrade(
        entry_lot_id=lot, exit_order_id=f"exit of {lot} after {held_days}", exit_parent_id=lot, symbol="KO",
        side=Side.LONG, qty=Decimal(qty), entry_time=NOON, entry_price=Decimal(10),
        exit_time=NOON + timedelta(days=held_days), exit_price=Decimal(0), exit_type=exit_type,
        pnl_cash=Decimal(pnl), pnl_cash_fifo=Decimal(fifo), diff_pnl=Decimal(0), return_pct=Decimal(0), duration_sec=0,
    )  # fmt: skip


def document(**inputs: Any) -> dict[str, Any]:
    """Return the document of these inputs; what is not given is nothing."""
    nothing: dict[str, Any] = {
        "equity": EquityFigures(),
        "open_lots": OpenFigures(),
        "closed": ClosedFigures(),
        "flows": {},
    }
    return kpis(**(nothing | {"updated_at": NOON} | inputs))


def point(day: date, deposit: str, **more: Any) -> EquityPoint:
    [made] = daily_equity([cash(day, "CSD", deposit)], {}, [day])
    values = {name: getattr(made, name) for name in made.__dataclass_fields__}
    return EquityPoint(**(values | more))


def minute(day: date, equity: str, **more: Any) -> IntradayPoint:
    values: dict[str, Any] = {"profit": Decimal(0), "flows": Decimal(0), "cumulative_return": 0.0, "complete": True}
    return IntradayPoint(session_date=day, at=NOON, equity=Decimal(equity), **(values | more))


class TestLots:
    def test_the_closings_of_a_lot_are_one_outcome(self) -> None:
        [lot] = lot_outcomes([
            closing("a", TP, "60", qty="60", fifo="50", held_days=1),
            closing("a", SL, "-10", qty="40", fifo="5", held_days=3),
        ])  # fmt: skip

        assert lot.exit_type is TP
        assert [lot.pnl_cash, lot.pnl_cash_fifo] == money(50, 55)
        assert (lot.invested, lot.held) == (Decimal(1_000), timedelta(days=3))

    def test_its_class_is_what_closed_most_shares_in_all(self) -> None:
        [lot] = lot_outcomes([
            closing("a", TP, "1", qty="40"), closing("a", SL, "1", qty="30"), closing("a", SL, "1", qty="30"),
        ])  # fmt: skip

        assert lot.exit_type is SL

    @pytest.mark.parametrize(("take_after", "stop_after", "expected"), [(2, 1, TP), (1, 2, SL)])
    def test_of_two_classes_with_as_many_shares_the_later_exit_decides(
        self, take_after: float, stop_after: float, expected: ExitType
    ) -> None:
        [lot] = lot_outcomes([
            closing("a", TP, "1", qty="50", held_days=take_after),
            closing("a", SL, "1", qty="50", held_days=stop_after),
        ])  # fmt: skip

        assert lot.exit_type is expected

    def test_a_take_has_a_profit_and_a_stop_a_loss(self) -> None:
        figures = closed_figures([
            closing("take", TP, "10"), closing("take at a loss", TP, "-1"), closing("stop", SL, "-5"),
            closing("stop at a profit", SL, "2"), closing("by hand", MANUAL, "7"), closing("nothing", TP, "0"),
        ])  # fmt: skip

        assert (figures.count, figures.takes, figures.stops, figures.pnl_cash) == (6, 1, 1, Decimal(13))


class TestTrades:
    """Two takes of 1,000 and 3,000 invested, two stops of 1,000 and 1,000."""

    closed = closed_figures([
        closing("a", TP, "100", qty="100", fifo="90", held_days=2),
        closing("b", TP, "500", qty="300", fifo="400", held_days=6),
        closing("c", SL, "-50", qty="100", fifo="-40", held_days=0.5),
        closing("d", SL, "-150", qty="100", fifo="-60", held_days=1.5),
        closing("e", MANUAL, "33", qty="100", fifo="10"),
    ])  # fmt: skip

    def test_means_are_weighted_by_the_money_invested(self) -> None:
        found = document(closed=self.closed)

        assert found["mean_take"] == 400.0  # (1000*100 + 3000*500) / 4000
        assert found["mean_stop"] == 100.0  # (1000*50 + 1000*150) / 2000
        assert found["hold_take_days"] == 5.0  # (1000*2 + 3000*6) / 4000
        assert found["hold_stop_days"] == 1.0

    def test_reward_win_rate_and_break_even_follow(self) -> None:
        found = document(closed=self.closed)

        assert (found["risk_reward"], found["breakeven_pct"], found["win_rate_pct"]) == (4.0, 20.0, 50.0)
        assert found["closed_trades"] == 5

    def test_both_engines_results_are_summed_and_the_fifo_one_is_netted_with_the_cash(self) -> None:
        flows = {
            "FEE": "-7", "CFEE": "-1", "PTC": "-2", "DIVFEE": "-0.5", "DIV": "20", "DIVNRA": "-3", "INT": "4",
            "INTNRA": "-1", "CSD": "10000", "CGD": "99",
        }  # fmt: skip

        found = document(closed=self.closed, flows={kind: Decimal(amount) for kind, amount in flows.items()})

        assert (found["realized_pl_strategy"], found["realized_pl_fifo"]) == (433.0, 400.0)
        assert (found["total_fees"], found["net_dividends"], found["net_interest"]) == (-10.5, 17.0, 3.0)
        assert found["net_realized_fifo"] == 409.5

    def test_open_lots_are_valued(self) -> None:
        found = document(open_lots=OpenFigures(3, Decimal("1234.5"), Decimal("-12.25")))

        assert (found["open_trades"], found["open_value"], found["unrealized_pl"]) == (3, 1234.5, -12.25)


class TestEquity:
    def test_the_newest_minute_counts_and_the_day_is_measured_from_the_close_before(self) -> None:
        daily = [point(MONDAY, "900"), point(TUESDAY, "1000"), point(WEDNESDAY, "1150", provisional=True)]
        now = minute(WEDNESDAY, "1250", flows=Decimal(200), profit=Decimal(50), cumulative_return=0.25)

        found = document(equity=equity_figures(daily, now))

        assert (found["equity"], found["day_pl"], found["day_return_pct"], found["total_return_pct"]) == (
            1250,
            50,
            5,
            25,
        )

    def test_after_the_close_the_day_is_still_measured_from_the_close_before_it(self) -> None:
        daily = [point(MONDAY, "900"), point(TUESDAY, "1000"), point(WEDNESDAY, "1250")]

        found = document(equity=equity_figures(daily, minute(WEDNESDAY, "1260")))

        assert (found["equity"], found["day_pl"]) == (1260, 260)

    def test_without_a_minute_the_newest_daily_row_counts(self) -> None:
        daily = [point(MONDAY, "1000"), point(TUESDAY, "1300", net_flows=Decimal(200), cumulative_return=0.1)]

        found = document(equity=equity_figures(daily))

        assert (found["equity"], found["day_pl"], found["day_return_pct"]) == (1300, 100, 10)
        assert found["total_return_pct"] == pytest.approx(10)

    def test_a_minute_of_an_older_session_gives_way_to_the_daily_row(self) -> None:
        daily = [point(MONDAY, "1000"), point(TUESDAY, "1300")]

        assert document(equity=equity_figures(daily, minute(MONDAY, "1001")))["equity"] == 1300

    def test_the_first_session_has_no_day_before_it(self) -> None:
        found = document(equity=equity_figures([point(MONDAY, "1000")]))

        assert (found["equity"], found["day_pl"], found["day_return_pct"]) == (1000, None, None)

    def test_drawdowns_volumes_and_ratios_come_from_the_daily_rows(self) -> None:
        activities = [
            cash(MONDAY, "CSD", "1000"),
            fill(MONDAY, "buy", "10", "KO", "60"),
            fill(WEDNESDAY, "sell", "4", "KO", "50"),
        ]

        points = daily_equity(activities, prices(KO="60 40 50"), WEEK[:3])
        found = document(equity=equity_figures(points))

        assert found["cash"] == 600  # 1000 - 10*60 + 4*50
        assert (found["buy_volume"], found["sell_volume"]) == (600, 200)
        assert found["max_drawdown_pct"] == pytest.approx(-20)  # 1000 became 800
        assert found["current_drawdown_pct"] == pytest.approx(-10)
        assert found["sharpe_10"] is None

    def test_the_ratios_are_the_newest_daily_rows(self) -> None:
        ratios = {name: float(number) for number, name in enumerate(point(MONDAY, "1").ratios)}

        found = document(equity=equity_figures([point(MONDAY, "1000", ratios=ratios)]))

        assert (found["sharpe_10"], found["sharpe_252"], found["smart_sharpe_10"], found["smart_sharpe_252"]) == (
            0,
            4,
            5,
            9,
        )


class TestTheDocument:
    KEYS = (
        "equity", "cash", "total_return_pct", "day_pl", "day_return_pct", "net_realized_fifo", "unrealized_pl",
        "open_value", "realized_pl_fifo", "realized_pl_strategy", "total_fees", "net_dividends", "net_interest",
        "breakeven_pct", "win_rate_pct", "risk_reward", "mean_take", "mean_stop", "hold_take_days", "hold_stop_days",
        "buy_volume", "sell_volume", "closed_trades", "open_trades", "max_drawdown_pct", "current_drawdown_pct",
        "sharpe_10", "sharpe_21", "sharpe_63", "sharpe_126", "sharpe_252", "smart_sharpe_10", "smart_sharpe_21",
        "smart_sharpe_63", "smart_sharpe_126", "smart_sharpe_252", "updated_at",
    )  # fmt: skip

    def test_its_keys_are_fixed_and_each_has_a_formula(self) -> None:
        assert tuple(document()) == self.KEYS == tuple(FORMULAS)
        assert all(FORMULAS.values())

    def test_an_account_without_anything_has_zeros_where_it_sums_and_nulls_where_it_would_divide(self) -> None:
        found = document()

        zeros = [key for key, value in found.items() if value == 0]
        assert zeros == [
            "net_realized_fifo", "unrealized_pl", "open_value", "realized_pl_fifo", "realized_pl_strategy",
            "total_fees", "net_dividends", "net_interest", "buy_volume", "sell_volume", "closed_trades", "open_trades",
        ]  # fmt: skip
        assert {value for key, value in found.items() if key not in [*zeros, "updated_at"]} == {None}

    @pytest.mark.parametrize("exit_type", [TP, SL])
    def test_takes_without_stops_and_stops_without_takes_have_no_reward(self, exit_type: ExitType) -> None:
        pnl = "10" if exit_type is TP else "-10"

        found = document(closed=closed_figures([closing("a", exit_type, pnl)]))

        assert (found["risk_reward"], found["breakeven_pct"]) == (None, None)
        assert found["win_rate_pct"] == (100 if exit_type is TP else 0)

    def test_it_is_json_with_numbers(self) -> None:
        found = json.loads(
            json.dumps(document(closed=TestTrades.closed, equity=equity_figures([point(MONDAY, "1000")])))
        )

        assert found.pop("updated_at") == "2026-10-07T16:00:00+00:00"
        assert {type(value) for value in found.values() if value is not None} == {int, float}

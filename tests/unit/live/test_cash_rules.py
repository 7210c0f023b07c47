"""Activities: when one counts, what it does to cash and shares, and which flows are external."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from fakes.accounting import TUESDAY, fill, money, shares
from fakes.accounting import cash as moved

from coldharbour.broker import translate
from coldharbour.live import cash
from coldharbour.live.cash import AccountActivity, cash_effect, cash_flow, counted_day, day_of, problem_of, share_effect
from coldharbour.live.model import MoveKind

EVENING = datetime(2026, 10, 7, 1, 30, tzinfo=UTC)  # 21:30 on Tuesday in New York


class TestWhenItCounts:
    def test_on_its_date_although_it_was_booked_on_another_day(self) -> None:
        dividend = AccountActivity("1", "DIV", transaction_time=EVENING, date=date(2026, 10, 1))

        assert day_of(dividend) == date(2026, 10, 1)

    def test_a_fill_on_the_day_it_is_in_new_york(self) -> None:
        late = AccountActivity("1", "FILL", transaction_time=EVENING)

        assert day_of(late) == TUESDAY

    def test_not_at_all_once_it_is_canceled(self) -> None:
        assert counted_day(moved(TUESDAY, "DIV", "1.02")) == TUESDAY
        assert counted_day(moved(TUESDAY, "DIV", "1.02", status="correct")) == TUESDAY
        assert counted_day(moved(TUESDAY, "DIV", "1.02", status="canceled")) is None

    @pytest.mark.parametrize(
        ("activity", "problem"),
        [
            (moved(None, "DIV", "1.02"), "it has neither a date nor a time"),
            (AccountActivity("1", "CSD", date=TUESDAY), "it has no amount"),
            (AccountActivity("1", "JNLS", date=TUESDAY, symbol="KO"), "shares without symbol or quantity"),
            (
                AccountActivity("1", "FILL", EVENING, symbol="KO", side="buy", qty=Decimal(1)),
                "a fill without symbol, side, quantity or price",
            ),
            (AccountActivity("1", "MA", date=TUESDAY, net_amount=Decimal("12.5")), None),
            (shares(TUESDAY, "SPLIT", "20", "KO"), None),
            (moved(TUESDAY, "FEE", "0"), None),
        ],
    )
    def test_not_while_something_is_missing_and_nothing_is_guessed(
        self, activity: AccountActivity, problem: str | None
    ) -> None:
        assert problem_of(activity) == problem
        assert counted_day(activity) == (None if problem else TUESDAY)


class TestWhatItDoes:
    def test_a_fill_moves_shares_one_way_and_cash_the_other(self) -> None:
        effects = {
            side: (share_effect(done), cash_effect(done))
            for side in ("buy", "sell", "sell_short")
            for done in [fill(TUESDAY, side, "10", "KO", "62.10")]
        }

        assert effects == {
            "buy": (Decimal(10), Decimal("-621.00")),
            "sell": (Decimal(-10), Decimal("621.00")),
            "sell_short": (Decimal(-10), Decimal("621.00")),
        }

    def test_the_amount_that_was_booked_wins_over_quantity_times_price(self) -> None:
        assert cash_effect(fill(TUESDAY, "buy", "3", "KO", "0.3333", net_amount="-1.00")) == Decimal("-1.00")

    @pytest.mark.parametrize("kind", ["JNLS", "ACATS", "SPLIT", "SSP", "SPIN", "NC", "MA", "REORG"])
    def test_transfers_and_corporate_actions_move_their_signed_shares(self, kind: str) -> None:
        assert share_effect(shares(TUESDAY, kind, "-7", "KO")) == Decimal(-7)

    def test_the_shares_that_a_dividend_was_paid_for_stay_where_they_are(self) -> None:
        dividend = AccountActivity("1", "DIV", date=TUESDAY, symbol="KO", qty=Decimal(2), net_amount=Decimal("1.02"))

        assert [share_effect(dividend), cash_effect(dividend)] == money(0, "1.02")

    def test_a_transfer_is_told_from_a_split(self) -> None:
        kinds = {kind: cash.move_kind(kind) for kind in ("JNLS", "ACATS", "SPLIT", "MA", "FILL", "CSD")}

        assert kinds == {
            "JNLS": MoveKind.TRANSFER, "ACATS": MoveKind.TRANSFER, "SPLIT": MoveKind.SPLIT, "MA": MoveKind.SPLIT,
            "FILL": None, "CSD": None,
        }  # fmt: skip

    def test_the_brokers_own_activity_is_read_like_the_lakes(self) -> None:
        raw = (
            b'{"id":"20261001000000000::c4","activity_type":"DIV","date":"2026-10-01","net_amount":"1.02","symbol":"T",'
            b'"qty":"2","status":"executed"}'
        )

        dividend = translate.activity(raw)

        assert (counted_day(dividend), cash_effect(dividend)) == (date(2026, 10, 1), Decimal("1.02"))


class TestFlows:
    def test_performance_types_change_profit_and_all_other_cash_is_external(self) -> None:
        performance = "DIV DIVCGL DIVCGS DIVNRA DIVROC DIVTXEX DIVWH INT INTPNL FEE CFEE PTC PTR "
        performance += "DIVFEE DIVFT DIVTW INTNRA INTTW CGD CIL"

        assert [kind for kind in performance.split() if cash.is_external(kind)] == []
        assert all(cash.is_external(kind) for kind in ("CSD", "CSW", "JNLC", "ACATC", "TRANS", "SWP", "A_NEW_TYPE"))
        assert cash.is_external("JNLS")

    def test_the_cash_of_a_fill_or_a_merger_stands_for_shares_and_is_not_external(self) -> None:
        assert not cash.is_external("FILL")
        assert not cash.is_external("MA")

    def test_an_operator_may_call_other_types_profit(self) -> None:
        assert not cash.is_external("SWP", {"SWP"})
        assert cash.is_external("DIV", {"SWP"})

    def test_a_flow_without_a_time_is_dated_at_midnight_in_new_york(self) -> None:
        fee = AccountActivity(
            "1", "FEE", date=TUESDAY, net_amount=Decimal("-0.05"), symbol="KO", description="TAF fee", status="executed"
        )

        flow = cash_flow(fee)

        assert flow.ts == datetime(2026, 10, 6, 4, 0, tzinfo=UTC)
        assert (flow.flow_date, flow.amount, flow.type, flow.is_external) == (TUESDAY, Decimal("-0.05"), "FEE", False)
        assert (flow.symbol, flow.description) == ("KO", "TAF fee")

    def test_a_flow_that_cannot_be_counted_is_refused(self) -> None:
        with pytest.raises(ValueError, match="activity x cannot be counted: it has no amount"):
            cash_flow(AccountActivity("x", "CSD", date=TUESDAY))

    def test_the_groups_of_the_key_figures_do_not_overlap(self) -> None:
        kinds = ("FEE", "CFEE", "PTC", "PTR", "DIVFEE", "DIV", "DIVNRA", "DIVTW", "INT", "INTNRA", "CGD", "CSD")

        assert [kind for kind in kinds if cash.is_fee(kind)] == ["FEE", "CFEE", "PTC", "PTR", "DIVFEE"]
        assert [kind for kind in kinds if cash.is_dividend(kind)] == ["DIV", "DIVNRA", "DIVTW"]
        assert [kind for kind in kinds if cash.is_interest(kind)] == ["INT", "INTNRA"]

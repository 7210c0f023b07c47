"""The decision about break-even: every row of its table on both sides, worked by hand, and what holds for any lot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from risk_values import NOW, D, lot, market

from coldharbour import decide_breakeven
from coldharbour.live.model import Side
from coldharbour.risk.breakeven import breakeven_trigger
from coldharbour.risk.model import BreakevenRule, Decision, Flag, MarketView, ProtectedLot, Reason, StopKind, StopMove

LONG, SHORT = Side.LONG, Side.SHORT
RULE = BreakevenRule()


def verdict(decision: Decision) -> tuple[str, str]:
    """Return flag and reason, after checking that nothing but an OK acts."""
    assert (decision.action is not None) is (decision.flag is Flag.OK)
    assert (decision.new_stop is not None) is (decision.reason in {Reason.MOVED, Reason.DRY_RUN})
    assert decision.detail != ""
    return decision.flag.value, decision.reason.value


class TestRow1AlreadyAtBreakEven:
    @pytest.mark.parametrize(
        ("side", "stop"),
        [(LONG, "49.99"), (LONG, "50"), (LONG, "53"), (SHORT, "50.01"), (SHORT, "50"), (SHORT, "47")],
    )
    def test_a_stop_at_the_legal_one_or_tighter_stays(self, side: Side, stop: str) -> None:
        assert verdict(decide_breakeven(lot(side, stop_price=D(stop)), market(), RULE)) == ("Already", "at_break_even")

    @pytest.mark.parametrize(("side", "stop"), [(LONG, "49.98"), (SHORT, "50.02")])
    def test_a_tick_less_is_not_there_yet(self, side: Side, stop: str) -> None:
        assert verdict(decide_breakeven(lot(side, stop_price=D(stop)), market(), RULE)) == ("OK", "moved")

    @pytest.mark.parametrize(
        "view", [market(None), market("1"), market(high=None, low=None), market(feed_silent_s=None)]
    )
    def test_it_comes_before_every_question_about_the_market(self, view: MarketView) -> None:
        assert verdict(decide_breakeven(lot(stop_price=D("49.99")), view, RULE)) == ("Already", "at_break_even")

    @pytest.mark.parametrize(("entry", "stop"), [("13.58", "13.57"), ("7.945", "7.94"), ("3.6199", "3.61")])
    def test_stops_that_production_called_already(self, entry: str, stop: str) -> None:
        there = lot(entry_price=D(entry), stop_price=D(stop), initial_stop=D("1"))

        assert verdict(decide_breakeven(there, market(None), RULE)) == ("Already", "at_break_even")


class TestRow2NoPrice:
    @pytest.mark.parametrize("side", Side)
    @pytest.mark.parametrize(
        ("view", "detail"),
        [
            (market(None), "no market price"),
            (market("NaN"), "NaN is no price"),
            (market("0"), "0 is no price"),
            (market("-50"), "-50 is no price"),
            (market("Infinity"), "Infinity is no price"),
            (market(feed_silent_s=None), "the feed has brought no price yet"),
            (market(feed_silent_s=15.1), "the feed has been silent for 15.1 s (limit 15 s)"),
            (market(feed_silent_s=float("nan")), "the feed has been silent for nan s (limit 15 s)"),
            (market(traded_at=None), "nobody says when the last trade was made"),
            (market(traded_at=NOW - timedelta(seconds=901)), "the last trade is 901 s old (limit 900 s)"),
            (market(traded_at=NOW + timedelta(seconds=6)), "the last trade is stamped 6 s in the future"),
            (market(last_trade=None), "nothing confirms 50: there is no last trade to compare it with"),
            (market(last_trade=D("NaN")), "nothing confirms 50: there is no last trade to compare it with"),
            (market("55.01", last_trade=D("50")), "55.01 is more than 10 % off the last trade 50, and not confirmed"),
            (market("44.99", last_trade=D("50")), "44.99 is more than 10 % off the last trade 50, and not confirmed"),
            (market("500", last_trade=D("50")), "500 is more than 10 % off the last trade 50, and not confirmed"),
        ],
    )
    def test_a_price_that_is_missing_stale_or_not_plausible_decides_nothing(
        self, side: Side, view: MarketView, detail: str
    ) -> None:
        decision = decide_breakeven(lot(side), view, RULE)

        assert verdict(decision) == ("—", "no_price")
        assert decision.detail == detail

    @pytest.mark.parametrize(
        "view",
        [
            market(feed_silent_s=15),
            market(traded_at=NOW - timedelta(seconds=900)),
            market(traded_at=NOW + timedelta(seconds=5)),
            market("55", last_trade=D("50")),
            market("500", last_trade=D("50"), confirmed=True),
            market("55.01", last_trade=None, confirmed=True),
        ],
    )
    def test_the_limits_themselves_and_a_confirmed_price_are_good(self, view: MarketView) -> None:
        assert verdict(decide_breakeven(lot(), view, RULE)) == ("OK", "moved")

    def test_the_limits_are_the_rules(self) -> None:
        rule = BreakevenRule(max_silence_s=1, max_price_age_s=5, max_jump_pct=D("0.5"))

        for view in (
            market(feed_silent_s=1.5),
            market(traded_at=NOW - timedelta(seconds=6)),
            market("50.26", last_trade=D("50")),
        ):
            assert verdict(decide_breakeven(lot(), view, rule)) == ("—", "no_price")


class TestRow3CrossedEntry:
    @pytest.mark.parametrize(("side", "price"), [(LONG, "49.9999"), (LONG, "48.5"), (SHORT, "50.0001"), (SHORT, "51")])
    def test_a_market_on_the_losing_side_of_the_entry_moves_nothing(self, side: Side, price: str) -> None:
        assert verdict(decide_breakeven(lot(side), market(price), RULE)) == ("—", "crossed_entry")

    @pytest.mark.parametrize("side", Side)
    def test_a_market_at_the_entry_has_not_crossed_it(self, side: Side) -> None:
        assert verdict(decide_breakeven(lot(side), market("50"), RULE)) == ("OK", "moved")

    def test_it_comes_before_the_question_whether_it_was_armed(self) -> None:
        assert verdict(decide_breakeven(lot(), market("49", high=D("50")), RULE)) == ("—", "crossed_entry")

    def test_a_trade_that_production_left_alone(self) -> None:
        trade = lot(entry_price=D("2.64"), stop_price=D("2.52"), initial_stop=D("2.52"))
        decision = decide_breakeven(trade, market("2.55", high=D("2.90"), low=D("2.53")), RULE)

        assert verdict(decision) == ("—", "crossed_entry")
        assert decision.trigger == D("2.88")
        assert decision.legal == D("2.63")


class TestRow4NotArmed:
    @pytest.mark.parametrize(
        ("side", "extremes"),
        [
            (LONG, {"high": D("53.9999"), "low": D("1")}),
            (LONG, {"high": None, "low": D("1")}),
            (LONG, {"high": D("NaN"), "low": D("1")}),
            (LONG, {"high": D("Infinity"), "low": D("1")}),
            (SHORT, {"high": D("99"), "low": D("46.0001")}),
            (SHORT, {"high": D("99"), "low": None}),
            (SHORT, {"high": D("99"), "low": D("0")}),
            (SHORT, {"high": D("99"), "low": D("-1")}),
        ],
    )
    def test_a_trigger_that_was_not_reached_since_entry_moves_nothing(
        self, side: Side, extremes: dict[str, Any]
    ) -> None:
        assert verdict(decide_breakeven(lot(side), market(**extremes), RULE)) == ("—", "not_armed")

    @pytest.mark.parametrize(("side", "extremes"), [(LONG, {"high": D("54")}), (SHORT, {"low": D("46")})])
    def test_touching_it_arms(self, side: Side, extremes: dict[str, Any]) -> None:
        assert verdict(decide_breakeven(lot(side), market(**extremes), RULE)) == ("OK", "moved")

    @pytest.mark.parametrize(("side", "price"), [(LONG, "54"), (SHORT, "46")])
    def test_the_market_alone_does_not(self, side: Side, price: str) -> None:
        view = market(price, high=D("53"), low=D("47"))  # a price outside regular hours would be such a one

        assert verdict(decide_breakeven(lot(side), view, RULE)) == ("—", "not_armed")

    def test_without_an_initial_stop_nothing_says_when(self) -> None:
        decision = decide_breakeven(lot(initial_stop=None), market(), RULE)

        assert verdict(decision) == ("—", "no_trigger")
        assert decision.trigger is None


class TestRow5Moved:
    @pytest.mark.parametrize(("side", "old", "new"), [(LONG, "48", "49.99"), (SHORT, "52", "50.01")])
    def test_the_latest_successor_of_the_stop_goes_to_the_legal_price(self, side: Side, old: str, new: str) -> None:
        decision = decide_breakeven(lot(side), market(), RULE)

        assert verdict(decision) == ("OK", "moved")
        assert decision.action == StopMove(order_id="stop-1", side=side, old_stop=D(old), stop_price=D(new))
        assert (decision.old_stop, decision.new_stop, decision.legal) == (D(old), D(new), D(new))

    def test_every_number_that_led_to_it_can_be_read_from_it(self) -> None:
        trade, view = lot(target=D("53.5")), market("52")
        decision = decide_breakeven(trade, view, RULE)

        assert (decision.lot, decision.market, decision.rule) == (trade, view, RULE)
        assert decision.trigger == D("53.5")
        assert decision.detail == "the trigger was touched: the stop moves from 48 to 49.99"

    def test_an_edited_stop_is_moved_from_where_it_stands_and_measured_from_where_it_began(self) -> None:
        decision = decide_breakeven(lot(stop_order_id="stop-5", stop_price=D("49")), market(), RULE)

        assert decision.trigger == D("54")  # 50 + 2*(50 - 48)
        assert decision.action == StopMove(order_id="stop-5", side=LONG, old_stop=D("49"), stop_price=D("49.99"))

    @pytest.mark.parametrize(
        ("side", "entry", "stop", "price", "extreme", "new"),
        [
            (LONG, "0.8", "0.76", "0.81", "0.88", "0.79"),
            (SHORT, "0.8", "0.84", "0.79", "0.72", "0.81"),
            (LONG, "1.0049", "0.9", "1.01", "1.2147", "0.9949"),
            (SHORT, "0.995", "1.2", "0.99", "0.585", "1.01"),
        ],
    )
    def test_below_one_the_fine_grid_counts(
        self, *, side: Side, entry: str, stop: str, price: str, extreme: str, new: str
    ) -> None:
        trade = lot(side, entry_price=D(entry), stop_price=D(stop), initial_stop=D(stop))
        decision = decide_breakeven(trade, market(price, high=D(extreme), low=D(extreme)), RULE)

        assert verdict(decision) == ("OK", "moved")
        assert decision.new_stop == D(new)

    @pytest.mark.parametrize(
        ("side", "limit", "new_limit"),
        [(LONG, "47.5", "49.49"), (LONG, "48", "49.99"), (SHORT, "52.6", "50.61"), (SHORT, "52", "50.01")],
    )
    def test_the_limit_of_a_stop_limit_keeps_its_distance(self, side: Side, limit: str, new_limit: str) -> None:
        trade = lot(side, stop_kind=StopKind.STOP_LIMIT, limit_price=D(limit))
        action = decide_breakeven(trade, market(), RULE).action

        assert action is not None
        assert (action.old_limit, action.limit_price) == (D(limit), D(new_limit))
        assert action.stop_kind is StopKind.STOP_LIMIT

    def test_a_plain_stop_has_no_limit(self) -> None:
        action = decide_breakeven(lot(), market(), RULE).action

        assert action is not None
        assert action.limit_price is None


class TestDryRun:
    @pytest.mark.parametrize(("side", "new"), [(LONG, "49.99"), (SHORT, "50.01")])
    def test_it_says_what_it_would_do_and_does_nothing(self, side: Side, new: str) -> None:
        decision = decide_breakeven(lot(side), market(), BreakevenRule(dry_run=True))

        assert verdict(decision) == ("—", "dry_run")
        assert decision.new_stop == D(new)
        assert decision.action is None

    @pytest.mark.parametrize(
        ("trade", "view"),
        [
            (lot(stop_price=D("49.99")), market()),
            (lot(), market(None)),
            (lot(), market("49")),
            (lot(), market(high=D("53"))),
            (lot(stop_kind=StopKind.TRAILING_STOP), market()),
        ],
    )
    def test_every_other_decision_is_the_same(self, trade: ProtectedLot, view: MarketView) -> None:
        dry, real = (decide_breakeven(trade, view, BreakevenRule(dry_run=is_dry)) for is_dry in (True, False))

        assert replace(dry, rule=real.rule) == real
        assert dry.reason is not Reason.DRY_RUN


class TestLotsOutsideTheTable:
    @pytest.mark.parametrize("side", Side)
    @pytest.mark.parametrize("stop", [None, D("20"), D("80")])
    def test_a_trailing_stop_is_left_alone(self, side: Side, stop: Decimal | None) -> None:
        trailing = lot(side, stop_kind=StopKind.TRAILING_STOP, stop_price=stop)
        flag, reason = verdict(decide_breakeven(trailing, market(), RULE))

        is_tighter = stop is not None and side.sign * (stop - 50) > 0
        assert (flag, reason) == (("Already", "at_break_even") if is_tighter else ("—", "trailing_stop"))

    @pytest.mark.parametrize(
        "trade",
        [
            lot(entry_price=D("NaN")),
            lot(entry_price=D("0")),
            lot(entry_price=D("-3")),
            lot(entry_price=D("0.01"), stop_price=D("0.005")),
            lot(stop_price=None),
            lot(stop_price=D("NaN")),
            lot(stop_price=D("-48")),
            lot(stop_kind=StopKind.STOP_LIMIT, limit_price=None),
            lot(stop_kind=StopKind.STOP_LIMIT, limit_price=D("NaN")),
            lot(SHORT, stop_kind=StopKind.STOP_LIMIT, limit_price=D("1")),  # 1 - 1.99
        ],
    )
    def test_a_lot_without_usable_prices_is_explained_and_left_alone(self, trade: ProtectedLot) -> None:
        assert verdict(decide_breakeven(trade, market(), RULE)) == ("—", "unusable_lot")


class TestTrigger:
    @pytest.mark.parametrize(
        ("side", "initial_stop", "trigger_r", "trigger"),
        [
            (LONG, "48", "2", "54"),
            (LONG, "48", "1", "52"),
            (LONG, "48", "1.5", "53"),
            (LONG, "49.333", "3", "52.001"),
            (SHORT, "52", "2", "46"),
            (SHORT, "52", "2.5", "45"),
            (SHORT, "80", "2", "-10"),
            (LONG, "51", "2", "52"),  # filled below its own stop: the distance counts, not its direction
            (LONG, "50", "2", "50"),
        ],
    )
    def test_it_lies_so_many_r_beyond_the_entry(
        self, side: Side, initial_stop: str, trigger_r: str, trigger: str
    ) -> None:
        found = breakeven_trigger(D("50"), side, initial_stop=D(initial_stop), trigger_r=D(trigger_r))

        assert found == D(trigger)

    @pytest.mark.parametrize(("side", "target"), [(LONG, "50.01"), (LONG, "70"), (SHORT, "49.99"), (SHORT, "30")])
    def test_a_given_target_goes_before(self, side: Side, target: str) -> None:
        assert breakeven_trigger(D("50"), side, initial_stop=D("48"), target=D(target)) == D(target)

    @pytest.mark.parametrize(
        ("side", "target", "trigger"),
        [
            (LONG, "50", "54"), (LONG, "45", "54"), (LONG, "NaN", "54"), (LONG, "Infinity", "54"),
            (SHORT, "50", "46"), (SHORT, "55", "46"), (SHORT, "0", "46"), (SHORT, "-1", "46"),
        ],
    )  # fmt: skip
    def test_a_target_that_would_arm_at_once_counts_as_none(self, side: Side, target: str, trigger: str) -> None:
        stop = D("48") if side is LONG else D("52")

        assert breakeven_trigger(D("50"), side, initial_stop=stop, target=D(target)) == D(trigger)

    def test_without_either_there_is_none(self) -> None:
        assert breakeven_trigger(D("50"), LONG, initial_stop=None) is None
        assert breakeven_trigger(D("50"), LONG, initial_stop=D("NaN")) is None

    @pytest.mark.parametrize("entry", ["NaN", "sNaN", "0", "-1"])
    def test_an_entry_that_is_no_price_is_refused(self, entry: str) -> None:
        with pytest.raises(ValueError, match="an entry is a price"):
            breakeven_trigger(D(entry), LONG, initial_stop=D("48"), target=D("54"))


class TestRule:
    @pytest.mark.parametrize(
        "number",
        [
            {"trigger_r": D("0")}, {"trigger_r": D("NaN")}, {"min_gap": D("-0.01")}, {"min_gap": D("NaN")},
            {"max_silence_s": 0.0}, {"max_silence_s": float("inf")}, {"max_price_age_s": float("nan")},
            {"max_jump_pct": D("-1")},
        ],
    )  # fmt: skip
    def test_a_number_that_would_switch_a_guard_off_is_refused(self, number: dict[str, Decimal]) -> None:
        with pytest.raises(ValueError, match=next(iter(number))):
            BreakevenRule(**number)  # type: ignore[arg-type] # what a caller without types may do


prices = st.one_of(st.decimals("0.02", "3", places=4), st.decimals("3", "300", places=2), st.decimals("0.02", "9"))
any_number = st.one_of(st.none(), st.decimals(allow_nan=True, allow_infinity=True), prices)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[ProtectedLot, MarketView, Sequence[Decimal]]:
    """Return a lot and a market around one price, and what the market did since the entry; most could be moved."""
    entry, side = draw(prices), draw(st.sampled_from(Side))
    tick = D("0.01") if entry > 1 else D("0.0001")

    def off_entry(least: int, most: int) -> st.SearchStrategy[Decimal]:
        """Prices so many percent from the entry, to the winning side."""
        percents = st.decimals(least, most, places=3)
        return percents.map(lambda percent: max(entry * (1 + side.sign * percent / 100), D("0.0001")))

    is_limited = draw(st.booleans())
    trade = lot(
        side,
        entry_price=entry,
        stop_price=draw(off_entry(-9, 1)).quantize(tick),
        stop_kind=StopKind.STOP_LIMIT if is_limited else StopKind.STOP,
        limit_price=draw(off_entry(-9, 1)).quantize(D("0.0001")) if is_limited else None,
        initial_stop=draw(off_entry(-4, 1)),
        target=draw(st.one_of(st.none(), off_entry(-3, 8))),
    )
    history = draw(st.lists(off_entry(-1, 9), min_size=1, max_size=8))
    view = market(str(history[-1]), high=max(history), low=min(history), last_trade=history[0])
    return trade, view, history


rules = st.builds(
    BreakevenRule,
    trigger_r=st.sampled_from([D("0.1"), D(1), D(2)]),
    min_gap=st.sampled_from([D("0"), D("0.0001"), D("0.01"), D("0.05")]),
    dry_run=st.booleans(),
)


@settings(max_examples=400)
@given(worlds(), rules)
def test_whatever_moves_is_legal_tighter_on_the_grid_and_on_the_right_side(
    world: tuple[ProtectedLot, MarketView, Sequence[Decimal]], rule: BreakevenRule
) -> None:
    trade, view, history = world
    decision = decide_breakeven(trade, view, rule)

    verdict(decision)
    if decision.new_stop is not None:
        assert view.price is not None
        assert trade.stop_price is not None
        assert (decision.new_stop * (100 if decision.new_stop >= 1 else 10_000)) % 1 == 0
        if trade.side is LONG:
            assert trade.stop_price < decision.new_stop < trade.entry_price <= view.price
            assert decision.trigger is not None
            assert max(history) >= decision.trigger
        else:
            assert trade.stop_price > decision.new_stop > trade.entry_price >= view.price
            assert decision.trigger is not None
            assert min(history) <= decision.trigger
    if decision.action is not None and decision.action.limit_price is not None:
        limit, old_limit = decision.action.limit_price, decision.action.old_limit
        assert old_limit is not None
        assert (limit * (100 if limit >= 1 else 10_000)) % 1 == 0
        assert trade.side.sign * (limit - old_limit) >= 0


@settings(max_examples=400)
@given(worlds(), rules)
def test_a_second_evaluation_after_the_move_changes_nothing(
    world: tuple[ProtectedLot, MarketView, Sequence[Decimal]], rule: BreakevenRule
) -> None:
    trade, view, _ = world
    action = decide_breakeven(trade, view, replace(rule, dry_run=False)).action
    if action is None:
        return

    moved = replace(trade, stop_order_id="stop-2", stop_price=action.stop_price, limit_price=action.limit_price)

    assert verdict(decide_breakeven(moved, view, rule)) == ("Already", "at_break_even")


@given(st.tuples(*[st.integers(200, 9800)] * 6), rules)
def test_a_short_lot_is_a_long_one_in_a_mirror(cents: tuple[int, ...], rule: BreakevenRule) -> None:
    def decided(side: Side, numbers: Sequence[Decimal]) -> Decision:
        entry, stop, initial_stop, price, one, other = numbers
        trade = lot(side, entry_price=entry, stop_price=stop, initial_stop=initial_stop)
        view = market(str(price), high=max(one, other), low=min(one, other))
        return decide_breakeven(trade, view, rule)

    numbers = [D(number) / 100 for number in cents]
    long, short = decided(LONG, numbers), decided(SHORT, [100 - number for number in numbers])

    assert long.legal is not None
    assert short.legal is not None
    assert verdict(long) == verdict(short)
    assert long.legal == 100 - short.legal


@given(
    side=st.sampled_from(Side),
    kind=st.sampled_from(StopKind),
    numbers=st.tuples(*[any_number] * 9),
    silent_s=st.one_of(st.none(), st.floats()),
    traded_at=st.one_of(st.none(), st.datetimes(timezones=st.just(NOW.tzinfo))),
    confirmed=st.booleans(),
)
def test_nothing_that_a_database_or_a_feed_may_say_raises(
    *,
    side: Side,
    kind: StopKind,
    numbers: tuple[Decimal | None, ...],
    silent_s: float | None,
    traded_at: datetime | None,
    confirmed: bool,
) -> None:
    entry, stop, limit, initial_stop, target, price, last_trade, high, low = numbers
    trade = lot(
        side, stop_kind=kind, entry_price=D("NaN") if entry is None else entry, stop_price=stop, limit_price=limit,
        initial_stop=initial_stop, target=target,
    )  # fmt: skip
    view = MarketView(
        as_of=NOW, feed_silent_s=silent_s, price=price, traded_at=traded_at, last_trade=last_trade,
        confirmed=confirmed, high=high, low=low,
    )  # fmt: skip

    verdict(decide_breakeven(trade, view, RULE))


class TestAsked:
    """What a person asks for: their word takes the place of the trigger, and of nothing else."""

    @pytest.mark.parametrize("side", Side)
    def test_an_untouched_or_unknown_trigger_is_no_obstacle(self, side: Side) -> None:
        for wanted in (lot(side), lot(side, initial_stop=None)):
            decision = decide_breakeven(wanted, market("50", high=D("50"), low=D("50")), RULE, is_asked=True)

            assert verdict(decision) == ("OK", "moved")
            assert decision.detail.startswith("somebody asked: ")

    @pytest.mark.parametrize(
        ("wanted", "view", "rule", "expected"),
        [
            (lot(stop_price=D("49.99")), market("50"), RULE, ("Already", "at_break_even")),
            (lot(), market("49.98"), RULE, ("—", "crossed_entry")),
            (lot(), market(None), RULE, ("—", "no_price")),
            (lot(stop_kind=StopKind.TRAILING_STOP), market("50"), RULE, ("—", "trailing_stop")),
            (lot(), market("50"), BreakevenRule(dry_run=True), ("—", "dry_run")),
        ],
    )
    def test_every_other_row_decides_as_always(
        self, wanted: ProtectedLot, view: MarketView, rule: BreakevenRule, expected: tuple[str, str]
    ) -> None:
        assert verdict(decide_breakeven(wanted, view, rule, is_asked=True)) == expected

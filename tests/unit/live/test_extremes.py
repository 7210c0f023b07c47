"""How far prices went between entry and exit: what was watched, whole minutes of bars, and the trade's own prices."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

import pytest
from fakes.told import at as told_at
from fakes.told import bought, order, sold, split, stop

from coldharbour import Lineage, match_lots
from coldharbour.live.extremes import Extremes, Holding, Watch, extremes_of
from coldharbour.live.marks.book import Bounds
from coldharbour.live.marks.coverage import Stretch
from coldharbour.live.model import Fill, ShareMove
from coldharbour.live.rows import r_multiple
from coldharbour.live.splits import Split
from coldharbour.sessions import MarketSession

NOON = datetime(2026, 10, 8, 16, 0, tzinfo=UTC)


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


SESSION = MarketSession(at(-480), at(-150), at(240), at(480), NOON.date())


def holding(start: float, end: float, *, watch: Watch | None = None) -> Holding:
    """Return a trade entered at 60 and left at 61, so many minutes after noon."""
    return Holding("KO", at(start), Decimal(60), at(end), Decimal(61), watch)


def stretch(start: float, end: float) -> Stretch:
    return Stretch(SESSION, at(start), at(end))


def watched(low: str, high: str, *, through: float) -> Watch:
    return Watch(Decimal(high), Decimal(low), at(through))


def bounds(low: str, high: str) -> Bounds:
    return Bounds(Decimal(high), Decimal(low))


def test_only_whole_minutes_inside_the_trade_are_asked_for() -> None:
    assert holding(0.5, 3.5).unseen([SESSION]) == [stretch(1, 3)]
    assert holding(0, 3).unseen([SESSION]) == [stretch(0, 3)]
    assert holding(0.2, 0.9).unseen([SESSION]) == []
    assert holding(0.5, 1.5).unseen([SESSION]) == []


def test_bars_and_the_trades_own_prices_give_the_extremes() -> None:
    trade = holding(0.5, 3.5)

    assert extremes_of(trade, {stretch(1, 3): bounds("58.25", "62.75")}) == Extremes(
        Decimal("62.75"), Decimal("58.25"), "bars"
    )
    assert extremes_of(trade, {stretch(1, 3): bounds("60.25", "60.5")}) == Extremes(Decimal(61), Decimal(60), "bars")


def test_minutes_without_a_trade_change_nothing() -> None:
    assert extremes_of(holding(0.5, 3.5), {stretch(1, 3): Bounds()}) == Extremes(Decimal(61), Decimal(60), "bars")


def test_a_trade_within_a_minute_went_from_its_entry_to_its_exit() -> None:
    assert extremes_of(holding(0.2, 0.9), {}) == Extremes(Decimal(61), Decimal(60), "bars")


def test_whoever_watched_to_the_end_needs_no_bars() -> None:
    trade = holding(0.5, 30.5, watch=watched("57", "63.1", through=30.4))

    assert trade.unseen([SESSION]) == []
    assert extremes_of(trade, {}) == Extremes(Decimal("63.1"), Decimal(57), "ticks")


def test_what_was_watched_is_completed_by_bars_from_there_on() -> None:
    trade = holding(0.5, 30.5, watch=watched("57", "63.1", through=27.5))

    assert trade.unseen([SESSION]) == [stretch(27, 30)]
    assert extremes_of(trade, {stretch(27, 30): bounds("59", "65")}) == Extremes(Decimal(65), Decimal(57), "bars")


def test_a_watch_that_went_on_after_the_exit_says_nothing_of_the_trade() -> None:
    trade = holding(0.5, 2.5, watch=watched("1", "99", through=9))

    assert trade.unseen([SESSION]) == [stretch(1, 2)]
    assert extremes_of(trade, {stretch(1, 2): bounds("59", "65")}) == Extremes(Decimal(65), Decimal(59), "bars")


class OverASplit(NamedTuple):
    """A trade of 100 shares held over a split, in raw prices, and what it comes to in shares of its exit."""

    entry: Fill
    initial_stop: str
    before: Bounds
    split: ShareMove
    after: Bounds
    exit: Fill
    entry_price: str
    extremes: Bounds
    in_r: str


@pytest.mark.parametrize(
    "story",
    [
        OverASplit(
            bought(0, "A", "100", "100"), "96", bounds("98", "110"),
            split(60, "300"), bounds("25", "27"), sold(120, "X", "400", "26.5"),
            "25", bounds("24.5", "27.5"), "1.5",
        ),
        OverASplit(
            bought(0, "A", "100", "10"), "9.6", bounds("9.5", "10.5"),
            split(60, "-75"), bounds("39", "44"), sold(120, "X", "25", "42"),
            "40", bounds("38", "44"), "1.25",
        ),
        OverASplit(
            sold(0, "A", "100", "100"), "104", bounds("96", "103"),
            split(60, "-300"), bounds("24.5", "25.25"), bought(120, "X", "400", "24.5"),
            "25", bounds("24", "25.75"), "0.5",
        ),
        OverASplit(
            sold(0, "A", "100", "10"), "10.4", bounds("9.7", "10.3"),
            split(60, "75"), bounds("37", "40"), bought(120, "X", "25", "38"),
            "40", bounds("37", "41.2"), "1.25",
        ),
    ],
    ids=["long, 4 for 1", "long, 1 for 4", "short, 4 for 1", "short, 1 for 4"],
)  # fmt: skip
def test_a_trade_held_over_a_split_is_measured_in_shares_of_its_exit(story: OverASplit) -> None:
    is_short = not story.entry.is_buy
    legs = Lineage([order("A", is_buy=not is_short), stop("S", "A", story.initial_stop, is_buy=is_short)])
    [trade] = match_lots([story.entry, story.exit], legs, [story.split]).closed
    first_hour, second_hour = (Stretch(SESSION, told_at(start), told_at(start + 60)) for start in (0, 60))
    held = Holding("KO", trade.entry_time, trade.entry_price, trade.exit_time, trade.exit_price, splits=trade.splits)

    found = extremes_of(held, {first_hour: story.before, second_hour: story.after})

    assert trade.entry_price == Decimal(story.entry_price)
    assert (found.low, found.high) == (story.extremes.low, story.extremes.high)
    assert r_multiple(trade) == Decimal(story.in_r)


def test_a_trade_knows_the_splits_between_its_entry_and_its_exit_and_no_others() -> None:
    fills = [
        bought(0, "B", "10", "100"),
        bought(10, "A", "400", "25"),
        sold(20, "S", "400", "24"),
        sold(30, "X", "10", "26"),
    ]
    splits = [split(5, "30", "early"), split(60, "90", "late")]

    trades = match_lots(fills, Lineage([stop("S", "A", "24", 10)]), splits).closed

    early = Split(told_at(5), Decimal(10), Decimal(40))
    assert [(trade.entry_lot_id, trade.splits) for trade in trades] == [("A", ()), ("B", (early,))]


def test_what_was_watched_over_a_split_says_nothing() -> None:
    watch = watched("24", "110", through=29.5)
    trade = replace(holding(0.5, 30.5, watch=watch), splits=(Split(at(10), Decimal(100), Decimal(400)),))

    assert trade.unseen([SESSION]) == [stretch(1, 30)]
    assert extremes_of(trade, {stretch(1, 30): Bounds()}) == Extremes(Decimal(61), Decimal(60), "bars")

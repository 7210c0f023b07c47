"""How far prices went between entry and exit: what was watched, whole minutes of bars, and the trade's own prices."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from coldharbour.broker import Bar
from coldharbour.live.extremes import Extremes, Holding, Watch, extremes_of

NOON = datetime(2026, 10, 8, 16, 0, tzinfo=UTC)


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def holding(start: float, end: float, *, watch: Watch | None = None) -> Holding:
    """Return a trade entered at 60 and left at 61, so many minutes after noon."""
    return Holding("KO", at(start), Decimal(60), at(end), Decimal(61), watch)


def bar(minute: float, low: str, high: str) -> Bar:
    return Bar(
        symbol="KO", at=at(minute), open=Decimal(60), high=Decimal(high), low=Decimal(low), close=Decimal(60),
        volume=Decimal(1),
    )  # fmt: skip


def watched(low: str, high: str, *, through: float) -> Watch:
    return Watch(Decimal(high), Decimal(low), at(through))


def test_only_whole_minutes_inside_the_trade_are_asked_for() -> None:
    assert holding(0.5, 3.5).unseen == (at(1), at(2))
    assert holding(0, 3).unseen == (at(0), at(2))
    assert holding(0.2, 0.9).unseen is None
    assert holding(0.5, 1.5).unseen is None


def test_bars_give_the_extremes_and_those_outside_count_for_nothing() -> None:
    bars = [bar(0, "10", "99"), bar(1, "59.5", "60.5"), bar(2, "58.25", "62.75"), bar(3, "10", "99")]

    assert extremes_of(holding(0.5, 3.5), bars) == Extremes(Decimal("62.75"), Decimal("58.25"), "bars")


def test_a_trade_within_a_minute_went_from_its_entry_to_its_exit() -> None:
    assert extremes_of(holding(0.2, 0.9)) == Extremes(Decimal(61), Decimal(60), "bars")


def test_whoever_watched_to_the_end_needs_no_bars() -> None:
    trade = holding(0.5, 30.5, watch=watched("57", "63.1", through=30.4))

    assert trade.unseen is None
    assert extremes_of(trade) == Extremes(Decimal("63.1"), Decimal(57), "ticks")


def test_what_was_watched_is_completed_by_bars_from_there_on() -> None:
    trade = holding(0.5, 30.5, watch=watched("57", "63.1", through=27.5))

    assert trade.unseen == (at(28), at(29))
    assert extremes_of(trade, [bar(28, "59", "65")]) == Extremes(Decimal(65), Decimal(57), "bars")


def test_a_watch_that_went_on_after_the_exit_says_nothing_of_the_trade() -> None:
    trade = holding(0.5, 2.5, watch=watched("1", "99", through=9))

    assert trade.unseen == (at(1), at(1))
    assert extremes_of(trade, [bar(1, "59", "65")]) == Extremes(Decimal(65), Decimal(59), "bars")


def test_the_exit_itself_can_be_the_extreme() -> None:
    trade = holding(0.5, 30.5, watch=watched("60", "60.5", through=30.5))

    assert extremes_of(trade) == Extremes(Decimal(61), Decimal(60), "ticks")

"""How far prices went between entry and exit: what was watched, whole minutes of bars, and the trade's own prices."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from coldharbour.live.extremes import Extremes, Holding, Watch, extremes_of
from coldharbour.live.marks.book import Bounds
from coldharbour.live.marks.coverage import Stretch
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

"""The lots in memory: what a price makes of them, what is due, what waits, and what their extremes have seen."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest

from coldharbour.feed.model import LastPrice
from coldharbour.feed.watch import Move
from coldharbour.live.marks.book import Bounds, MarkBook
from coldharbour.live.marks.lot import Hearing, MarkedLot
from coldharbour.live.marks.model import Extremes, HeldLot, Mark, StoredLot
from coldharbour.live.model import Side
from coldharbour.sessions import session_of

D = Decimal
NOON = datetime(2026, 10, 8, 16, 0, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
SESSIONS = [session_of(NOON.date(), time(9, 30), time(16, 0))]
NOTHING = Extremes()
HEARING = Hearing(since=NOON, through=NOON + MINUTE)


def held(parent_id: str = "a", **changes: Any) -> HeldLot:
    return HeldLot(
        **{
            "parent_id": parent_id, "symbol": "KO", "side": Side.LONG, "qty": D(10), "entry_qty": D(10),
            "avg_fill": D(50), "avg_px_symbol": D(50), "entry_time": NOON - HOUR, "last_fill_time": NOON - HOUR,
            "initial_stop": D(49), "stop_price": D(49), "stop_order_id": "stop", "version": 1, **changes,
        }
    )  # fmt: skip


def stored(parent_id: str = "a", extremes: Extremes = NOTHING, **changes: Any) -> StoredLot:
    return StoredLot(held(parent_id, **changes), extremes=extremes)


def move(
    price: str, *, symbol: str = "KO", high: str | None = None, low: str | None = None, since: datetime = NOON
) -> Move:
    last = LastPrice(symbol, D(price), at=NOON, received_at=NOON)
    return Move(last, D(high or price), D(low or price), since)


def book_of(*lots: StoredLot, threshold_pct: float = 0.01) -> MarkBook:
    book = MarkBook(threshold_pct)
    book.take_over(lots, None, NOON)
    return book


def write(book: MarkBook, hearing: Hearing = HEARING, *, flush: bool = False) -> list[Mark]:
    """Write and tell what is due; return it."""
    due = book.due(flush=flush)
    marks = [mark for lot in due if (mark := lot.mark(hearing))]
    book.written(marks)
    book.told(due)
    return marks


class TestDue:
    def test_a_lot_without_a_price_is_told_and_not_written(self) -> None:
        book = book_of(stored())

        assert [lot.lot.parent_id for lot in book.due(flush=False)] == ["a"]
        assert write(book) == []
        assert book.due(flush=False) == []

    def test_the_first_price_is_due_at_once(self) -> None:
        book = book_of(stored())
        write(book)

        book.move([move("50.00")])

        assert [(mark.parent_id, mark.mkt_px, mark.version) for mark in write(book)] == [("a", D("50.00"), 1)]

    @pytest.mark.parametrize(
        ("price", "due"), [("50.004", False), ("50.005", True), ("49.996", False), ("49.995", True)]
    )
    def test_a_move_is_due_from_the_threshold_on(self, price: str, due: bool) -> None:
        book = book_of(stored())
        book.move([move("50.00")])
        write(book)

        book.move([move(price, high="50.00", low="50.00")])  # 0.01 % of 50.00 is 0.005

        assert bool(write(book)) is due

    def test_small_moves_add_up(self) -> None:
        book = book_of(stored())
        book.move([move("50.00")])
        write(book)

        found = []
        for price in ("50.002", "50.004", "50.006"):
            book.move([move(price)])
            found += [str(mark.mkt_px) for mark in write(book)]

        assert found == ["50.006"]

    def test_a_price_that_came_back_leaves_its_extreme_due(self) -> None:
        book = book_of(stored())
        book.move([move("50.00")])
        write(book)

        book.move([move("50.00", high="50.40", low="49.90")])

        assert [(mark.high_px, mark.low_px) for mark in write(book)] == [(D("50.40"), D("49.90"))]

    def test_the_flush_writes_what_waited_and_nothing_twice(self) -> None:
        book = book_of(stored())
        book.move([move("50.00")])
        write(book)
        book.move([move("50.001")])

        assert write(book) == []
        assert [mark.mkt_px for mark in write(book, flush=True)] == [D("50.001")]
        assert write(book, flush=True) == []

    def test_all_lots_of_a_symbol_follow_its_price_and_no_other(self) -> None:
        book = book_of(stored("a"), stored("b", qty=D(-5), side=Side.SHORT), stored("c", symbol="PEP"))
        write(book)

        book.move([move("50.50")])

        assert {mark.parent_id: mark.profit_loss_lot for mark in write(book)} == {"a": D(5), "b": D("-2.5")}

    def test_with_a_threshold_of_zero_every_change_is_due(self) -> None:
        book = book_of(stored(), threshold_pct=0)
        book.move([move("50.00")])
        write(book)

        book.move([move("50.00")])
        assert write(book) == []
        book.move([move("50.0001")])
        assert len(write(book)) == 1


class TestStructure:
    def test_a_change_is_due_whatever_the_price_does(self) -> None:
        book = book_of(stored())
        book.move([move("50.50")])
        write(book)

        book.take_over([stored(qty=D(4), version=2)], ["a"], NOON)

        assert [(mark.version, mark.profit_loss) for mark in write(book)] == [(2, D(2))]

    def test_the_same_structure_read_again_is_no_news(self) -> None:
        book = book_of(stored())
        book.move([move("50.50")])
        write(book)

        book.take_over([stored()], None, NOON)

        assert book.due(flush=True) == []

    def test_lots_that_are_gone_are_forgotten(self) -> None:
        book = book_of(stored("a"), stored("b"))

        book.take_over([], ["a"], NOON)
        assert set(book.lots) == {"b"}
        book.take_over([], None, NOON)
        assert not book.lots
        assert not book.symbols
        assert book.due(flush=True) == []

    def test_only_what_was_asked_for_can_be_gone(self) -> None:
        book = book_of(stored("a"), stored("b"))

        book.take_over([stored("b", version=2)], ["b"], NOON)

        assert set(book.lots) == {"a", "b"}

    def test_a_new_lot_takes_the_known_price_without_its_extremes(self) -> None:
        book = book_of(stored())
        last = LastPrice("KO", D(60), at=NOON, received_at=NOON)

        book.value_new({"KO": last}.get)

        [mark] = write(book)
        assert (mark.mkt_px, mark.high_px, mark.low_px) == (D(60), D(50), D(50))


class TestExtremes:
    def test_they_begin_with_the_entry_and_only_widen(self) -> None:
        book = book_of(stored())
        for price in ("50.40", "49.80", "50.10"):
            book.move([move(price)])

        [mark] = write(book)

        assert (mark.high_px, mark.low_px) == (D("50.40"), D("49.80"))

    def test_what_was_traded_before_the_entry_does_not_count(self) -> None:
        book = book_of(stored(entry_time=NOON))

        book.move([move("50.10", high="51.00", since=NOON - SECOND)])

        [mark] = write(book)
        assert (mark.mkt_px, mark.high_px) == (D("50.10"), D(50))

    def test_what_stands_in_the_table_is_not_forgotten(self) -> None:
        book = book_of(stored(extremes=Extremes(D(53), D(48), NOON - MINUTE)))
        book.move([move("50.10")])

        [mark] = write(book)

        assert (mark.high_px, mark.low_px) == (D(53), D(48))

    def test_a_partial_exit_keeps_them(self) -> None:
        book = book_of(stored())
        book.move([move("52")])
        write(book)

        book.take_over([stored(qty=D(4), version=2, extremes=Extremes(D(52), D(50)))], None, NOON)

        assert write(book)[0].high_px == D(52)

    def test_emptied_in_the_table_after_a_split_they_begin_anew(self) -> None:
        book = book_of(stored())
        book.move([move("52")])
        write(book)

        book.take_over([stored(qty=D(20), avg_fill=D(25), version=2)], None, NOON)

        [mark] = write(book)
        assert (mark.high_px, mark.low_px, mark.extremes_through) == (D(25), D(25), None)

    def test_they_are_not_lost_with_a_structure_that_came_before_they_were_written(self) -> None:
        book = book_of(stored())
        book.move([move("52")])

        book.take_over([stored(qty=D(12), entry_qty=D(12), version=2)], None, NOON)

        assert write(book)[0].high_px == D(52)


class TestCoverage:
    """A lot entered at 11:00 New York; it has been watched, and the stream heard, since noon."""

    @staticmethod
    def marked(book: MarkBook) -> MarkedLot:
        return book.lots["a"]

    def through(self, book: MarkBook, hearing: Hearing = HEARING) -> datetime | None:
        mark = self.marked(book).mark(hearing)
        assert mark is not None
        return mark.extremes_through

    def test_a_hole_reaches_from_the_entry_to_where_ticks_count(self) -> None:
        [hole] = book_of(stored()).holes(HEARING, NOON + MINUTE, SESSIONS)

        assert hole.until == NOON
        assert [(stretch.start, stretch.end) for stretch in hole.stretches] == [(NOON - HOUR, NOON)]

    def test_ticks_vouch_for_nothing_while_there_is_a_hole(self) -> None:
        book = book_of(stored(extremes=Extremes(D(51), D(49), NOON - MINUTE)))
        book.move([move("50")])
        book.holes(HEARING, NOON + MINUTE, SESSIONS)

        assert self.through(book) == NOON - MINUTE

    def test_once_filled_they_are_known_up_to_the_newest_tick(self) -> None:
        book = book_of(stored())
        book.move([move("50")])
        later = NOON + 3 * MINUTE
        holes = book.holes(HEARING, later, SESSIONS)
        book.fill(holes, {wanted: Bounds(D(54), D(47)) for wanted in holes[0].wanted})
        book.seen(holes, later)

        assert book.holes(HEARING, later, SESSIONS) == []
        [mark] = write(book)
        assert (mark.high_px, mark.low_px, mark.extremes_through) == (D(54), D(47), NOON + MINUTE)

    def test_bars_that_may_still_change_leave_the_end_of_the_hole_open(self) -> None:
        book = book_of(stored())
        soon = NOON + MINUTE
        holes = book.holes(HEARING, soon, SESSIONS)
        book.seen(holes, soon)

        [hole] = book.holes(HEARING, soon, SESSIONS)

        assert [(stretch.start, stretch.end) for stretch in hole.stretches] == [(NOON - MINUTE, NOON)]

    def test_what_is_found_in_parts_counts_in_parts(self) -> None:
        book = book_of(stored())
        holes = book.holes(HEARING, NOON + MINUTE, SESSIONS)

        book.fill(holes, {})
        book.fill(holes, {wanted: Bounds() for wanted in holes[0].wanted})

        assert self.marked(book).extremes == Extremes(D(50), D(50), None)

    def test_a_silence_makes_a_new_hole_from_the_last_tick_to_the_next(self) -> None:
        book = book_of(stored(extremes=Extremes(D(51), D(49), NOON)))
        book.move([move("50")])
        assert book.holes(HEARING, NOON + MINUTE, SESSIONS) == []
        write(book)

        again = Hearing(since=NOON + 10 * MINUTE, through=NOON + 11 * MINUTE)
        [hole] = book.holes(again, NOON + 11 * MINUTE, SESSIONS)

        assert [(s.start, s.end) for s in hole.stretches] == [(NOON + MINUTE, NOON + 10 * MINUTE)]
        assert self.through(book, again) == NOON + MINUTE

    def test_while_the_stream_is_silent_bars_take_its_place(self) -> None:
        book = book_of(stored(extremes=Extremes(D(51), D(49), NOON)))
        silent = Hearing(since=None, through=NOON + MINUTE)

        [hole] = book.holes(silent, NOON + 5 * MINUTE, SESSIONS)
        book.seen([hole], NOON + 5 * MINUTE)

        assert hole.until == NOON + 5 * MINUTE
        assert self.marked(book).extremes.through == NOON + 3 * MINUTE

    def test_a_lot_entered_while_ticks_are_heard_is_covered_at_once(self) -> None:
        book = MarkBook(0.01)
        book.take_over([stored(entry_time=NOON + 30 * SECOND)], None, NOON + 31 * SECOND)
        book.move([move("50", since=NOON + 32 * SECOND)])

        assert book.holes(HEARING, NOON + MINUTE, SESSIONS) == []
        assert self.through(book) == NOON + MINUTE

    def test_nothing_is_missing_of_a_night(self) -> None:
        evening = NOON + 8 * HOUR
        book = book_of(stored(extremes=Extremes(D(51), D(49), NOON + 4 * HOUR)))

        assert book.holes(Hearing(), evening, SESSIONS) == []
        assert self.marked(book).extremes.through == evening

    def test_the_oldest_moment_that_nobody_saw_is_the_oldest_of_all_lots(self) -> None:
        seen = Extremes(D(51), D(49), NOON - MINUTE)
        book = book_of(stored("a"), stored("b", entry_time=NOON - 9 * HOUR, extremes=seen))

        assert book.oldest_unseen(HEARING) == NOON - HOUR


def test_what_is_told_of_a_lot_is_its_structure_its_value_and_its_days() -> None:
    lot = stored(expires_at=NOON + timedelta(days=80), entry_time=NOON - timedelta(days=3), take_price=D(54))
    book = book_of(replace(lot, extremes=Extremes(D(53), D(48))))
    book.move([move("52.00")])

    row = book.lots["a"].row(NOON)

    told = ("symbol", "side", "mkt_value", "profit_loss", "tp_sl_reach_pct", "r_multiple", "holding_days",
            "days_to_expire", "high_px", "is_orphan", "mkt_at")  # fmt: skip
    assert [row[name] for name in told] == ["KO", "Long", D(520), D(20), D(50), D(2), 3, 80, D(53), False, NOON]

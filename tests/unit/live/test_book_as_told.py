"""A book that is told piece by piece: late and repeated input, statements made anew, and what it says changed."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

from fakes.told import at, bought, order, replaced, sold, split, stop, take

from coldharbour.live.book import Book
from coldharbour.live.model import ExitType
from coldharbour.live.news import Changes


# What comes back is not typed, so that decimals may stand beside plain numbers in what is expected.
def new_book() -> Any:
    return Book()


def test_a_duplicate_changes_nothing_and_touches_no_symbol() -> None:
    book = new_book()
    book.apply([order("A")], [bought(0, "A", "100", "10")])
    book.take_changes()

    assert book.apply([order("A")], [bought(0, "A", "100", "10")]) == frozenset()
    assert book.take_changes() == Changes()
    assert book.quantity("KO") == 100


def test_a_late_fill_ends_where_it_would_have_in_order() -> None:
    book = new_book()
    book.apply(fills=[bought(0, "A", "100", "10"), sold(5, "X", "100", "12")])

    book.apply(fills=[bought(1, "B", "50", "11"), bought(-1, "Z", "100", "9")])

    assert [(trade.entry_lot_id, trade.pnl_cash) for trade in book.closed("KO")] == [("Z", 300)]
    assert [(lot.parent_id, lot.qty) for lot in book.lots("KO")] == [("A", 100), ("B", 50)]


def test_a_fill_that_is_stated_anew_replaces_what_was_known_of_it() -> None:
    book = new_book()
    fill = bought(0, "A", "100", "10")
    book.apply(fills=[fill])

    book.apply(fills=[replace(fill, price=Decimal(11), at=fill.at + timedelta(milliseconds=1))])

    assert [(lot.qty, lot.avg_fill, lot.entry_time) for lot in book.lots("KO")] == [
        (100, 11, at(0) + timedelta(milliseconds=1))
    ]


def test_a_fill_that_moves_to_another_symbol_leaves_the_first_one() -> None:
    book = new_book()
    fill = bought(0, "A", "100", "10")
    book.apply(fills=[fill])

    touched = book.apply(fills=[replace(fill, symbol="PEP")])

    assert touched == {"KO", "PEP"}
    assert (book.symbols(), book.lots("KO"), book.quantity("PEP")) == (("PEP",), (), 100)


def test_an_exit_that_is_tied_later_moves_to_its_lot() -> None:
    book = new_book()
    book.apply(
        [order("A"), order("B")], [bought(0, "A", "100", "10"), bought(1, "B", "100", "12"), sold(2, "T", "100", "13")]
    )
    before = book.closed("KO")[0]
    problems = book.problems()

    book.apply([take("T", "B", "13", 1, status="filled", filled_at=at(2))])

    after = book.closed("KO")[0]
    assert (before.entry_lot_id, before.exit_type, before.pnl_cash) == ("A", ExitType.MANUAL, 300)
    assert (after.entry_lot_id, after.exit_type, after.pnl_cash) == ("B", ExitType.TAKE_PROFIT, 100)
    assert problems == (("T", "fills of order T in KO, which is unknown: its lot has no legs yet"),)
    assert book.problems() == ()


def test_news_that_a_leg_was_canceled_before_an_exit_changes_what_the_exit_closed() -> None:
    book = new_book()
    guard = stop("S", "A", "9")
    book.apply([order("A"), order("B"), order("X", is_buy=False), guard])
    book.apply(fills=[bought(0, "A", "100", "10"), bought(1, "B", "100", "12"), sold(5, "X", "100", "13")])
    before = book.closed("KO")[0].entry_lot_id

    book.apply([replace(guard, status="canceled", canceled_at=at(4))])

    assert (before, book.closed("KO")[0].entry_lot_id) == ("B", "A")


def test_a_moved_stop_is_told_as_a_changed_lot_and_nothing_else() -> None:
    book = new_book()
    leg = stop("S1", "A", "9")
    book.apply(
        [order("A"), leg], [bought(0, "A", "100", "10"), sold(1, "X", "10", "11"), bought(2, "C", "5", "1", "PEP")]
    )
    book.take_changes()

    touched = book.apply(replaced(leg, "S2", 5, stop_price=Decimal("9.5")))

    changes = book.take_changes()
    assert touched == {"KO"}
    assert [(lot.parent_id, lot.stop_price) for lot in changes.lots] == [("A", Decimal("9.5"))]
    assert (changes.lots_gone, changes.closed, changes.closed_gone) == ((), (), ())


def test_the_first_changes_are_everything_and_the_next_only_what_is_new() -> None:
    book = new_book()
    book.apply(fills=[bought(0, "A", "100", "10"), sold(1, "X", "40", "11")])
    first = book.take_changes()

    book.apply(fills=[sold(2, "Y", "60", "12")])

    second = book.take_changes()
    assert ([lot.qty for lot in first.lots], [trade.exit_order_id for trade in first.closed]) == ([60], ["X"])
    assert (second.lots, second.lots_gone) == ((), ("A",))
    assert [trade.exit_order_id for trade in second.closed] == ["Y"]


def test_a_row_that_no_longer_follows_is_told_as_gone() -> None:
    book = new_book()
    book.apply(
        [order("A"), order("B")], [bought(0, "A", "100", "10"), bought(1, "B", "100", "12"), sold(2, "T", "100", "13")]
    )
    book.take_changes()

    book.apply([take("T", "B", "13", 1)])

    changes = book.take_changes()
    assert changes.closed_gone == (("A", "T"),)
    assert [(trade.entry_lot_id, trade.exit_order_id) for trade in changes.closed] == [("B", "T")]


def test_a_late_entry_fill_restates_the_rows_of_its_lot() -> None:
    book = new_book()
    book.apply(fills=[bought(0, "A", "100", "10"), sold(1, "X", "50", "12")])
    book.take_changes()

    book.apply(fills=[bought(2, "A", "100", "14")])

    assert [(trade.entry_price, trade.pnl_cash) for trade in book.take_changes().closed] == [(12, 0)]


def test_a_late_split_restates_what_came_after_it() -> None:
    book = new_book()
    book.apply(fills=[bought(0, "A", "100", "10"), sold(6, "X", "200", "3")])
    before = book.lots("KO")

    book.apply(moves=[split(5, "300")])

    assert [(lot.parent_id, lot.qty) for lot in before] == [("X", -100)]
    assert [(lot.parent_id, lot.qty, lot.avg_fill) for lot in book.lots("KO")] == [("A", 200, Decimal("2.5"))]
    assert [(trade.qty, trade.pnl_cash) for trade in book.closed("KO")] == [(200, 100)]


def test_an_unknown_symbol_holds_nothing() -> None:
    book = new_book()

    assert (book.lots("KO"), book.closed("KO"), book.quantity("KO"), book.symbols()) == ((), (), 0, ())


def test_an_order_without_fills_makes_no_symbol() -> None:
    book = new_book()

    book.apply([order("A")])

    assert book.symbols() == ()


def test_a_broken_chain_is_among_the_problems() -> None:
    book = new_book()

    book.apply([stop("S2", None, "9", replaces="S1")])

    assert book.problems() == (("S2", "order S2 replaces S1, which is unknown"),)

"""Which closed trade took its lot to zero, and what a change of the book makes of it."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from fakes.told import bought, order, sold, stop

from coldharbour import Book
from coldharbour.live.closings import Closings


def changed(closings: Closings, book: Book) -> list[tuple[str, str, bool]]:
    """Take over what changed in a book; return the lot and the exit of each closing that differs now."""
    return [(*closing.key, closing.closes_lot) for closing in closings.take(book.take_changes())[0]]


def test_only_the_last_closing_of_a_lot_that_is_gone_closes_it() -> None:
    book, closings = Book(), Closings()
    book.apply([stop("S", "A", "9")], [bought(0, "A", "100", "10"), sold(1, "X", "40", "11")])

    assert changed(closings, book) == [("A", "X", False)]
    book.apply(fills=[sold(2, "S", "60", "9")])
    assert changed(closings, book) == [("A", "S", True)]


def test_a_late_entry_fill_at_the_same_price_opens_a_lot_again_whose_trade_stays_as_it_was() -> None:
    book, closings = Book(), Closings()
    book.apply([order("A")], [bought(0, "A", "100", "10"), sold(2, "X", "100", "11")])

    assert changed(closings, book) == [("A", "X", True)]
    book.apply(fills=[bought(1, "A", "50", "10")])
    assert changed(closings, book) == [("A", "X", False)]
    book.apply(fills=[replace(bought(1, "A", "50", "10"), qty=Decimal(0))])
    assert changed(closings, book) == [("A", "X", True)]

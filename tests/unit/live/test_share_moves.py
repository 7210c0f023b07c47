"""Splits, transfers and other shares that move without a trade: what they do to lots, legs and rows."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import pytest
from fakes.told import bought, order, sold, split, stop, transfer

import coldharbour
from coldharbour import Book, Lineage, match_fifo
from coldharbour.live.model import Fill, ShareMove
from coldharbour.live.moves import allot


# What comes back is not typed, so that decimals may stand beside plain numbers in what is expected.
def match_lots(fills: Iterable[Fill], lineage: Lineage, moves: Iterable[ShareMove]) -> Any:
    return coldharbour.match_lots(fills, lineage, moves)


def test_a_split_multiplies_shares_and_divides_prices_and_the_initial_stop() -> None:
    matching = match_lots([bought(0, "A", "100", "10")], Lineage([order("A"), stop("S", "A", "9")]), [split(5, "300")])

    (lot,) = matching.open
    assert (lot.qty, lot.entry_qty, lot.avg_fill, lot.avg_px_symbol) == (400, 400, Decimal("2.5"), Decimal("2.5"))
    assert lot.initial_stop == Decimal("2.25")
    assert lot.stop_price == 9  # as the broker says: legs were left unadjusted in a split


def test_a_stop_that_began_after_the_split_is_in_new_shares_already() -> None:
    matching = match_lots([bought(0, "A", "100", "10")], Lineage([stop("S", "A", "2.2", 6)]), [split(5, "300")])

    assert matching.open[0].initial_stop == Decimal("2.2")


def test_what_was_closed_before_a_split_stays_in_old_shares() -> None:
    fills = [bought(0, "A", "100", "10"), sold(1, "X", "40", "12"), sold(6, "Y", "240", "3.5")]

    first, second = match_lots(fills, Lineage(), [split(5, "180")]).closed

    assert (first.qty, first.entry_price, first.exit_price, first.pnl_cash) == (40, 10, 12, 80)
    assert (second.qty, second.entry_price, second.exit_price, second.pnl_cash) == (
        240,
        Decimal("2.5"),
        Decimal("3.5"),
        240,
    )


def test_an_exit_order_that_fills_before_and_after_a_split_makes_one_row_in_new_shares() -> None:
    fills = [bought(0, "A", "100", "10"), sold(1, "X", "50", "12"), sold(6, "X", "100", "3")]

    (trade,) = match_lots(fills, Lineage(), [split(5, "150")]).closed

    # 50 old shares are 200 new ones, sold at 3; 100 more at 3: 300 for 900, which cost 2.5 each.
    assert (trade.qty, trade.exit_price, trade.entry_price, trade.pnl_cash) == (300, 3, Decimal("2.5"), 150)
    assert trade.pnl_cash_fifo == 150


def test_a_split_of_a_short_position_works_alike() -> None:
    (lot,) = match_lots([sold(0, "A", "10", "30")], Lineage(), [split(5, "-20")]).open

    assert (lot.qty, lot.avg_fill) == (-30, 10)


def test_a_split_that_is_told_in_two_parts_is_one() -> None:
    parts = [split(5, "-100", "a"), split(5, "400", "b")]

    matching = match_lots([bought(0, "A", "100", "10")], Lineage(), parts)

    assert [(lot.parent_id, lot.qty, lot.avg_fill) for lot in matching.open] == [("A", 400, Decimal("2.5"))]
    assert matching.closed == ()


def test_a_reverse_split_that_does_not_divide_evenly_still_adds_up() -> None:
    fills = [bought(0, "A", "50", "1"), bought(1, "B", "55", "1")]

    matching, fifo = match_lots(fills, Lineage(), [split(5, "-95")]), match_fifo(fills, [split(5, "-95")])

    assert [lot.qty for lot in matching.open] == [Decimal("4.761904762"), Decimal("5.238095238")]
    assert sum(lot.qty for lot in matching.open) == fifo.quantity("KO") == 10


def test_shares_transferred_in_are_a_lot_under_the_activitys_id() -> None:
    (lot,) = match_lots([], Lineage(), [transfer(5, "100", "12.5", "JNLS-1")]).open

    assert (lot.parent_id, lot.qty, lot.avg_fill, lot.is_orphan) == ("JNLS-1", 100, Decimal("12.5"), True)


def test_shares_that_appear_by_a_corporate_action_cost_nothing() -> None:
    matching = match_lots([sold(6, "X", "25", "4")], Lineage(), [split(5, "25", "SPIN-1")])

    (trade,) = matching.closed
    assert (trade.entry_lot_id, trade.entry_price, trade.pnl_cash, trade.return_pct) == ("SPIN-1", 0, 100, 0)


def test_the_last_shares_leave_by_a_corporate_action_for_nothing() -> None:
    matching = match_lots([bought(0, "A", "100", "10")], Lineage(), [split(5, "-100", "MA-1")])

    (trade,) = matching.closed
    assert (trade.exit_order_id, trade.exit_price, trade.pnl_cash) == ("MA-1", 0, -1000)
    assert matching.open == ()


def test_a_transfer_without_a_price_is_reported_until_it_has_one() -> None:
    book: Any = Book()
    book.apply(moves=[transfer(5, "100", None, "in")])
    before, problems = book.lots("KO")[0].avg_fill, book.problems()

    book.apply(moves=[transfer(5, "100", "12", "in")])

    assert (before, book.lots("KO")[0].avg_fill) == (0, 12)
    assert problems == (("in", "transfer in of KO has no price: it counts as 0 a share"),)
    assert book.problems() == ()


def test_a_move_that_the_broker_took_back_moves_nothing() -> None:
    book: Any = Book()
    book.apply(fills=[bought(0, "A", "100", "10")], moves=[split(5, "300")])

    book.apply(moves=[split(5, "0")])

    assert [(lot.qty, lot.avg_fill) for lot in book.lots("KO")] == [(100, 10)]


@pytest.mark.parametrize(
    ("pieces", "total", "parts"),
    [
        (["100"], "400", ["400"]),
        (["1", "2"], "1", ["0.333333333", "0.666666667"]),
        (["1", "1", "1"], "2", ["0.666666667", "0.666666667", "0.666666666"]),
        (["1000", "0.000000001"], "0.000000003", ["0.000000002", "0.000000001"]),
    ],
)
def test_shares_are_shared_out_by_the_largest_loss_and_the_oldest_first(
    pieces: list[str], total: str, parts: list[str]
) -> None:
    found = allot([Decimal(piece) for piece in pieces], Decimal(total))

    assert found == [Decimal(part) for part in parts]
    assert sum(found) == Decimal(total)

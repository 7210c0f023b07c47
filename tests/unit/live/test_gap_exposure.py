"""How long lots were without a live stop, and which lots a stop protects that is nobody's leg."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from typing import Any

from fakes.told import at, bought, oco, order, replaced, sold, stop, take

from coldharbour import Lineage, match_lots
from coldharbour.live.book import Book
from coldharbour.live.model import Fill, OrderFact


# What comes back is not typed, so that decimals may stand beside plain numbers in what is expected.
def lots(fills: Iterable[Fill], orders: Iterable[OrderFact]) -> Any:
    return list(match_lots(fills, Lineage(orders)).open)


def test_a_lot_is_bare_from_its_first_fill_until_its_stop_is_there() -> None:
    (lot,) = lots([bought(0, "A", "100", "10")], [stop("S", "A", "9", 2)])

    assert (lot.unprotected_s, lot.unprotected_since) == (120, None)


def test_a_lot_whose_stop_ended_is_bare_since_then() -> None:
    (lot,) = lots([bought(0, "A", "100", "10")], [stop("S", "A", "9", 2, status="canceled", canceled_at=at(7))])

    assert (lot.unprotected_s, lot.unprotected_since) == (120, at(7))


def test_a_lot_that_never_had_a_stop_is_bare_since_its_first_fill() -> None:
    (lot,) = lots([bought(3, "A", "100", "10")], [take("T", "A", "13")])

    assert (lot.unprotected_s, lot.unprotected_since) == (0, at(3))


def test_replacing_a_stop_leaves_no_gap_and_canceling_it_does() -> None:
    first, moved = replaced(stop("S1", "A", "9"), "S2", 5)
    gone = replace(moved, status="canceled", canceled_at=at(10))

    (lot,) = lots([bought(0, "A", "100", "10")], [first, gone, stop("S3", "A", "9", 14)])

    assert (lot.unprotected_s, lot.unprotected_since) == (240, None)


def test_a_closed_trade_counts_its_gaps_until_its_exit() -> None:
    fills = [bought(0, "A", "100", "10"), sold(8, "X", "50", "11"), sold(20, "Y", "50", "11")]

    trades = match_lots(fills, Lineage([stop("S", "A", "9", 1, status="canceled", canceled_at=at(5))])).closed

    assert [trade.unprotected_s for trade in trades] == [60 + 180, 60 + 900]


def test_an_oco_protects_the_lot_that_it_was_attached_to() -> None:
    first, second = lots([bought(0, "A", "50", "10"), bought(1, "B", "40", "11")], oco("T", "O", ("13", "9"), 6, "40"))

    assert (first.is_orphan, first.unprotected_since) == (True, at(0))
    assert (second.stop_order_id, second.unprotected_s) == ("O", 300)


def test_a_stop_of_nobody_protects_the_oldest_bare_lots_up_to_its_quantity() -> None:
    fills = [
        bought(0, "A", "50", "10"),
        bought(1, "B", "60", "11"),
        bought(2, "C", "40", "12"),
        bought(3, "D", "10", "9"),
    ]
    orders = [stop("S", "A", "8"), stop("loose", None, "9", 5, qty=Decimal(105))]

    a, b, c, d = lots(fills, orders)

    assert (a.stop_order_id, b.stop_order_id, c.stop_order_id, d.stop_order_id) == ("S", "loose", "loose", None)
    assert (b.unprotected_s, c.unprotected_s, d.unprotected_since) == (240, 180, at(3))
    assert (b.stop_price, b.initial_stop) == (9, None)


def test_a_lot_that_is_covered_in_part_only_is_not_protected() -> None:
    fills = [bought(0, "A", "100", "10"), bought(1, "B", "10", "11")]

    first, second = lots(fills, [stop("loose", None, "9", 5, qty=Decimal(60))])

    assert (first.is_orphan, second.is_orphan) == (True, True)


def test_two_stops_of_nobody_protect_together() -> None:
    orders = [stop("L1", None, "9", 5, qty=Decimal(60)), stop("L2", None, "9", 6, qty=Decimal(40))]

    (lot,) = lots([bought(0, "A", "100", "10")], orders)

    assert (lot.stop_order_id, lot.unprotected_s) == ("L1", 360)


def test_what_a_stop_of_nobody_has_sold_it_does_not_protect_any_more() -> None:
    fills = [bought(0, "A", "100", "10"), sold(9, "loose", "30", "9")]

    before = lots(fills[:1], [stop("loose", None, "9", 5)])
    after = lots(fills, [stop("loose", None, "9", 5, status="canceled", canceled_at=at(10))])

    assert (before[0].is_orphan, before[0].unprotected_s) == (False, 300)
    assert (after[0].qty, after[0].unprotected_since) == (70, at(10))


def test_a_rejected_replacement_protects_nothing_beside_the_stop_that_it_was_to_replace() -> None:
    kept = stop("S", None, "9", 1, status="partially_filled")
    refused = replace(kept, id="R", status="rejected", replaces="S", submitted_at=at(5), failed_at=at(6))
    fills = [bought(0, "A", "100", "10"), sold(3, "S", "20", "9"), bought(4, "B", "20", "10")]

    assert [lot.stop_order_id for lot in lots(fills, [kept, refused])] == ["S", None]


def test_a_stop_on_the_other_side_protects_nothing() -> None:
    (lot,) = lots([bought(0, "A", "100", "10")], [stop("loose", None, "12", 5, is_buy=True)])

    assert lot.is_orphan


def test_a_stop_of_nobody_that_turns_out_to_be_a_leg_protects_its_own_lot_only() -> None:
    book = Book()
    book.apply([order("B")], [bought(0, "A", "100", "10"), bought(1, "B", "100", "11")])
    book.apply([stop("S", None, "9", 5)])
    before = [lot.stop_order_id for lot in book.lots("KO")]

    book.apply([stop("S", "B", "9", 5)])

    assert before == ["S", None]
    assert [lot.stop_order_id for lot in book.lots("KO")] == [None, "S"]
    assert [lot.unprotected_since for lot in book.lots("KO")] == [at(0), None]

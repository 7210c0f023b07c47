"""Which lot an exit closes and what that makes: every rule of domain.md 4 and 5 by an example worked by hand."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from fakes.told import at, bought, oco, order, replaced, sold, stop, take, transfer

from coldharbour import Lineage, match_lots
from coldharbour.live.model import ExitType, Fill, OrderFact, ShareMove, Side


# What comes back is not typed, so that decimals may stand beside plain numbers in what is expected.
def matched(fills: Iterable[Fill], orders: Iterable[OrderFact] = (), moves: Iterable[ShareMove] = ()) -> Any:
    return match_lots(fills, Lineage(orders), moves)


def held(matching: Any) -> list[tuple[str, str, str]]:
    return [(lot.parent_id, str(lot.qty), str(lot.avg_fill)) for lot in matching.open]


def closings(matching: Any) -> list[tuple[str, str, str]]:
    return [(trade.entry_lot_id, trade.exit_order_id, str(trade.qty)) for trade in matching.closed]


def only_trade(matching: Any) -> Any:
    (trade,) = matching.closed
    return trade


def only_lot(matching: Any) -> Any:
    (lot,) = matching.open
    return lot


def test_a_leg_closes_its_own_lot_while_fifo_closes_the_oldest() -> None:
    fills = [bought(0, "A", "100", "10"), bought(1, "B", "100", "12"), sold(2, "T", "100", "13")]

    matching = matched(fills, [order("A"), order("B"), take("T", "B", "13")])

    trade = only_trade(matching)
    assert (trade.entry_lot_id, trade.exit_parent_id, trade.exit_type) == ("B", "B", ExitType.TAKE_PROFIT)
    assert (trade.pnl_cash, trade.pnl_cash_fifo, trade.diff_pnl) == (100, 300, -200)
    assert (trade.entry_time, trade.exit_time, trade.duration_sec) == (at(1), at(2), 60)
    assert trade.return_pct == Decimal("8.333333333333333333333333333")
    assert held(matching) == [("A", "100", "10")]
    assert only_lot(matching).avg_px_symbol == 11


def test_a_stop_leg_closes_at_a_loss() -> None:
    trade = only_trade(matched([bought(0, "A", "50", "20"), sold(9, "S", "50", "19.5")], [stop("S", "A", "19.5")]))

    assert (trade.exit_type, trade.pnl_cash, trade.return_pct) == (ExitType.STOP_LOSS, -25, Decimal("-2.5"))
    assert (trade.qty, trade.entry_price, trade.exit_price) == (50, 20, Decimal("19.5"))


def test_a_short_lot_profits_when_the_price_falls() -> None:
    legs = [take("T", "A", "8", is_buy=True)]

    matching = matched([sold(0, "A", "100", "10"), bought(5, "T", "40", "8")], legs)

    trade, lot = only_trade(matching), only_lot(matching)
    assert (trade.side, trade.qty, trade.pnl_cash, trade.pnl_cash_fifo) == (Side.SHORT, 40, 80, 80)
    assert (lot.side, lot.qty, lot.entry_qty, lot.avg_fill) == (Side.SHORT, -60, 100, 10)


def test_partial_entries_count_as_they_arrive_and_restate_what_was_closed_before() -> None:
    fills = [bought(0, "A", "100", "10"), sold(1, "X", "50", "12"), bought(2, "A", "100", "14")]

    before, after = matched(fills[:2]), matched(fills)

    assert (only_trade(before).entry_price, only_trade(before).pnl_cash) == (10, 100)
    assert (only_trade(after).entry_price, only_trade(after).pnl_cash) == (12, 0)
    assert held(after) == [("A", "150", "12")]
    assert only_lot(after).last_fill_time == at(2)


def test_fills_of_one_exit_order_make_one_row_with_their_average_price_and_last_time() -> None:
    fills = [bought(0, "A", "100", "10"), sold(1, "T", "30", "12"), sold(3, "T", "10", "14")]

    trade = only_trade(matched(fills, [take("T", "A", "12")]))

    assert (trade.qty, trade.exit_price, trade.exit_time, trade.pnl_cash) == (40, Decimal("12.5"), at(3), 100)


def test_fractional_shares_are_exact() -> None:
    fills = [bought(0, "A", "0.333333333", "3"), bought(1, "A", "0.666666667", "6"), sold(2, "X", "0.000000001", "7")]

    matching = matched(fills)

    assert only_lot(matching).qty == Decimal("0.999999999")
    assert only_lot(matching).avg_fill == Decimal("5.000000001")


def test_an_orphan_exit_closes_lots_without_a_live_leg_first_then_the_oldest() -> None:
    fills = [
        bought(0, "A", "100", "10"),
        bought(1, "B", "100", "11"),
        bought(2, "C", "100", "12"),
        sold(9, "X", "250", "13"),
    ]

    matching = matched(fills, [stop("S", "A", "9"), stop("gone", "C", "9", 2, status="canceled", canceled_at=at(8))])

    assert closings(matching) == [("A", "X", "50"), ("B", "X", "100"), ("C", "X", "100")]
    assert {trade.exit_parent_id for trade in matching.closed} == {None}
    assert {trade.exit_type for trade in matching.closed} == {ExitType.MANUAL}
    # FIFO made 100*(13-10) + 100*(13-11) + 50*(13-12) = 550 of X, shared by quantity.
    assert [trade.pnl_cash_fifo for trade in matching.closed] == [110, 220, 220]


def test_a_leg_that_is_canceled_a_moment_later_still_guards_its_lot() -> None:
    fills = [bought(0, "A", "100", "10"), bought(1, "B", "100", "11"), sold(9, "X", "100", "13")]

    matching = matched(fills, [stop("S", "A", "9", 0, status="canceled", canceled_at=at(9.001))])

    assert closings(matching) == [("B", "X", "100")]


def test_what_a_leg_sells_beyond_its_lot_closes_others_by_hand() -> None:
    fills = [
        bought(0, "A", "100", "10"),
        bought(1, "B", "40", "11"),
        sold(2, "S", "60", "12"),
        sold(3, "T", "50", "12"),
    ]

    matching = matched(fills, [stop("S", "B", "9"), take("T", "A", "12")])

    assert closings(matching) == [("A", "S", "20"), ("B", "S", "40"), ("A", "T", "50")]
    assert [trade.exit_type.value for trade in matching.closed] == ["MANUAL", "SL", "TP"]
    assert held(matching) == [("A", "30", "10")]


def test_selling_more_than_is_held_opens_a_short_lot_under_the_selling_order() -> None:
    fills = [bought(0, "A", "100", "10"), sold(1, "X", "150", "12"), bought(2, "Y", "20", "11")]

    matching = matched(fills)

    assert closings(matching) == [("A", "X", "100"), ("X", "Y", "20")]
    assert held(matching) == [("X", "-30", "12")]
    assert [trade.pnl_cash for trade in matching.closed] == [200, 20]
    assert only_lot(matching).avg_px_symbol == 12


def test_the_position_decides_what_is_an_exit_not_the_orders_class() -> None:
    fills = [sold(0, "A", "100", "10"), bought(1, "B", "100", "9")]

    matching = matched(fills, [order("A", is_buy=False), order("B", order_class="bracket"), stop("S", "B", "8", 1)])

    assert closings(matching) == [("A", "B", "100")]
    assert only_trade(matching).exit_parent_id is None


def test_a_leg_that_fills_while_nothing_is_held_opens_a_lot() -> None:
    matching = matched([sold(1, "S", "10", "9")], [stop("S", "A", "9")])

    assert held(matching) == [("S", "-10", "9")]
    assert only_lot(matching).is_orphan


def test_an_exit_that_was_replaced_five_times_is_still_the_lots_own() -> None:
    chain = [stop("S0", "A", "9")]
    for number in range(1, 6):
        chain += replaced(chain.pop(), f"S{number}", number, parent_id=None)

    trade = only_trade(matched([bought(0, "A", "10", "10"), sold(9, "S5", "10", "11")], chain))

    assert (trade.exit_parent_id, trade.exit_type, trade.initial_stop) == ("A", ExitType.STOP_LOSS, 9)


def test_an_exit_that_cannot_be_tied_is_nobodys() -> None:
    trade = only_trade(matched([bought(0, "A", "10", "10"), sold(9, "S9", "10", "11")], [stop("S9", None, "11")]))

    assert (trade.exit_parent_id, trade.exit_type) == (None, ExitType.MANUAL)


def test_an_entry_that_was_replaced_half_filled_makes_two_lots_that_share_their_legs() -> None:
    entries = replaced(order("P1"), "P2", 2)
    fills = [bought(1, "P1", "40", "10"), bought(3, "P2", "60", "11"), sold(5, "S", "100", "9")]

    matching = matched(fills, [*entries, stop("S", "P1", "9")])

    assert [(trade.entry_lot_id, trade.qty, trade.exit_type) for trade in matching.closed] == [
        ("P1", 40, ExitType.STOP_LOSS), ("P2", 60, ExitType.STOP_LOSS),
    ]  # fmt: skip
    assert {trade.exit_parent_id for trade in matching.closed} == {"P2"}


def test_an_oco_belongs_to_the_bare_lot_of_its_quantity() -> None:
    fills = [
        bought(0, "A", "100", "10"),
        bought(1, "B", "40", "11"),
        bought(2, "C", "40", "12"),
        sold(9, "T", "40", "13"),
    ]

    matching = matched(fills, [stop("S", "B", "9"), *oco("T", "O", ("13", "9.5"), 5, "40")])

    trade = only_trade(matching)
    assert (trade.entry_lot_id, trade.exit_parent_id, trade.exit_type) == ("C", "C", ExitType.TAKE_PROFIT)
    assert trade.initial_stop == Decimal("9.5")


def test_an_oco_of_no_lots_quantity_belongs_to_the_oldest_bare_lot() -> None:
    fills = [
        bought(0, "A", "100", "10"),
        bought(1, "B", "50", "11"),
        bought(2, "C", "60", "12"),
        sold(9, "O", "30", "9.5"),
    ]

    matching = matched(fills, [stop("S", "A", "9"), *oco("T", "O", ("13", "9.5"), 5, "30")])

    assert [(trade.entry_lot_id, trade.exit_type) for trade in matching.closed] == [("B", ExitType.STOP_LOSS)]


def test_an_oco_belongs_to_the_oldest_lot_where_all_have_legs() -> None:
    fills = [bought(0, "A", "100", "10"), bought(1, "B", "30", "11"), sold(9, "T", "30", "13")]

    matching = matched(fills, [stop("S", "A", "9"), stop("Z", "B", "9"), *oco("T", "O", ("13", "9.5"), 5, "30")])

    assert closings(matching) == [("A", "T", "30")]


def test_an_oco_without_a_lot_to_close_is_nobodys() -> None:
    matching = matched([bought(6, "A", "30", "10"), sold(9, "T", "30", "13")], oco("T", "O", ("13", "9.5"), 5, "30"))

    assert (only_trade(matching).exit_parent_id, only_trade(matching).exit_type) == (None, ExitType.MANUAL)


def test_a_second_oco_finds_the_lot_that_the_first_left_bare() -> None:
    fills = [bought(0, "A", "30", "10"), bought(1, "B", "30", "11"), sold(9, "T2", "30", "13")]
    ocos = [*oco("T1", "O1", ("13", "9"), 5, "30"), *oco("T2", "O2", ("13", "9"), 5, "30")]

    assert closings(matched(fills, ocos)) == [("B", "T2", "30")]


def test_an_oco_whose_take_profit_was_moved_stays_with_its_lot() -> None:
    head, leg = oco("T1", "O", ("13", "9"), 5, "30")

    matching = matched([bought(0, "A", "30", "10"), sold(9, "T2", "30", "14")], [*replaced(head, "T2", 7), leg])

    assert [(trade.exit_parent_id, trade.exit_type) for trade in matching.closed] == [("A", ExitType.TAKE_PROFIT)]


def test_shares_of_one_moment_are_processed_by_activity_id() -> None:
    first, second = bought(0, "B", "100", "10"), bought(0, "A", "100", "11")

    matching = matched([first, second, sold(1, "X", "100", "12")])

    assert closings(matching) == [("A", "X", "100")]  # "0-A" comes before "0-B"


def test_the_average_cost_moves_by_adding_only_and_begins_anew_with_a_flip() -> None:
    fills = [
        bought(0, "A", "100", "10"),
        bought(1, "B", "300", "12"),
        sold(2, "X", "100", "20"),
        bought(3, "C", "100", "15.5"),
    ]

    lots = matched(fills).open

    assert {lot.avg_px_symbol for lot in lots} == {Decimal("12.5")}  # 11.5 for 300, then 100 more at 15.5
    assert matched([*fills, sold(4, "Y", "500", "9")]).open[0].avg_px_symbol == 9


def test_a_lot_shows_its_legs_through_their_latest_successors() -> None:
    moved = replaced(stop("S1", "A", "9"), "S2", 5, stop_price=Decimal("9.8"))

    lot = only_lot(matched([bought(0, "A", "100", "10")], [*moved, take("T", "A", "13")]))

    assert (lot.stop_order_id, lot.stop_price, lot.initial_stop) == ("S2", Decimal("9.8"), 9)
    assert (lot.take_order_id, lot.take_price, lot.is_orphan) == ("T", 13, False)


def test_legs_that_are_not_live_are_not_shown() -> None:
    legs = [
        stop("S", "A", "9", status="canceled", canceled_at=at(5)),
        take("T", "A", "13", status="expired", expired_at=at(5)),
    ]

    lot = only_lot(matched([bought(0, "A", "100", "10")], legs))

    assert (lot.stop_order_id, lot.stop_price, lot.take_order_id, lot.take_price) == (None, None, None, None)
    assert (lot.initial_stop, lot.is_orphan) == (9, True)


def test_every_symbol_is_matched_by_itself() -> None:
    matching = matched([bought(0, "A", "100", "10"), sold(1, "X", "100", "12", symbol="PEP")])

    assert [(lot.symbol, lot.qty) for lot in matching.open] == [("KO", 100), ("PEP", -100)]


def test_a_ledger_of_nothing_comes_to_nothing() -> None:
    assert (matched([]).open, matched([]).closed) == ((), ())


def test_a_transfer_out_closes_the_oldest_lot_even_if_it_has_legs() -> None:
    fills = [bought(0, "A", "100", "10"), bought(1, "B", "100", "11")]

    matching = matched(fills, [stop("S", "A", "9")], [transfer(5, "-50", "12", "out")])

    assert closings(matching) == [("A", "out", "50")]
    assert (only_trade(matching).pnl_cash, only_trade(matching).exit_type) == (100, ExitType.MANUAL)

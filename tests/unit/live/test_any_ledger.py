"""What holds of every ledger: both matchings agree on the total, and nothing hangs on how a ledger was told.

`SOAK_EXAMPLES=2000 python -m pytest tests/unit/live/test_any_ledger.py` tries thousands of lives.
"""

from __future__ import annotations

import os
from collections import defaultdict
from decimal import Decimal
from fractions import Fraction
from random import Random
from typing import Any

from fakes.ledgers import Account, Event, Ledger
from fakes.slow_matching import SlowMatching, near
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coldharbour.live.book import Book
from coldharbour.live.fifo import match_fifo
from coldharbour.live.lineage import Lineage
from coldharbour.live.lots import match_lots
from coldharbour.live.model import ClosedTrade, Fill, Lot, OrderFact, ShareMove

EXAMPLES = int(os.environ.get("SOAK_EXAMPLES", "150"))
ROUGH = ("4", "1.5", "0.1", "0.3333")  # ratios that leave fractions of the smallest quantity

many = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
chances = st.randoms(use_true_random=False)
lengths = st.integers(1, 40)


def life(chance: Random, steps: int, ratios: tuple[str, ...] = ("4", "3")) -> Ledger:
    return Account(chance, ratios=ratios).live(steps)


def rows(book: Book) -> dict[str, tuple[tuple[Lot, ...], tuple[ClosedTrade, ...], Decimal]]:
    return {symbol: (book.lots(symbol), book.closed(symbol), book.quantity(symbol)) for symbol in book.symbols()}


def tell(book: Book, events: list[Event]) -> None:
    book.apply(
        orders=[event for event in events if isinstance(event, OrderFact)],
        fills=[event for event in events if isinstance(event, Fill)],
        moves=[event for event in events if isinstance(event, ShareMove)],
    )


def told_at_once(ledger: Ledger) -> Book:
    book = Book()
    book.apply(ledger.orders, ledger.fills, ledger.moves)
    return book


@given(chances, lengths)
@many
def test_both_matchings_and_the_fills_agree_on_what_is_held(chance: Random, steps: int) -> None:
    ledger = life(chance, steps, ROUGH)
    signed: defaultdict[str, Decimal] = defaultdict(Decimal)
    for fill in ledger.fills:
        signed[fill.symbol] += fill.signed_qty
    for move in ledger.moves:
        signed[move.symbol] += move.qty

    matching = match_lots(ledger.fills, Lineage(ledger.orders), ledger.moves)
    fifo = match_fifo(ledger.fills, ledger.moves)

    for symbol in ledger.symbols:
        assert sum(lot.qty for lot in matching.open if lot.symbol == symbol) == signed[symbol]
        assert fifo.quantity(symbol) == signed[symbol]


@given(chances, lengths, st.decimals(0, 1000, places=4))
@many
def test_realised_and_unrealised_are_the_same_for_both_matchings_at_any_price(
    chance: Random, steps: int, price: Decimal
) -> None:
    ledger = life(chance, steps, ROUGH)

    matching = match_lots(ledger.fills, Lineage(ledger.orders), ledger.moves)
    fifo = match_fifo(ledger.fills, ledger.moves)

    of_lots = sum((trade.pnl_cash for trade in matching.closed), Decimal(0))
    of_lots += sum((lot.qty * (price - lot.avg_fill) for lot in matching.open), Decimal(0))
    of_fifo = sum((closing.profit for closing in fifo.closed.values()), Decimal(0))
    of_fifo += sum((shares.qty * (price - shares.price) for shares in fifo.open), Decimal(0))
    assert abs(of_lots - of_fifo) < Decimal("1e-15")
    shared = sum((trade.pnl_cash_fifo for trade in matching.closed), Decimal(0))
    assert abs(shared - sum((closing.profit for closing in fifo.closed.values()), Decimal(0))) < Decimal("1e-15")


@given(chances, lengths)
@many
def test_one_by_one_ends_as_at_once(chance: Random, steps: int) -> None:
    ledger = life(chance, steps, ROUGH)
    book = Book()

    for event in ledger.told:
        tell(book, [event])

    assert rows(book) == rows(told_at_once(ledger))


@given(chances, lengths, st.data())
@many
def test_late_input_and_duplicates_end_as_in_order_input(chance: Random, steps: int, data: Any) -> None:
    ledger = life(chance, steps, ROUGH)
    statements = [*ledger.orders, *ledger.fills, *ledger.moves]
    again = data.draw(st.lists(st.sampled_from(statements), max_size=10)) if statements else []
    shuffled = data.draw(st.permutations([*statements, *again]))
    book = Book()

    while shuffled:
        count = data.draw(st.integers(1, 5))
        tell(book, shuffled[:count])
        del shuffled[:count]
        if data.draw(st.booleans()):
            rows(book)  # whoever looks between changes nothing

    assert rows(book) == rows(told_at_once(ledger))


@given(chances, lengths)
@many
def test_matching_once_gives_the_rows_of_the_book(chance: Random, steps: int) -> None:
    ledger = life(chance, steps, ROUGH)
    book = told_at_once(ledger)

    matching = match_lots(ledger.fills, Lineage(ledger.orders), ledger.moves)

    assert matching.open == tuple(lot for symbol in book.symbols() for lot in book.lots(symbol))
    assert matching.closed == tuple(trade for symbol in book.symbols() for trade in book.closed(symbol))


@given(chances, lengths)
@many
def test_the_matching_is_what_the_definitions_say(chance: Random, steps: int) -> None:
    ledger = life(chance, steps)
    book = told_at_once(ledger)

    for symbol in ledger.symbols:
        slow = SlowMatching(symbol, ledger.orders, ledger.fills, ledger.moves)

        agree_on_lots(book.lots(symbol), slow)
        agree_on_trades(book.closed(symbol), slow)


def agree_on_lots(lots: tuple[Lot, ...], slow: SlowMatching) -> None:
    assert [lot.parent_id for lot in lots] == [lot.key for lot in slow.open()]
    for lot, known in zip(lots, slow.open(), strict=True):
        assert near(lot.qty, known.left)
        assert near(lot.entry_qty, known.shares)
        assert near(lot.avg_fill, known.average)
        assert lot.entry_time == known.born[0]
        assert lot.last_fill_time == max([known.last_entry, *(event.at for event, _ in known.closings)])
        assert same(
            lot.initial_stop, slow.initial_stop(known, lot.last_fill_time.max.replace(tzinfo=lot.entry_time.tzinfo))
        )
        assert (lot.unprotected_s, lot.unprotected_since) == slow.unprotected(known, None)
        assert lot.is_orphan == (lot.unprotected_since is not None)


def agree_on_trades(trades: tuple[ClosedTrade, ...], slow: SlowMatching) -> None:
    rows = slow.rows()
    assert {(trade.entry_lot_id, trade.exit_order_id) for trade in trades} == set(rows)
    for trade in trades:
        lot, parts = rows[trade.entry_lot_id, trade.exit_order_id]
        end = parts[-1][0].at
        qty = sum((part * slow.ratio(event.at, end) for event, part in parts), Fraction(0))
        raw = sum((part for _, part in parts), Fraction(0))
        value = sum((part * Fraction(event.price or 0) for event, part in parts), Fraction(0))
        entry = lot.average * slow.ratio(end, end.max.replace(tzinfo=end.tzinfo))
        shares, profit = slow.fifo[trade.exit_order_id]
        assert near(trade.qty, qty)
        assert near(trade.entry_price, entry)
        assert near(trade.exit_price, value / qty)
        assert (trade.entry_time, trade.exit_time) == (lot.born[0], end)
        assert near(trade.pnl_cash, lot.sign * (value - qty * entry))
        assert near(trade.pnl_cash_fifo, raw * profit / shares)
        assert Fraction(trade.diff_pnl) == Fraction(trade.pnl_cash) - Fraction(trade.pnl_cash_fifo)
        assert same(trade.initial_stop, slow.initial_stop(lot, end))
        assert trade.unprotected_s == slow.unprotected(lot, end)[0]
        agree_on_kind(trade, slow)


def agree_on_kind(trade: ClosedTrade, slow: SlowMatching) -> None:
    home = slow.home(trade.exit_order_id) if trade.exit_order_id in slow.orders else None
    tied = slow.ties.get(home) if home is not None else None
    parent = tied.key if tied is not None else None if home in slow.ties else home
    assert trade.exit_parent_id == parent
    family = {parent} if tied is not None or parent is None else {parent, *(o.id for o in slow.chain(parent))}
    is_own = trade.entry_lot_id in family
    assert trade.exit_type == ((slow.kind(trade.exit_order_id) if is_own else None) or "MANUAL")


def same(known: Decimal | None, expected: Fraction | None) -> bool:
    return known is None if expected is None else known is not None and near(known, expected)

"""However a ledger is told to a book, in pieces, late or twice: in the end the same rows, and the same as at once.

`SOAK_EXAMPLES=2000 python -m pytest tests/replay/test_told_in_pieces.py` tries thousands of lives.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from random import Random
from typing import Any

from fakes.ledgers import ROUGH, Account, Event, Ledger
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coldharbour import Book, Lineage, match_lots
from coldharbour.live.closings import Closing, Closings
from coldharbour.live.model import ClosedTrade, Fill, Lot, OrderFact, ShareMove

ANY = settings(
    max_examples=int(os.environ.get("SOAK_EXAMPLES", "100")), deadline=None, suppress_health_check=list(HealthCheck)
)
SEEDS, LENGTHS = st.integers(0, 10**9), st.integers(1, 40)

Rows = dict[str, tuple[tuple[Lot, ...], tuple[ClosedTrade, ...], Decimal]]


def life(seed: int, steps: int) -> Ledger:
    return Account(Random(seed), ratios=ROUGH).live(steps)


def rows(book: Book) -> Rows:
    return {symbol: (book.lots(symbol), book.closed(symbol), book.quantity(symbol)) for symbol in book.symbols()}


def tell(book: Book, events: Iterable[Event]) -> None:
    events = list(events)
    book.apply(
        orders=[event for event in events if isinstance(event, OrderFact)],
        fills=[event for event in events if isinstance(event, Fill)],
        moves=[event for event in events if isinstance(event, ShareMove)],
    )


def told_at_once(ledger: Ledger) -> Book:
    book = Book()
    book.apply(ledger.orders, ledger.fills, ledger.moves)
    return book


class Listener:
    """Somebody who knows a book's rows by its changes alone, as a table does."""

    def __init__(self) -> None:
        self.lots: dict[str, Lot] = {}
        self.closed: dict[tuple[str, str], ClosedTrade] = {}
        self.closings: dict[tuple[str, str], Closing] = {}
        self._archive = Closings()

    def hear(self, book: Book) -> None:
        changes = book.take_changes()
        for lot in changes.lots_gone:
            self.lots.pop(lot, None)
        for key in changes.closed_gone:
            self.closed.pop(key, None)
        self.lots |= {lot.parent_id: lot for lot in changes.lots}
        self.closed |= {(trade.entry_lot_id, trade.exit_order_id): trade for trade in changes.closed}
        changed, gone = self._archive.take(changes)
        for key in gone:
            self.closings.pop(key, None)
        self.closings |= {closing.key: closing for closing in changed}


@given(SEEDS, LENGTHS)
@ANY
def test_one_by_one_ends_as_at_once(seed: int, steps: int) -> None:
    ledger, book = life(seed, steps), Book()

    for event in ledger.told:
        tell(book, [event])

    assert rows(book) == rows(told_at_once(ledger))


@given(SEEDS, LENGTHS, st.integers(1, 20))
@ANY
def test_batches_end_as_at_once(seed: int, steps: int, size: int) -> None:
    ledger, book = life(seed, steps), Book()

    for start in range(0, len(ledger.told), size):
        tell(book, ledger.told[start : start + size])

    assert rows(book) == rows(told_at_once(ledger))


@given(SEEDS, LENGTHS, st.data())
@ANY
def test_late_input_and_duplicates_end_as_in_order_input(seed: int, steps: int, data: Any) -> None:
    ledger, book = life(seed, steps), Book()
    statements: list[Event] = [*ledger.orders, *ledger.fills, *ledger.moves]
    again = data.draw(st.lists(st.sampled_from(statements), max_size=10)) if statements else []
    waiting = data.draw(st.permutations([*statements, *again]))

    while waiting:
        count = data.draw(st.integers(1, 5))
        tell(book, waiting[:count])
        del waiting[:count]
        if data.draw(st.booleans()):
            rows(book)  # whoever looks in between changes nothing

    assert rows(book) == rows(told_at_once(ledger))


@given(SEEDS, LENGTHS, st.data())
@ANY
def test_the_changes_alone_tell_all_rows(seed: int, steps: int, data: Any) -> None:
    ledger, book, listener = life(seed, steps), Book(), Listener()
    waiting = data.draw(st.permutations([*ledger.orders, *ledger.fills, *ledger.moves]))

    while waiting:
        count = data.draw(st.integers(1, 5))
        tell(book, waiting[:count])
        del waiting[:count]
        if data.draw(st.booleans()):
            listener.hear(book)
    listener.hear(book)

    known = rows(told_at_once(ledger)).values()
    assert listener.lots == {lot.parent_id: lot for lots, _, _ in known for lot in lots}
    assert listener.closed == {
        (trade.entry_lot_id, trade.exit_order_id): trade for _, trades, _ in known for trade in trades
    }
    last = {trade.entry_lot_id: trade for trade in sorted(listener.closed.values(), key=_exited)}
    assert listener.closings == {
        key: Closing(trade, trade is last[key[0]] and key[0] not in listener.lots)
        for key, trade in listener.closed.items()
    }


def _exited(trade: ClosedTrade) -> tuple[datetime, str]:
    return trade.exit_time, trade.exit_order_id


@given(SEEDS, LENGTHS)
@ANY
def test_matching_once_gives_the_rows_of_the_book(seed: int, steps: int) -> None:
    ledger = life(seed, steps)
    known = rows(told_at_once(ledger))

    matching = match_lots(ledger.fills, Lineage(ledger.orders), ledger.moves)

    assert matching.open == tuple(lot for lots, _, _ in known.values() for lot in lots)
    assert matching.closed == tuple(trade for _, trades, _ in known.values() for trade in trades)

"""Matching a whole ledger at once: open lots and closed trades from fills and the lineage of their orders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import localcontext
from functools import cached_property

from coldharbour.live.collector import no_collections
from coldharbour.live.decimals import EXACT
from coldharbour.live.lineage import Lineage
from coldharbour.live.model import ClosedTrade, Fill, Lot, ShareMove
from coldharbour.live.results import closed_trades, open_lots
from coldharbour.live.runs import runs
from coldharbour.live.symbol import SymbolBook, attachments


class Matching:
    """What a ledger comes to; its rows are made when they are first looked at."""

    def __init__(self, books: Mapping[str, SymbolBook]) -> None:
        self._books = [books[symbol] for symbol in sorted(books)]

    @cached_property
    def open(self) -> tuple[Lot, ...]:
        """The open lots, by symbol and age."""
        with localcontext(EXACT), no_collections():
            return tuple(lot for book in self._books for lot in open_lots(book))

    @cached_property
    def closed(self) -> tuple[ClosedTrade, ...]:
        """The closed trades, by symbol and time of exit."""
        with localcontext(EXACT), no_collections():
            return tuple(trade for book in self._books for trade in closed_trades(book))


def match_lots(fills: Iterable[Fill], lineage: Lineage, moves: Iterable[ShareMove] = ()) -> Matching:
    """Return the open lots and closed trades of these fills and share moves, in any order, duplicates included.

    An exit closes the lot whose leg it is; what is left of it, and every other exit, closes the symbol's lots without
    a live leg, oldest first, then the rest; what then remains opens a lot of the other side. lineage: all orders that
    are known, not to be changed while rows are made. Quantities are shares, negative for short lots;
    money is account currency; sums are exact and quotients that do not end have 28 digits, half-even. Processed by
    transaction time in whole microseconds, then by activity id. pnl_cash_fifo is each row's share of what the
    broker's FIFO made of its exit order. Raises nothing for any combination of them. Source: domain.md 3, 4, 5.

    Buy 100 @10 (A), buy 100 @12 (B), B's limit leg sells 100 @13:

    >>> from datetime import UTC, datetime
    >>> from decimal import Decimal
    >>> from coldharbour.live.model import OrderFact
    >>> def fill(minute, order_id, is_buy, price):
    ...     at = datetime(2026, 10, 8, 14, minute, tzinfo=UTC)
    ...     return Fill(f"f{minute}", at, order_id, "KO", is_buy, Decimal(100), Decimal(price))
    >>> leg = OrderFact(id="S", symbol="KO", is_buy=False, order_type="limit", order_class="bracket", status="filled",
    ...                 parent_id="B")
    >>> fills = [fill(0, "A", True, 10), fill(1, "B", True, 12), fill(2, "S", False, 13)]
    >>> matching = match_lots(fills, Lineage([leg]))
    >>> row = matching.closed[0]
    >>> row.entry_lot_id, row.exit_type.value, row.pnl_cash, row.pnl_cash_fifo, row.diff_pnl
    ('B', 'TP', Decimal('100'), Decimal('300'), Decimal('-200'))
    >>> [(lot.parent_id, lot.qty, lot.avg_fill) for lot in matching.open]
    [('A', Decimal('100'), Decimal('10'))]
    """
    books: dict[str, SymbolBook] = {}
    with localcontext(EXACT), no_collections():
        for symbol, run, others in runs(fills, moves, attachments(lineage)):
            book = books.get(symbol)
            if book is None:
                book = books[symbol] = SymbolBook(symbol, lineage)
            book.extend(run, others)
    return Matching(books)

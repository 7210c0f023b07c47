"""The incremental form of both matchings: an account's book, told what is new, whatever the order and how often.

It holds what follows from the orders, fills and moves it was told; it reads nothing and asks nobody for the time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal

from coldharbour.live import liveness
from coldharbour.live.lineage import Lineage
from coldharbour.live.model import ClosedTrade, Fill, Lot, MoveKind, OrderFact, ShareMove
from coldharbour.live.symbol import SymbolBook, attachment
from coldharbour.live.tape import Attachment, Step


class _Change:
    """What one `apply` does to one symbol."""

    def __init__(self) -> None:
        self.added: dict[tuple[type, str], Step] = {}
        self.gone: dict[tuple[type, str], Step] = {}
        self.orders: set[str] = set()  # whose parent may be another one
        self.since: datetime | None = None  # from when on other legs may be live

    def put(self, step: Step, known: Step | None) -> None:
        key = (type(step), step.id)
        if known is not None:
            self.gone.setdefault(key, known)
        self.added[key] = step

    def doubt(self, at: datetime | None) -> None:
        if at is not None and (self.since is None or at < self.since):
            self.since = at


class Book:
    """Lots, closed trades and inventory of one account, kept as orders, fills and share moves become known.

    However they are cut into calls, in whatever order they come and however often, the rows end the same. A fill,
    move or order with a known id is the same one stated anew, and replaces what was known of it.
    """

    def __init__(self, lineage: Lineage | None = None) -> None:
        self.lineage = Lineage() if lineage is None else lineage
        self._symbols: dict[str, SymbolBook] = {}
        self._events: dict[tuple[type, str], Step] = {}

    def apply(
        self,
        orders: Iterable[OrderFact] = (),
        fills: Iterable[Fill] = (),
        moves: Iterable[ShareMove] = (),
    ) -> frozenset[str]:
        """Take in what is new; return the symbols whose rows may have changed.

        The whole call is matched at once: within it, order does not matter, but of one id the last one counts.
        """
        changes: defaultdict[str, _Change] = defaultdict(_Change)
        for order in orders:
            self._take_order(order, changes)
        for fill in fills:
            self._take_event(fill, changes)
        for move in moves:
            self._take_event(move, changes)
        for symbol, change in changes.items():
            self._replay(symbol, change)
        return frozenset(changes)

    def symbols(self) -> tuple[str, ...]:
        """Return the symbols that ever had a fill or a move, sorted."""
        return tuple(sorted(symbol for symbol, book in self._symbols.items() if len(book.tape)))

    def lots(self, symbol: str) -> tuple[Lot, ...]:
        """Return a symbol's open lots, the oldest first."""
        book = self._symbols.get(symbol)
        return () if book is None else book.lots()

    def closed(self, symbol: str) -> tuple[ClosedTrade, ...]:
        """Return a symbol's closed trades, by time of exit."""
        book = self._symbols.get(symbol)
        return () if book is None else book.closed()

    def quantity(self, symbol: str) -> Decimal:
        """Return the shares held of a symbol, negative when short."""
        book = self._symbols.get(symbol)
        return Decimal(0) if book is None else book.quantity

    def problems(self) -> tuple[tuple[str, str], ...]:
        """Return what could not be settled, as (key, text): links that contradict, fills of unknown orders."""
        found = dict(self.lineage.problems())
        for event in self._events.values():
            if type(event) is Fill and event.order_id != event.id and self.lineage.order(event.order_id) is None:
                found[event.order_id] = f"fills of order {event.order_id} in {event.symbol}, which is unknown"
            elif type(event) is ShareMove and event.kind is MoveKind.TRANSFER and event.price is None and event.qty:
                found[event.id] = f"transfer {event.id} of {event.symbol} has no price: it counts as free of cost"
        return tuple(sorted(found.items()))

    def _take_order(self, order: OrderFact, changes: defaultdict[str, _Change]) -> None:
        known = self.lineage.order(order.id)
        if known == order:
            return
        touched = self.lineage.add(order)
        change = changes[order.symbol]
        before = None if known is None else liveness.lifespan(known)
        change.doubt(liveness.earliest_difference(before, liveness.lifespan(order)))
        change.orders |= touched
        for member in touched:
            fact = self.lineage.order(member)
            change.doubt(None if fact is None else liveness.began(fact))
        if known is not None and known.symbol != order.symbol:
            changes[known.symbol].orders |= touched
            changes[known.symbol].doubt(liveness.began(known))

    def _take_event(self, event: Fill | ShareMove, changes: defaultdict[str, _Change]) -> None:
        key = (type(event), event.id)
        known = self._events.get(key)
        if known == event:
            return
        self._events[key] = event
        if known is not None and known.symbol != event.symbol:
            changes[known.symbol].gone[key] = known
            known = None
        changes[event.symbol].put(event, known)

    def _replay(self, symbol: str, change: _Change) -> None:
        book = self._symbols.get(symbol)
        if book is None:
            book = self._symbols[symbol] = SymbolBook(symbol, self.lineage)
        self._attach(book, change)
        redo = [book.used_first(order_id) for order_id in change.orders]
        if change.since is not None:
            redo.append(book.asked_since(change.since))
        book.change(list(change.added.values()), list(change.gone.values()), redo)

    def _attach(self, book: SymbolBook, change: _Change) -> None:
        """Have the OCOs that changed put where they belong among the events."""
        for head in {self.lineage.latest(order_id) for order_id in change.orders} | change.orders:
            key = (Attachment, head)
            known = self._events.pop(key, None)
            found = (
                attachment(self.lineage, head)
                if self.lineage.is_oco(head) and self.lineage.latest(head) == head
                else None
            )
            if found is not None and found.symbol == book.symbol:
                self._events[key] = found
            else:
                found = None
            if known is not None and known != found:
                change.gone[key] = known
            if found is not None and known != found:
                change.added[key] = found

"""The incremental form of both matchings: an account's book, told what is new, whatever the order and how often.

It holds what follows from the orders, fills and moves it was told; it reads nothing and asks nobody for the time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal, localcontext

from coldharbour.live import liveness
from coldharbour.live.collector import no_collections
from coldharbour.live.decimals import EXACT, ZERO
from coldharbour.live.lineage import Lineage
from coldharbour.live.model import ClosedTrade, Fill, Lot, MoveKind, OrderFact, ShareMove
from coldharbour.live.news import Changes, News
from coldharbour.live.results import open_lots
from coldharbour.live.symbol import SymbolBook, attachment
from coldharbour.live.tape import Attachment, Step

Problem = tuple[str, str]
StepKey = tuple[type, str]


class _Change:
    """What one `apply` does to one symbol. orders: those whose parent may be another one. lots: whose legs changed.

    since: from when on other legs may be live.
    """

    def __init__(self) -> None:
        self.added: dict[StepKey, Step] = {}
        self.gone: dict[StepKey, Step] = {}
        self.orders: set[str] = set()
        self.lots: set[str] = set()
        self.since: datetime | None = None

    def put(self, step: Step | None, known: Step | None) -> None:
        """Have an event stated anew: as it was known, and as it is now; None: it is not there."""
        if step == known:
            return
        if known is not None:
            key = (type(known), known.id)
            if self.added.pop(key, None) is None:
                self.gone[key] = known
        if step is not None:
            self.added[type(step), step.id] = step

    def doubt(self, at: datetime | None) -> None:
        """Note that other legs may be live from a moment on."""
        if at is not None and (self.since is None or at < self.since):
            self.since = at


class Book:
    """Lots, closed trades and inventory of one account, kept as orders, fills and share moves become known.

    However they are cut into calls, in whatever order they come and however often, the rows end the same, and the
    same as `match_lots` makes them at once. A fill, move or order with a known id is the same one stated anew, and
    replaces what was known of it; of an order, the caller tells the newest statement last. Source: domain.md 3, 4, 5.

    >>> from datetime import UTC
    >>> at = datetime(2026, 10, 8, 14, 0, tzinfo=UTC)
    >>> book = Book()
    >>> sorted(book.apply(fills=[Fill("f1", at, "A", "KO", True, Decimal(100), Decimal(10))]))
    ['KO']
    >>> [(lot.parent_id, lot.qty, lot.is_orphan) for lot in book.lots("KO")], book.quantity("KO")
    ([('A', Decimal('100'), True)], Decimal('100'))
    >>> book.problems()
    (('A', 'fills of order A in KO, which is unknown: its lot has no legs yet'),)
    """

    def __init__(self) -> None:
        self.lineage = Lineage()
        self._symbols: dict[str, SymbolBook] = {}
        self._news: dict[str, News] = {}
        self._events: dict[StepKey, Step] = {}
        self._touched: set[str] = set()
        self._problems: dict[str, str] = {}

    def apply(
        self,
        orders: Iterable[OrderFact] = (),
        fills: Iterable[Fill] = (),
        moves: Iterable[ShareMove] = (),
    ) -> frozenset[str]:
        """Take in what is new; return the symbols whose rows may have changed.

        The whole call is matched at once: within it, order does not matter, but of one id the last one counts. What
        is known already changes nothing. Fills have a time and a positive quantity, for which the caller answers.
        """
        changes: defaultdict[str, _Change] = defaultdict(_Change)
        with localcontext(EXACT), no_collections():
            for order in orders:
                self._take_order(order, changes)
            for fill in fills:
                self._take_event(fill, changes)
            for move in moves:
                self._take_event(move, changes)
            for symbol, change in changes.items():
                self._replay(symbol, change)
        self._touched |= changes.keys()
        return frozenset(changes)

    def symbols(self) -> tuple[str, ...]:
        """Return the symbols that have fills or moves, sorted."""
        return tuple(sorted(symbol for symbol, book in self._symbols.items() if len(book.tape)))

    def lots(self, symbol: str) -> tuple[Lot, ...]:
        """Return a symbol's open lots, the oldest first."""
        book = self._symbols.get(symbol)
        with localcontext(EXACT):
            return () if book is None else tuple(open_lots(book))

    def closed(self, symbol: str) -> tuple[ClosedTrade, ...]:
        """Return a symbol's closed trades, by time of exit."""
        news = self._news.get(symbol)
        with localcontext(EXACT):
            return () if news is None else news.closed()

    def quantity(self, symbol: str) -> Decimal:
        """Return the shares held of a symbol, negative when short."""
        book = self._symbols.get(symbol)
        with localcontext(EXACT):
            return ZERO if book is None else book.quantity

    def take_changes(self) -> Changes:
        """Return the rows that are new, changed or gone since the last call; the first call returns all there are."""
        touched, self._touched = sorted(self._touched & self._news.keys()), set()
        with localcontext(EXACT), no_collections():
            taken = [self._news[symbol].take() for symbol in touched]
        return Changes(
            lots=tuple(lot for changes in taken for lot in changes.lots),
            lots_gone=tuple(key for changes in taken for key in changes.lots_gone),
            closed=tuple(trade for changes in taken for trade in changes.closed),
            closed_gone=tuple(key for changes in taken for key in changes.closed_gone),
        )

    def problems(self) -> tuple[Problem, ...]:
        """Return what could not be settled, as (key, text), by key.

        Links that contradict each other or lead nowhere, fills of unknown orders, transfers without a price.
        """
        return tuple(sorted({**dict(self.lineage.problems()), **self._problems}.items()))

    # What is new

    def _take_order(self, order: OrderFact, changes: defaultdict[str, _Change]) -> None:
        known = self.lineage.order(order.id)
        if known == order:
            return
        homes = {self.lineage.home(order.id)}
        touched = self.lineage.add(order)
        self._problems.pop(order.id, None)
        homes.add(self.lineage.home(order.id))
        for symbol in {order.symbol} if known is None else {order.symbol, known.symbol}:
            change = changes[symbol]
            change.orders |= touched
            change.lots |= {home for home in homes if home is not None}
            before = None if known is None else liveness.lifespan(known)
            change.doubt(liveness.earliest_difference(before, liveness.lifespan(order)))
            for fact in map(self.lineage.order, touched):
                change.doubt(None if fact is None else liveness.began(fact))

    def _take_event(self, event: Fill | ShareMove, changes: defaultdict[str, _Change]) -> None:
        key: StepKey = (type(event), event.id)
        known = self._events.get(key)
        if known == event:
            return
        self._note_problem(event)
        self._events[key] = event
        if known is not None and known.symbol != event.symbol:
            changes[known.symbol].put(None, known)
            known = None
        changes[event.symbol].put(event, known)

    def _note_problem(self, event: Fill | ShareMove) -> None:
        if type(event) is Fill:
            if event.order_id != event.id and self.lineage.order(event.order_id) is None:
                text = f"fills of order {event.order_id} in {event.symbol}, which is unknown: its lot has no legs yet"
                self._problems[event.order_id] = text
        elif type(event) is ShareMove:
            self._problems.pop(event.id, None)
            if event.kind is MoveKind.TRANSFER and event.price is None and event.qty:
                self._problems[event.id] = f"transfer {event.id} of {event.symbol} has no price: it counts as 0 a share"

    # What follows

    def _replay(self, symbol: str, change: _Change) -> None:
        book = self._symbols.get(symbol)
        if book is None:
            book = self._symbols[symbol] = SymbolBook(symbol, self.lineage)
            self._news[symbol] = News(book)
        news = self._news[symbol]
        self._attach(book, change)
        place = book.first_touched((*change.added.values(), *change.gone.values()))
        place = min([place, *map(book.used_first, change.orders)])
        if change.since is not None:
            place = min(place, book.asked_since(change.since))
            book.coverage.doubt(change.since)
        news.doubt_from(place)
        book.replay(place, list(change.added.values()), list(change.gone.values()))
        news.doubt_from(place)
        news.doubt_lots(book.engine.legs.lots_of(change.lots | change.orders))

    def _attach(self, book: SymbolBook, change: _Change) -> None:
        """Have the OCOs that changed put where they belong among the events."""
        for head in {self.lineage.latest(order_id) for order_id in change.orders} | change.orders:
            key: StepKey = (Attachment, head)
            known, found = self._events.get(key), attachment(self.lineage, head)
            if found is not None and found.symbol == book.symbol:
                self._events[key] = found
            elif known is not None and known.symbol == book.symbol:
                found = None
                del self._events[key]
            else:
                continue
            change.put(found, known)

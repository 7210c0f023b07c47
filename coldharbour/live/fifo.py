"""The broker's matching: strictly the oldest shares first, per symbol; knows neither lots nor legs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, localcontext
from typing import Final

from coldharbour.live.collector import no_collections
from coldharbour.live.decimals import EXACT, FINE, ZERO
from coldharbour.live.model import Fill, ShareMove
from coldharbour.live.moves import allot
from coldharbour.live.runs import runs
from coldharbour.live.tape import Tape


@dataclass(frozen=True, slots=True)
class OpenShares:
    """Shares of one entry that FIFO still holds. qty: negative when short. price: their cost per share."""

    symbol: str
    order_id: str
    at: datetime
    qty: Decimal
    price: Decimal


@dataclass(frozen=True, slots=True)
class FifoClosing:
    """What FIFO made of one exit order. qty: shares it closed, positive. profit: account currency."""

    qty: Decimal
    profit: Decimal


@dataclass(frozen=True, slots=True)
class FifoResult:
    """What FIFO holds, by symbol and the oldest first, and what each exit order (or share move) closed."""

    open: tuple[OpenShares, ...]
    closed: dict[str, FifoClosing]

    def quantity(self, symbol: str) -> Decimal:
        """Return the shares held of a symbol, negative when short."""
        with localcontext(EXACT):
            return sum((shares.qty for shares in self.open if shares.symbol == symbol), ZERO)


Entry = tuple[Decimal, Decimal, int]  # shares, price, the step at which they came
NOTHING: Final[Entry] = (ZERO, ZERO, -1)


class FifoEngine:
    """FIFO over one tape, as far as `done`; use it in the EXACT context.

    Entries stay in the queue when they are used up, so that steps can be taken back: `_head` is the first of which
    something is left, and `_left` how much; 0 when nothing is held. closed: by order or move, the shares that it
    closed and the profit of that.
    """

    def __init__(self, tape: Tape) -> None:
        self.tape, self.done, self.is_long = tape, 0, True
        self.closed: dict[str, list[Decimal]] = {}
        self._queue: list[Entry] = []
        self._head, self._left = 0, ZERO
        self._before_splits: list[tuple[list[Entry], int, Decimal]] = []

    def advance(self) -> None:
        """Match what the tape has beyond `done`."""
        tape = self.tape
        for place in (*tape.others_from(self.done), len(tape)):
            self._match(tape.fills(self.done, place), self.done)
            if place in tape.splits:
                self._split(place)
            elif place < len(tape) and (fill := tape.trade(place)):
                self._match([fill], place)
            self.done = min(place + 1, len(tape))

    def _match(self, fills: Sequence[Fill], start: int) -> None:
        """Match fills that follow each other, from a step on. Every fill of an account comes through here."""
        queue, closed, head, left, is_long = self._queue, self.closed, self._head, self._left, self.is_long
        cost = queue[head][1] if left else ZERO
        for place, fill in enumerate(fills, start):
            rest, price = fill.qty, fill.price
            if left and fill.is_buy != is_long:
                qty, gain = rest, ZERO
                while left and left <= rest:
                    gain += left * (price - cost)
                    rest -= left
                    head += 1
                    left, cost, _ = queue[head] if head < len(queue) else NOTHING
                if not left:
                    qty -= rest
                elif rest:
                    gain += rest * (price - cost)
                    left -= rest
                    rest = ZERO
                if fill.order_id in closed:
                    self._add(fill, qty, gain if is_long else -gain)
                else:
                    closed[fill.order_id] = [qty, gain if is_long else -gain]
            if rest:
                queue.append((rest, price, place))
                if not left:
                    is_long, left, cost = fill.is_buy, rest, price
        self._head, self._left, self.is_long = head, left, is_long

    def _add(self, fill: Fill, qty: Decimal, profit: Decimal) -> None:
        sums = self.closed[fill.order_id]
        sums[0] += qty
        sums[1] += profit
        if not sums[0]:
            del self.closed[fill.order_id]

    def _split(self, place: int) -> None:
        """Begin a new queue with the inventory at its new quantities; what each entry cost stays the same."""
        entries, (_, total) = self._open_entries(), self.tape.splits[place]
        self._before_splits.append((self._queue, self._head, self._left))
        parts = allot([qty for qty, _, _ in entries], abs(total))
        self._queue = [
            (part, FINE.divide(qty * price, part), entered)
            for (qty, price, entered), part in zip(entries, parts, strict=True)
        ]
        self._head, self._left = 0, parts[0]

    def rewind(self, place: int) -> None:
        """Take back the steps from a place on; the tape still has them."""
        for gone in range(self.done - 1, place - 1, -1):
            if gone in self.tape.splits:
                self._queue, self._head, self._left = self._before_splits.pop()
            elif fill := self.tape.trade(gone):
                self._take_back(gone, fill)
        self.done = min(self.done, place)

    def _take_back(self, place: int, fill: Fill) -> None:
        queue, entered = self._queue, ZERO
        if queue and queue[-1][2] == place:
            entered = queue.pop()[0]
            if self._head == len(queue):
                self._left = ZERO
        rest = closed = fill.qty - entered
        if not rest:
            return
        self.is_long, gain = not fill.is_buy, ZERO
        while rest:
            used = queue[self._head][0] - self._left if self._head < len(queue) else ZERO
            if not used:
                self._head, self._left = self._head - 1, ZERO
                continue
            part = min(rest, used)
            gain += part * (fill.price - queue[self._head][1])
            rest -= part
            self._left += part
        self._add(fill, -closed, -gain if self.is_long else gain)

    def _open_entries(self) -> list[Entry]:
        """Return what is left of each entry, the oldest first."""
        if not self._left:
            return []
        _, price, place = self._queue[self._head]
        return [(self._left, price, place), *self._queue[self._head + 1 :]]

    def inventory(self, symbol: str) -> list[OpenShares]:
        """Return what is held, the oldest first."""
        entries = ((qty, price, self.tape.trade(place)) for qty, price, place in self._open_entries())
        return [
            OpenShares(symbol, fill.order_id, fill.at, qty if self.is_long else -qty, price)
            for qty, price, fill in entries
            if fill is not None
        ]


def match_fifo(fills: Iterable[Fill], moves: Iterable[ShareMove] = ()) -> FifoResult:
    """Return what the broker's FIFO makes of these fills and share moves, in any order, duplicates included.

    Quantities are shares, negative when short; money is account currency. Both are exact, but for prices after splits
    that do not divide evenly. Processed by transaction time in whole microseconds, then by activity id; of events
    with one id the last one counts. A split multiplies quantities and divides prices; shares transferred in are an
    entry at their price, shares transferred out an exit. Source: domain.md 5.

    Buy 100 @10 (A), buy 100 @12 (B), sell 100 @13:

    >>> from datetime import UTC
    >>> def fill(minute, order_id, is_buy, price):
    ...     at = datetime(2026, 10, 8, 14, minute, tzinfo=UTC)
    ...     return Fill(f"f{minute}", at, order_id, "KO", is_buy, Decimal(100), Decimal(price))
    >>> result = match_fifo([fill(0, "A", True, 10), fill(1, "B", True, 12), fill(2, "S", False, 13)])
    >>> result.closed["S"].profit, [(shares.order_id, shares.qty, shares.price) for shares in result.open]
    (Decimal('300'), [('B', Decimal('100'), Decimal('12'))])
    """
    engines: dict[str, FifoEngine] = {}
    with localcontext(EXACT), no_collections():
        for symbol, run, others in runs(fills, moves):
            engine = engines.get(symbol)
            if engine is None:
                engine = engines[symbol] = FifoEngine(Tape())
            engine.tape.extend(run, others)
            engine.advance()
        open_shares = [shares for symbol in sorted(engines) for shares in engines[symbol].inventory(symbol)]
        closed = {key: FifoClosing(*sums) for symbol in sorted(engines) for key, sums in engines[symbol].closed.items()}
    return FifoResult(tuple(open_shares), closed)

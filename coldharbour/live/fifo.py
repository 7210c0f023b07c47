"""The broker's matching: strictly the oldest shares first, per symbol; knows neither lots nor legs.

One side is open at a time, so the j-th share bought is always paired with the j-th share sold: the inventory is what
one of two cumulative axes, shares bought and shares sold, is ahead of the other.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction

from coldharbour.live.decimals import Exact, decimal
from coldharbour.live.model import Fill, ShareMove
from coldharbour.live.moves import UNIT_DIGITS, allot
from coldharbour.live.tape import Tape, events_by_symbol, tape_of


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
    """What FIFO holds, oldest first in each symbol, and what each exit order (or share move) closed."""

    open: tuple[OpenShares, ...]
    closed: dict[str, FifoClosing]

    def quantity(self, symbol: str) -> Decimal:
        """Return the shares held of a symbol, negative when short."""
        return sum((shares.qty for shares in self.open if shares.symbol == symbol), Decimal(0))


class _Axis:
    """Shares that went one way, each entry or exit from where the one before ended. places: their steps."""

    __slots__ = ("ends", "places", "prices")

    def __init__(self) -> None:
        self.ends: list[int] = [0]
        self.prices: list[Exact] = [0]
        self.places: list[int] = [-1]

    def add(self, qty: int, price: Exact, place: int) -> None:
        self.ends.append(self.ends[-1] + qty)
        self.prices.append(price)
        self.places.append(place)

    def drop(self) -> None:
        del self.ends[-1], self.prices[-1], self.places[-1]

    def value(self, start: int, stop: int) -> Exact:
        """Return the money that the shares from one number to another exchanged."""
        place = bisect_right(self.ends, start)
        total: Exact = 0
        while start < stop:
            end = min(self.ends[place], stop)
            total += (end - start) * self.prices[place]
            start, place = end, place + 1
        return total

    def pieces_from(self, start: int) -> list[tuple[int, Exact, int]]:
        """Return what lies beyond a share's number, as (shares, price, step)."""
        first = bisect_right(self.ends, start)
        return [
            (self.ends[place] - max(self.ends[place - 1], start), self.prices[place], self.places[place])
            for place in range(first, len(self.ends))
        ]


class FifoEngine:
    """FIFO over one tape, as far as `done`. closed: by order or move, the shares it closed and the profit, in units."""

    def __init__(self, tape: Tape) -> None:
        self.tape, self.done = tape, 0
        self.closed: dict[str, list[Exact]] = {}
        self._bought, self._sold = _Axis(), _Axis()
        self._before_splits: list[tuple[int, _Axis, _Axis]] = []

    def advance(self) -> None:
        """Match what the tape has beyond `done`."""
        tape = self.tape
        for place in range(self.done, len(tape)):
            if place in tape.splits:
                self._split(place)
            elif tape.signed[place]:
                self._match(place)
        self.done = len(tape)

    def rewind(self, place: int) -> None:
        """Forget the steps from a place on; the tape still has them."""
        for gone in range(self.done - 1, place - 1, -1):
            if gone in self.tape.splits:
                _, self._bought, self._sold = self._before_splits.pop()
            elif self.tape.signed[gone]:
                self._unmatch(gone)
        self.done = min(self.done, place)

    @property
    def held(self) -> int:
        """Shares in the inventory, negative when short."""
        return self._bought.ends[-1] - self._sold.ends[-1]

    def open_pieces(self) -> list[tuple[int, Exact, int]]:
        """Return the inventory, oldest first, as (signed shares, price, step)."""
        bought, sold = self._bought, self._sold
        if self.held >= 0:
            return bought.pieces_from(sold.ends[-1])
        return [(-qty, price, place) for qty, price, place in sold.pieces_from(bought.ends[-1])]

    def _match(self, place: int) -> None:
        qty, price = self.tape.signed[place], self.tape.prices[place]
        own, other = (self._bought, self._sold) if qty > 0 else (self._sold, self._bought)
        start = own.ends[-1]
        own.add(abs(qty), price, place)
        stop = min(own.ends[-1], other.ends[-1])
        if start < stop:
            self._record(place, 1, other, start, stop)

    def _unmatch(self, place: int) -> None:
        qty = self.tape.signed[place]
        own, other = (self._bought, self._sold) if qty > 0 else (self._sold, self._bought)
        stop = min(own.ends[-1], other.ends[-1])
        own.drop()
        start = own.ends[-1]
        if start < stop:
            self._record(place, -1, other, start, stop)

    def _record(self, place: int, times: int, other: _Axis, start: int, stop: int) -> None:
        """Count the profit of shares closed by a step, or discount it with times = -1."""
        gain = (stop - start) * self.tape.prices[place] - other.value(start, stop)
        sums = self.closed.setdefault(self.tape.keys[place], [0, 0])
        sums[0] += times * (stop - start)
        sums[1] += times * (gain if self.tape.signed[place] < 0 else -gain)
        if not sums[0]:
            del self.closed[self.tape.keys[place]]

    def _split(self, place: int) -> None:
        """Begin new axes with the inventory at its new quantities; what each entry cost stays the same."""
        pieces, (_, total) = self.open_pieces(), self.tape.splits[place]
        unit = 10 ** (self.tape.qty_digits - UNIT_DIGITS)
        parts = allot([qty for qty, _, _ in pieces], total, unit)
        self._before_splits.append((place, self._bought, self._sold))
        self._bought, self._sold = _Axis(), _Axis()
        axis = self._bought if total > 0 else self._sold
        for (qty, price, entered), part in zip(pieces, parts, strict=True):
            axis.add(abs(part), price * Fraction(qty, part), entered)


def match_fifo(fills: Iterable[Fill], moves: Iterable[ShareMove] = ()) -> FifoResult:
    """Return what the broker's FIFO makes of these fills and share moves, in any order, duplicates included.

    Quantities are shares, negative when short; money is account currency, exact but for prices after splits that do
    not divide evenly (28 digits). Processed by transaction time in whole microseconds, then by activity id. A split
    multiplies quantities and divides prices; shares transferred in are an entry at their price, shares transferred
    out an exit. Raises nothing for any combination of them. Source: domain.md 5.

    Buy 100 @10 (A), buy 100 @12 (B), sell 100 @13:

    >>> from datetime import UTC, datetime
    >>> def fill(minute, order_id, is_buy, price):
    ...     at = datetime(2026, 10, 8, 14, minute, tzinfo=UTC)
    ...     return Fill(f"f{minute}", at, order_id, "KO", is_buy, Decimal(100), Decimal(price))
    >>> result = match_fifo([fill(0, "A", True, 10), fill(1, "B", True, 12), fill(2, "S", False, 13)])
    >>> result.closed["S"].profit, [(shares.order_id, shares.qty, shares.price) for shares in result.open]
    (Decimal('300.00'), [('B', Decimal('100'), Decimal('12.00'))])
    """
    open_shares: list[OpenShares] = []
    closed: dict[str, FifoClosing] = {}
    for symbol, events in sorted(events_by_symbol(fills, moves).items()):
        engine = FifoEngine(tape_of(events))
        engine.advance()
        open_shares += _inventory(symbol, engine)
        closed |= _closings(engine)
    return FifoResult(tuple(open_shares), closed)


def _inventory(symbol: str, engine: FifoEngine) -> list[OpenShares]:
    """Return the inventory of one symbol's engine, oldest first."""
    tape = engine.tape
    return [
        OpenShares(
            symbol,
            tape.keys[place],
            tape.steps[place].at,
            decimal(qty, tape.qty_digits),
            decimal(price, tape.price_digits),
        )
        for qty, price, place in engine.open_pieces()
    ]


def _closings(engine: FifoEngine) -> dict[str, FifoClosing]:
    """Return what each exit order of one symbol closed."""
    tape = engine.tape
    return {
        key: FifoClosing(decimal(qty, tape.qty_digits), decimal(profit, tape.qty_digits + tape.price_digits))
        for key, (qty, profit) in engine.closed.items()
    }

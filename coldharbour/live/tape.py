"""One symbol's events in time order, their quantities and prices as whole units; matches nothing."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

from coldharbour.live.decimals import digits_of, units
from coldharbour.live.model import ZERO, Fill, MoveKind, ShareMove
from coldharbour.live.moves import UNIT_DIGITS, is_proportional


@dataclass(frozen=True, slots=True)
class Attachment:
    """An OCO that begins, of which the matching asks to which lot it belongs. id: of its head."""

    id: str
    at: datetime
    symbol: str
    is_buy: bool
    qty: Decimal | None


Step = Fill | ShareMove | Attachment
Key = tuple[datetime, bool, str]

QTY_DIGITS: Final = (0, UNIT_DIGITS)  # the scales that are tried before the exact one
PRICE_DIGITS: Final = (2, 4, UNIT_DIGITS)


def key_of(step: Step) -> Key:
    """Return the place of an event in time: whole microseconds, then id; an OCO sees all that was filled by then."""
    return step.at, type(step) is Attachment, step.id


class Tape:
    """The events of one symbol as columns.

    signed, prices: of each step, in units of 10**-qty_digits shares and 10**-price_digits per share; 0 where the
    step moves nothing by itself. keys: what each step's shares are called: the order, or the move. splits: by step,
    the shares before and after. others: the steps that are no fills.
    """

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.keys: list[str] = []
        self.signed: list[int] = []
        self.prices: list[int] = []
        self.qty_digits, self.price_digits = QTY_DIGITS[0], PRICE_DIGITS[0]
        self.others: list[int] = []
        self.splits: dict[int, tuple[int, int]] = {}
        self.position = 0

    def __len__(self) -> int:
        return len(self.steps)

    def find(self, step: Step) -> int:
        """Return the place of an event, or where it belongs. A move begins with all that happened at its moment.

        Moves of one moment are one event, whose parts the broker may state one by one.
        """
        if type(step) is ShareMove:
            return bisect_left(self.steps, step.at, key=_moment)
        place = bisect_left(self.steps, key_of(step), key=key_of)
        return place if place == len(self.steps) else self._leader(place)

    def fits(self, steps: Iterable[Step]) -> bool:
        """Return whether these events can be told in the units of this tape; else `rescale` first."""
        quantities, prices, has_split = _amounts(steps)
        return (
            units(quantities, self.qty_digits) is not None
            and units(prices, self.price_digits) is not None
            and not (has_split and self.qty_digits < UNIT_DIGITS)
        )

    def rescale(self, steps: Sequence[Step]) -> None:
        """Choose the smallest units in which these and all present events can be told. Empties the tape."""
        quantities, prices, has_split = _amounts([*self.steps, *steps])
        floor = UNIT_DIGITS if has_split else 0
        self.qty_digits = _choose(quantities, [digits for digits in QTY_DIGITS if digits >= floor])
        self.price_digits = _choose(prices, PRICE_DIGITS)
        self.cut(0)

    def cut(self, place: int) -> list[Step]:
        """Take off all events from a place on, and return them."""
        tail = self.steps[place:]
        self.position -= sum(self.signed[place:])
        while self.others and self.others[-1] >= place:
            before, after = self.splits.pop(self.others.pop(), (0, 0))
            self.position -= after - before
        for column in (self.steps, self.keys, self.signed, self.prices):
            del column[place:]
        return tail

    def extend(self, steps: Sequence[Step]) -> None:
        """Put events at the end; they are in order, belong there, and fit."""
        start = len(self.steps)
        self.steps += steps
        quantities, prices, _ = _amounts(steps)
        signed, amounts = units(quantities, self.qty_digits), units(prices, self.price_digits)
        if signed is None or amounts is None:
            raise ValueError("these quantities or prices need finer units: rescale first")
        self.prices += amounts
        self.keys += [step.order_id if type(step) is Fill else step.id for step in steps]
        self.signed += signed
        for place, step in enumerate(steps, start):
            if type(step) is Fill:
                self.position += self.signed[place]
            else:
                self.others.append(place)
                self._settle(place, step)

    def _settle(self, place: int, step: Step) -> None:
        if type(step) is not ShareMove or step.kind is not MoveKind.SPLIT:
            self.position += self.signed[place]
            return
        change, self.signed[place] = self.signed[place], 0
        leader = self._leader(place)
        if leader != place:  # one event in parts: all of it happens where it begins
            before, after = self.splits.pop(leader, (0, 0))
            change += after - before + self.signed[leader]
            self.position -= after - before + self.signed[leader]
            self.signed[leader] = 0
        if is_proportional(self.position, change):
            self.splits[leader] = (self.position, self.position + change)
        else:
            self.signed[leader] = change
        self.position += change

    def _leader(self, place: int) -> int:
        first = self.steps[place]
        if type(first) is not ShareMove or first.kind is not MoveKind.SPLIT:
            return place
        while place and type(other := self.steps[place - 1]) is ShareMove:
            if other.at != first.at or other.kind is not MoveKind.SPLIT:
                break
            place -= 1
        return place


def events_by_symbol(fills: Iterable[Fill], moves: Iterable[ShareMove] = ()) -> dict[str, list[Step]]:
    """Return the events of each symbol. Of events with one id the last counts, as it does when one is stated anew."""
    steps: defaultdict[str, list[Step]] = defaultdict(list)
    known: dict[tuple[type, str], Fill | ShareMove] = {}
    known |= {(Fill, fill.id): fill for fill in fills}
    known |= {(ShareMove, move.id): move for move in moves}
    for step in known.values():
        steps[step.symbol].append(step)
    return steps


def tape_of(steps: Iterable[Step]) -> Tape:
    """Return the tape of one symbol's events, whatever their order."""
    tape, ordered = Tape(), sorted(steps, key=key_of)
    if not tape.fits(ordered):
        tape.rescale(ordered)
    tape.extend(ordered)
    return tape


def _moment(step: Step) -> datetime:
    return step.at


def _amounts(steps: Iterable[Step]) -> tuple[list[Decimal], list[Decimal], bool]:
    quantities, prices, has_split = [], [], False
    for step in steps:
        if type(step) is Fill:
            quantities.append(step.qty if step.is_buy else -step.qty)
            prices.append(step.price)
        elif type(step) is ShareMove:
            has_split = has_split or step.kind is MoveKind.SPLIT
            quantities.append(step.qty)
            prices.append(ZERO if step.kind is MoveKind.SPLIT or step.price is None else step.price)
        else:
            quantities.append(ZERO)
            prices.append(ZERO)
    return quantities, prices, has_split


def _choose(values: Sequence[Decimal], tried: Iterable[int]) -> int:
    found = next((digits for digits in tried if units(values, digits) is not None), None)
    return digits_of(values) if found is None else found

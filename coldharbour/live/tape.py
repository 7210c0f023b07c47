"""One symbol's events in time order, and what those that are no fills change; matches nothing."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import islice
from operator import attrgetter, lt
from typing import cast

from coldharbour.live.decimals import ZERO
from coldharbour.live.model import Fill, MoveKind, ShareMove
from coldharbour.live.moves import is_proportional


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

at_of = attrgetter("at")


def key_of(step: Step) -> Key:
    """Return the place of an event in time: whole microseconds, then id; an OCO sees all that was filled by then."""
    return step.at, type(step) is Attachment, step.id


def in_order(steps: Iterable[Step]) -> list[Step]:
    """Return events in the order in which they are processed."""
    steps = list(steps)
    moments = list(map(at_of, steps))
    if all(map(lt, moments, islice(moments, 1, None))):
        return steps
    return sorted(steps, key=key_of)


class Tape:
    """The events of one symbol.

    others: the steps that are no fills. splits: by step, the signed shares held before and after. changes: by step,
    signed shares that come or go at zero cost. Corporate actions of one moment are one event, told in parts: all of
    it happens at the first of them.
    """

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.others: list[int] = []
        self.splits: dict[int, tuple[Decimal, Decimal]] = {}
        self.changes: dict[int, Decimal] = {}
        self._counted, self._held = 0, ZERO  # the shares held before a step

    def __len__(self) -> int:
        return len(self.steps)

    def find(self, step: Step) -> int:
        """Return the first place whose outcome may change when an event is put in or taken out."""
        if type(step) is ShareMove:
            return bisect_left(self.steps, step.at, key=at_of)
        place = bisect_left(self.steps, key_of(step), key=key_of)
        return place if place == len(self.steps) else self._leader(place)

    def cut(self, place: int) -> list[Step]:
        """Take off all events from a place on, and return them."""
        tail = self.steps[place:]
        del self.steps[place:]
        while self.others and self.others[-1] >= place:
            other = self.others.pop()
            self.splits.pop(other, None)
            self.changes.pop(other, None)
        if self._counted > place:
            self._counted, self._held = 0, ZERO
        return tail

    def extend(self, steps: Sequence[Step], others: Iterable[int] = ()) -> None:
        """Put events at the end, where they belong. others: which of them are no fills."""
        start = len(self.steps)
        self.steps += steps
        for offset in others:
            self.others.append(start + offset)
            step = steps[offset]
            if type(step) is ShareMove and step.kind is MoveKind.SPLIT:
                self._settle(start + offset, step.qty)

    def others_from(self, place: int) -> list[int]:
        """Return the steps from a place on that are no fills."""
        return self.others[bisect_left(self.others, place) :]

    def fills(self, start: int, stop: int) -> list[Fill]:
        """Return the events from one place to another, all of which are fills."""
        return cast("list[Fill]", self.steps[start:stop])

    def trade(self, place: int) -> Fill | None:
        """Return the fill that a step is, or that shares which come or go at it amount to, under the move's own id.

        None for a split, for an OCO that begins, and for no shares at all.
        """
        step = self.steps[place]
        if type(step) is Fill:
            return step if step.qty else None
        if type(step) is not ShareMove:
            return None
        is_split = step.kind is MoveKind.SPLIT
        qty = self.changes.get(place, ZERO) if is_split else step.qty
        price = ZERO if is_split or step.price is None else step.price
        return Fill(step.id, step.at, step.id, step.symbol, qty > 0, abs(qty), price) if qty else None

    def _settle(self, place: int, change: Decimal) -> None:
        leader = self._leader(place)
        held = self._held_before(leader)
        if leader in self.splits:
            change += self.splits.pop(leader)[1] - held
        change += self.changes.pop(leader, ZERO)
        if is_proportional(held, change):
            self.splits[leader] = (held, held + change)
        else:
            self.changes[leader] = change

    def _leader(self, place: int) -> int:
        """Return where the corporate action begins of which a step is a part; the step's own place if it is none."""
        part = self.steps[place]
        while place and _are_one(part, self.steps[place - 1]):
            place -= 1
        return place

    def _held_before(self, place: int) -> Decimal:
        if self._counted > place:
            self._counted, self._held = 0, ZERO
        for counted in range(self._counted, place):
            if counted in self.splits:
                self._held = self.splits[counted][1]
            elif trade := self.trade(counted):
                self._held += trade.signed_qty
        self._counted = place
        return self._held


def _are_one(part: Step, other: Step) -> bool:
    return type(part) is type(other) is ShareMove and part.kind is other.kind is MoveKind.SPLIT and part.at == other.at

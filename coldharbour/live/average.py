"""The average cost of a symbol's whole position, as brokers show it: adding moves it, reducing does not.

Source: domain.md 4. It is rounded half-even to 18 decimals at every step.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from coldharbour.live.decimals import FINE, ZERO
from coldharbour.live.model import Fill
from coldharbour.live.tape import Tape

STEP: Final = Decimal("1E-18")
EVERY: Final = 64  # steps between the states that are kept to come back to


class AverageCost:
    """The average-cost recursion over one tape, as far as `done`; use it in the EXACT context."""

    def __init__(self, tape: Tape) -> None:
        self.tape, self.done = tape, 0
        self._held, self._average = ZERO, ZERO
        self._kept: list[tuple[Decimal, Decimal]] = [(ZERO, ZERO)]  # held and average before step 0, 64, 128, ...

    @property
    def price(self) -> Decimal:
        """Cost per share of the position after all steps of the tape; 0 when flat."""
        for place in range(self.done, len(self.tape)):
            if place == len(self._kept) * EVERY:
                self._kept.append((self._held, self._average))
            self._step(place)
        self.done = len(self.tape)
        return self._average if self._held else ZERO

    def rewind(self, place: int) -> None:
        """Forget the steps from a place on."""
        if place < self.done:
            del self._kept[place // EVERY + 1 :]
            self._held, self._average = self._kept[-1]
            self.done = (len(self._kept) - 1) * EVERY

    def _step(self, place: int) -> None:
        if place in self.tape.splits:
            before, after = self.tape.splits[place]
            self._held, self._average = after, _divide(self._average * before, after)
        elif trade := self.tape.trade(place):
            self._trade(trade)

    def _trade(self, trade: Fill) -> None:
        qty = trade.signed_qty
        held = self._held + qty
        if not self._held or (held * qty > 0 and self._held * qty < 0):
            self._average = trade.price
        elif self._held * qty > 0:
            self._average = _divide(self._average * self._held + trade.price * qty, held)
        self._held = held


def _divide(dividend: Decimal, divisor: Decimal) -> Decimal:
    return FINE.divide(dividend, divisor).quantize(STEP, context=FINE)

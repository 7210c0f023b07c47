"""The average cost of a symbol's whole position, as brokers show it: adding moves it, reducing does not.

Source: domain.md 4. It is rounded half-even to 18 decimals at every step, so that it does not depend on the units.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from coldharbour.live.decimals import decimal
from coldharbour.live.tape import Tape

DIGITS: Final = 18
EVERY: Final = 64  # steps between the states that are kept to come back to


class AverageCost:
    """The average-cost recursion over one tape, as far as `done`."""

    def __init__(self, tape: Tape) -> None:
        self.tape, self.done = tape, 0
        self._held, self._average = 0, 0
        self._kept: list[tuple[int, int]] = [(0, 0)]  # held and average before step 0, 64, 128, ...

    @property
    def price(self) -> Decimal:
        """Cost per share of the position after all steps of the tape; 0 when flat."""
        self._advance()
        return decimal(self._average if self._held else 0, DIGITS)

    def rewind(self, place: int) -> None:
        """Forget the steps from a place on."""
        if place >= self.done:
            return
        del self._kept[place // EVERY + 1 :]
        self._held, self._average = self._kept[-1]
        self.done = (len(self._kept) - 1) * EVERY

    def _advance(self) -> None:
        tape, held, average = self.tape, self._held, self._average
        finer = 10 ** max(DIGITS - tape.price_digits, 0)
        coarser = 10 ** max(tape.price_digits - DIGITS, 0)
        for place in range(self.done, len(tape)):
            if place == len(self._kept) * EVERY:
                self._kept.append((held, average))
            qty = tape.signed[place]
            price = tape.prices[place] * finer // coarser
            if place in tape.splits:
                before, after = tape.splits[place]
                held, average = after, _halves_even(average * before, after)
            elif qty * held >= 0:
                held += qty
                average = _halves_even(average * (held - qty) + price * qty, held) if held else average
            else:
                held += qty
                if held * qty > 0:
                    average = price
        self.done, self._held, self._average = len(tape), held, average


def _halves_even(dividend: int, divisor: int) -> int:
    if divisor < 0:
        dividend, divisor = -dividend, -divisor
    whole, rest = divmod(dividend, divisor)
    return whole + (2 * rest > divisor or (2 * rest == divisor and whole % 2))

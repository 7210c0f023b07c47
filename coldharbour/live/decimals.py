"""Decimals as whole numbers of a smallest unit and back, exactly; a quotient that does not end has 28 digits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from fractions import Fraction
from typing import Final

Exact = int | Fraction

EXACT: Final = Context(prec=400)
ROUNDED: Final = Context(prec=28, rounding=ROUND_HALF_EVEN)


def units(values: Sequence[Decimal], digits: int) -> list[int] | None:
    """Return the values as whole units of 10**-digits; None if any of them has more decimals.

    Cutting makes each value smaller or equal in size, so where no sum changes, nothing was cut.
    """
    with localcontext(EXACT):
        scale = Decimal(10**digits)
        scaled = [value * scale for value in values] if digits else values
        found = list(map(int, scaled))
        return found if sum(map(abs, scaled)) == sum(map(abs, found)) else None


def digits_of(values: Iterable[Decimal]) -> int:
    """Return how many decimals the values need at most.

    >>> digits_of([Decimal("1.50"), Decimal("100"), Decimal("0.125"), Decimal("2E+3")])
    3
    """
    return max((_digits(value) for value in values), default=0)


def _digits(value: Decimal) -> int:
    exponent = value.normalize(EXACT).as_tuple().exponent
    return max(-exponent, 0) if isinstance(exponent, int) else 0


def decimal(count: Exact, digits: int) -> Decimal:
    """Return a number of units of 10**-digits as a decimal: exact for whole units, else rounded to 28 digits."""
    if isinstance(count, int):
        return Decimal(count).scaleb(-digits, EXACT)
    return quotient(count.numerator, count.denominator, digits)


def quotient(dividend: Exact, divisor: Exact, digits: int) -> Decimal:
    """Return dividend/divisor in units of 10**-digits, exact where it ends within 28 digits, else half-even."""
    if isinstance(dividend, Fraction) or isinstance(divisor, Fraction):
        ratio = Fraction(dividend) / Fraction(divisor)
        dividend, divisor = ratio.numerator, ratio.denominator
    return ROUNDED.divide(Decimal(dividend), Decimal(divisor)).scaleb(-digits, EXACT)

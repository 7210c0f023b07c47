"""Decimals as the broker writes them; owns notation, ticks and rounding, never a price's meaning."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal

CENT = Decimal("0.01")
FINE_TICK = Decimal("0.0001")
ZERO = Decimal(0)
ONE = Decimal(1)
MICRO = Decimal("0.000001")
NANO = Decimal("0.000000001")


def plain(number: Decimal) -> str:
    """Return a decimal without exponent and without trailing zeros.

    >>> plain(Decimal("86.8800")), plain(Decimal("1E+2"))
    ('86.88', '100')
    """
    text = format(number, "f")
    if "." not in text:
        return text
    text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def optional(number: Decimal | None) -> str | None:
    """Return `plain`, or None for None."""
    return None if number is None else plain(number)


def tick_of(price: Decimal) -> Decimal:
    """Return the smallest step at this price: a cent from $1 on, a hundredth of one below."""
    return CENT if price >= ONE else FINE_TICK


def on_tick(price: Decimal) -> Decimal:
    """Return a price rounded half-even to its tick."""
    return price.quantize(tick_of(price), ROUND_HALF_EVEN)


def cents(amount: Decimal) -> Decimal:
    """Return an amount of money rounded half-even to whole cents."""
    return amount.quantize(CENT, ROUND_HALF_EVEN)

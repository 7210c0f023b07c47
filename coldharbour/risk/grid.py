"""The price grid: which prices an order may have; knows no order, no lot and no market."""

from __future__ import annotations

from decimal import Decimal
from typing import Final, TypeGuard

ONE: Final = Decimal(1)
CENT: Final = Decimal("0.01")
FINE_TICK: Final = Decimal("0.0001")
MOST: Final = Decimal(10**9)  # no share costs that, and below it arithmetic on prices stays exact


def is_price(value: Decimal | None) -> TypeGuard[Decimal]:
    """Say whether a value can be a price at all: known, finite, positive, and below a thousand million."""
    return value is not None and value.is_finite() and 0 < value < MOST


def tick_at(price: Decimal) -> Decimal:
    """Return the step of the grid at this price: a cent from 1 on, a hundredth of one below.

    Which side of 1 counts is each price itself, never the market's. Source: domain.md 9, Alpaca's tick rule.

    >>> tick_at(Decimal("1.00")), tick_at(Decimal("0.9999"))
    (Decimal('0.01'), Decimal('0.0001'))
    """
    return CENT if price >= ONE else FINE_TICK


def is_on_grid(price: Decimal | None) -> bool:
    """Say whether the broker takes this as a stop or limit price.

    >>> [is_on_grid(Decimal(text)) for text in ("13.57", "13.575", "0.3575", "NaN")]
    [True, False, True, False]
    """
    return is_price(price) and price.quantize(tick_at(price)) == price


def plain(price: Decimal) -> str:
    """Return a price as the broker reads it: no exponent, no trailing zeros, one text for equal prices.

    >>> plain(Decimal("13.570")), plain(Decimal("1E+2")), plain(Decimal("0.0001"))
    ('13.57', '100', '0.0001')
    """
    text = format(price, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text

"""The arithmetic of matching: sums and products of decimals without any rounding, quotients with 28 digits."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Final

# No sum or product of what brokers state comes near its precision, so it never rounds. Enter it with `localcontext`.
EXACT: Final = Context(prec=120, rounding=ROUND_HALF_EVEN)
# What splits leave of shares and prices: far finer than any money, and coarse enough for EXACT to add it up.
FINE: Final = Context(prec=50, rounding=ROUND_HALF_EVEN)
ROUNDED: Final = Context(prec=28, rounding=ROUND_HALF_EVEN)

ZERO: Final = Decimal(0)
ONE: Final = Decimal(1)

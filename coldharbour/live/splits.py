"""Splits that came while shares were held, and prices across them; finds none, and changes no inventory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from coldharbour.live.decimals import EXACT, ROUNDED


@dataclass(frozen=True, slots=True)
class Split:
    """A split of what was held. at: UTC, the moment from which on prices are those of the shares after it.

    before, after: the symbol's shares, both negative when short.
    """

    at: datetime
    before: Decimal
    after: Decimal


def restated(price: Decimal, at: datetime, splits: Iterable[Split]) -> Decimal:
    """Return a price of a moment per share as shares are after all these splits; those up to the moment change nothing.

    Rounded half to even to 28 digits at each split. Source: domain.md 5.

    >>> from datetime import UTC
    >>> four_for_one = Split(datetime(2026, 10, 8, 4, 0, tzinfo=UTC), Decimal(100), Decimal(400))
    >>> restated(Decimal(104), datetime(2026, 10, 7, 15, 0, tzinfo=UTC), [four_for_one])
    Decimal('26')
    >>> restated(Decimal(26), datetime(2026, 10, 8, 15, 0, tzinfo=UTC), [four_for_one])
    Decimal('26')
    """
    for split in splits:
        if at < split.at:
            price = ROUNDED.divide(EXACT.multiply(price, split.before), split.after)
    return price

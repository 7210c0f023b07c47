"""The nouns of valuation as values: a lot as it stands in the table, its extremes, and what is written of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from coldharbour.live.model import Lot


@dataclass(frozen=True, slots=True)
class Extremes:
    """The bounds of a lot's prices since entry, per share, without a hole up to `through` (UTC); None if unknown."""

    high: Decimal | None = None
    low: Decimal | None = None
    through: datetime | None = None

    def stretched(self, high: Decimal | None, low: Decimal | None) -> Extremes:
        """Return the bounds with these prices in them; they never shrink."""
        highest = high if self.high is None or (high is not None and high > self.high) else self.high
        lowest = low if self.low is None or (low is not None and low < self.low) else self.low
        if highest is self.high and lowest is self.low:
            return self
        return replace(self, high=highest, low=lowest)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldLot(Lot):
    """An open lot as the table has it: its structure, and which version of it this is."""

    version: int
    moved_flag: str = "—"


@dataclass(frozen=True, slots=True)
class StoredLot:
    """A lot, and what was last written of the market: a price and when its trade was made, and the extremes."""

    lot: HeldLot
    mkt_px: Decimal | None = None
    mkt_at: datetime | None = None
    extremes: Extremes = Extremes()


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What is written of one lot: its valuation at a price, for the structure of one version. Column names."""

    parent_id: str
    version: int
    mkt_px: Decimal
    mkt_at: datetime
    mkt_value: Decimal
    profit_loss: Decimal
    profit_loss_lot: Decimal
    tp_sl_reach_pct: Decimal | None
    r_multiple: Decimal | None
    high_px: Decimal | None
    low_px: Decimal | None
    extremes_through: datetime | None

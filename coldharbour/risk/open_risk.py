"""What the open lots would lose if every stop were hit, in money and in R; pure, reads no table and no price."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from coldharbour.live.model import ZERO, Side

R_DIGITS = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class RiskedLot:
    """One open lot as its risk sees it. qty: signed shares. stop: of the live stop leg, None without one."""

    side: Side
    qty: Decimal
    entry: Decimal
    initial_stop: Decimal | None
    stop: Decimal | None


@dataclass(frozen=True, slots=True)
class OpenRisk:
    """The risk of all open lots together.

    r: in R, each lot in its own. cash: in account currency. lots: how many are open. without_stop: of how many the
    risk has no bound, and which are therefore in neither sum.
    """

    r: Decimal
    cash: Decimal
    lots: int
    without_stop: int


def open_risk(lots: Iterable[RiskedLot]) -> OpenRisk:
    """Return what would be lost, measured from entry, if every live stop were filled at its price.

    A lot loses |qty| * (entry - stop) if its stop stands on the losing side of entry, and nothing once it stands at
    entry or beyond. In R that is divided by |qty| * R, R = |entry - initial stop|; a lot without R (no initial stop, or
    one at the entry) counts in money alone. r is rounded half to even to 0.01. Source: domain.md 9 (R).

    >>> open_risk([RiskedLot(Side.LONG, Decimal(10), Decimal(50), Decimal(48), Decimal(49))])
    OpenRisk(r=Decimal('0.50'), cash=Decimal('10'), lots=1, without_stop=0)
    """
    r = cash = ZERO
    count = without_stop = 0
    for lot in lots:
        count += 1
        if lot.stop is None:
            without_stop += 1
            continue
        distance = max(lot.side.sign * (lot.entry - lot.stop), ZERO)
        cash += abs(lot.qty) * distance
        if lot.initial_stop is not None and lot.initial_stop != lot.entry:
            r += distance / abs(lot.entry - lot.initial_stop)
    return OpenRisk(r.quantize(R_DIGITS), cash, count, without_stop)

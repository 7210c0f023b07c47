"""What an open lot is worth at a price, and how far prices went for and against it; reads no price itself.

Money is not rounded: a product of a quantity and a price has all its digits. Ratios are rounded half to even.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from coldharbour.live.model import ZERO, Lot, Side

DAY = timedelta(days=1)
PERCENT_DIGITS = Decimal("0.0001")
R_DIGITS = Decimal("0.000001")


@dataclass(frozen=True, slots=True)
class Valuation:
    """A lot at one price; see the functions of the same names. Amounts are in account currency."""

    mkt_px: Decimal
    mkt_value: Decimal
    profit_loss: Decimal
    profit_loss_lot: Decimal
    tp_sl_reach_pct: Decimal | None
    r_multiple: Decimal | None


@dataclass(frozen=True, slots=True)
class Excursions:
    """How far the price went since entry, per share and in R; the R are None without a risk to measure by.

    mfe: the furthest it went in the lot's favour, 0 or more. mae: the furthest against it, 0 or less.
    """

    mfe: Decimal
    mae: Decimal
    mfe_r: Decimal | None
    mae_r: Decimal | None


def value(lot: Lot, price: Decimal) -> Valuation:
    """Return everything that a price makes of a lot. price: currency per share, positive. Source: domain.md 4."""
    return Valuation(
        mkt_px=price,
        mkt_value=mkt_value(lot.qty, price),
        profit_loss=profit_loss(lot.qty, price, lot.avg_px_symbol),
        profit_loss_lot=profit_loss(lot.qty, price, lot.avg_fill),
        tp_sl_reach_pct=tp_sl_reach_pct(lot.side, lot.avg_fill, price, take=lot.take_price, stop=lot.stop_price),
        r_multiple=r_multiple(lot.side, lot.avg_fill, lot.initial_stop, price),
    )


def buy_value(qty: Decimal, avg_fill: Decimal) -> Decimal:
    """Return what the lot was bought for: qty*avg_fill, negative for a short lot. Source: domain.md 4.

    >>> buy_value(Decimal(-10), Decimal("50.00"))
    Decimal('-500.00')
    """
    return qty * avg_fill


def mkt_value(qty: Decimal, price: Decimal) -> Decimal:
    """Return what the lot is worth: qty*price, negative for a short lot. Source: domain.md 4.

    >>> mkt_value(Decimal(-10), Decimal("48.25"))
    Decimal('-482.50')
    """
    return qty * price


def profit_loss(qty: Decimal, price: Decimal, cost: Decimal) -> Decimal:
    """Return qty*(price - cost), in account currency; above 0 is a profit, for short lots too as their qty is negative.

    cost: per share; avg_px_symbol for the broker's figure (`profit_loss`), avg_fill for the strategy's
    (`profit_loss_lot`). Source: domain.md 4.

    >>> profit_loss(Decimal(-10), Decimal("48.25"), Decimal("50.00"))
    Decimal('17.50')
    """
    return qty * (price - cost)


def tp_sl_reach_pct(
    side: Side, entry: Decimal, price: Decimal, *, take: Decimal | None, stop: Decimal | None
) -> Decimal | None:
    """Return how far the price is on its way, in percent: +100 at the take-profit, -100 at the stop, 0 at entry.

    At or beyond entry the way is the one to the take-profit, below (above, for a short lot) the one to the stop. None
    without that target, and where it is not beyond entry on its own side: so None on the losing side once the
    stop stands at entry or past it. May exceed 100. Rounded half to even to 0.0001. Source: domain.md 4.

    >>> tp_sl_reach_pct(Side.LONG, Decimal(50), Decimal(53), take=Decimal(56), stop=Decimal(48))
    Decimal('50.0000')
    """
    gain = side.sign * (price - entry)
    if gain >= ZERO:
        way = ZERO if take is None else side.sign * (take - entry)
    else:
        way = ZERO if stop is None else side.sign * (entry - stop)
    return (100 * gain / way).quantize(PERCENT_DIGITS) if way > ZERO else None


def r_multiple(side: Side, entry: Decimal, initial_stop: Decimal | None, price: Decimal) -> Decimal | None:
    """Return the side-signed move from entry in units of R = |entry - initial stop|, as of an open lot.

    Above 0 is a gain. None without an initial stop, and where it stands at the entry: there is no risk to measure
    by. Rounded half to even to 0.000001. Source: domain.md 9.

    >>> r_multiple(Side.SHORT, Decimal(50), Decimal("50.80"), Decimal("48.40"))
    Decimal('2.000000')
    """
    return _in_r(side.sign * (price - entry), entry, initial_stop)


def excursions(lot: Lot, high: Decimal, low: Decimal) -> Excursions:
    """Return how far a lot's price went for it and against it. high, low: of all prices since entry, per share.

    Never of the wrong sign: a price that did not leave the entry on one side makes 0 there. In R as `r_multiple`.
    """
    best, worst = (high, low) if lot.side is Side.LONG else (low, high)
    mfe = max(lot.side.sign * (best - lot.avg_fill), ZERO)
    mae = min(lot.side.sign * (worst - lot.avg_fill), ZERO)
    in_r = [_in_r(move, lot.avg_fill, lot.initial_stop) for move in (mfe, mae)]
    return Excursions(mfe, mae, *in_r)


def holding_days(entry_time: datetime, now: datetime) -> int:
    """Return the whole days since the first entry fill, each of 24 hours, not below 0. Source: domain.md 4."""
    return max((now - entry_time) // DAY, 0)


def days_to_expire(expires_at: datetime | None, now: datetime) -> int | None:
    """Return the whole days of 24 hours until the earliest expiry among the lot's live legs, not below 0.

    None where no leg is live, or none expires. Source: domain.md 3.
    """
    return None if expires_at is None else max((expires_at - now) // DAY, 0)


def _in_r(move: Decimal, entry: Decimal, initial_stop: Decimal | None) -> Decimal | None:
    if initial_stop is None or initial_stop == entry:
        return None
    return (move / abs(entry - initial_stop)).quantize(R_DIGITS)

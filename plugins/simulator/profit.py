"""Realised profit of one account, first in first out: owns the inventory that decides it; asks for no price."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from .activities import SPLIT, Activity
from .digits import ZERO


@dataclass(slots=True)
class Parcel:
    """Shares of one purchase (or, below zero, of one short sale) that remain, and their price each."""

    qty: Decimal
    price: Decimal


def realised_by_exit(activities: Iterable[Activity]) -> dict[str, Decimal]:
    """Return what each exit earned, in currency, by its order's id; a transfer of shares out by its own.

    Per symbol the oldest shares go first, long and short, flips included, in the order of (time, id). Shares that
    came in cost their price of that moment; a split changes number and price of what is there.
    """
    inventory: defaultdict[str, deque[Parcel]] = defaultdict(deque)
    earned: defaultdict[str, Decimal] = defaultdict(lambda: ZERO)
    for activity in sorted(activities, key=lambda activity: (activity.at, activity.id)):
        parcels, change = inventory[activity.symbol or ""], activity.signed_qty
        if activity.type == SPLIT:
            _split(parcels, change)
            continue
        price = activity.price or ZERO
        while change and parcels and (parcels[0].qty > 0) is not (change > 0):
            closed = min(abs(change), abs(parcels[0].qty)).copy_sign(parcels[0].qty)
            earned[activity.order_id or activity.id] += closed * (price - parcels[0].price)
            change += closed
            parcels[0].qty -= closed
            if not parcels[0].qty:
                parcels.popleft()
        if change:
            parcels.append(Parcel(change, price))
    return dict(earned)


def _split(parcels: Iterable[Parcel], change: Decimal) -> None:
    parcels = [*parcels]
    held = sum((parcel.qty for parcel in parcels), ZERO)
    for parcel in parcels if held else ():
        parcel.price *= held / (held + change)
        parcel.qty *= (held + change) / held

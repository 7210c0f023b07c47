"""Money and shares that come or go by hand: owns what may be booked; the desk and the market know nothing of it."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

from pydantic import BaseModel, ConfigDict, Field

from .activities import SPLIT, TRADE, TRANSFERS, Activity
from .blotter import Blotter
from .cashflows import book_cash
from .digits import NANO, ONE, ZERO, cents, plain
from .ledger import KNOWN_TYPES, LATEST_BOOKING
from .market import Market
from .refusals import invalid, not_found, unprocessable
from .stamps import new_york_day

DIVIDEND = "DIV"


class Booking(BaseModel):
    """An activity that no trade makes: a deposit, a dividend, a fee, shares transferred."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: str = Field(description="Alpaca's activity type, such as CSD, CSW, DIV, FEE, INT, ACATS, JNLS.")
    amount: Decimal = Field(Decimal(0), description="Signed effect on cash, currency; not for transfers of shares.")
    symbol: str | None = Field(None, description="Symbol that it concerns.")
    qty: Decimal = Field(Decimal(0), description="Signed shares that a transfer brings.")
    price: Decimal | None = Field(None, gt=0, description="Price of a transfer's shares; null = of this moment.")
    per_share: Decimal | None = Field(None, description="Currency per share held; a dividend's other way to an amount.")
    date: dt.date | None = Field(None, description="New York day on which it counts; null = today.")
    sub_type: str | None = Field(None, description="Alpaca's activity sub type.")
    description: str = Field("", description="Free text.")


class SplitOrder(BaseModel):
    """A split: every holder's shares are multiplied, the price is divided, orders stay as they are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    symbol: str = Field(description="Symbol that is split.")
    ratio: Decimal = Field(gt=0, le=1000, description="New shares for one old: 2 is a 2:1 split, 0.1 a reverse 1:10.")


def book(blotter: Blotter, market: Market, booking: Booking, now: int) -> Activity:
    """Book what was asked for, at this moment; return the activity. Raises Refused for what cannot be meant."""
    day = _day(booking, now)
    asset = None if booking.symbol is None else market.asset(booking.symbol)
    if booking.symbol is not None and asset is None:
        raise not_found(f"asset not found for {booking.symbol}")
    held = ZERO if asset is None else blotter.ledger.quantity(asset.symbol)
    _check(booking, held)
    qty, price, amount = None, None, booking.amount
    if booking.type in TRANSFERS and asset is not None:
        qty, price = booking.qty, booking.price or market.price(asset.symbol)
    elif booking.per_share is not None:
        qty, amount = held, cents(held * booking.per_share)
    return book_cash(
        blotter, booking.type, day, amount, blotter.moment(now), sub_type=booking.sub_type,
        description=booking.description, asset=asset, qty=qty, price=price, per_share=booking.per_share,
    )  # fmt: skip


def book_split(blotter: Blotter, market: Market, order: SplitOrder, now: int) -> Activity | None:
    """Multiply one account's shares; return the activity, None where it holds none."""
    asset = market.assets[order.symbol]
    added = (blotter.ledger.quantity(asset.symbol) * (order.ratio - ONE)).quantize(NANO)
    if not added:
        return None
    return book_cash(
        blotter, SPLIT, new_york_day(now), ZERO, blotter.moment(now), asset=asset, qty=added,
        sub_type="FSPLIT" if order.ratio > 1 else "RSPLIT", description=f"{plain(order.ratio)} for 1",
    )  # fmt: skip


def _day(booking: Booking, now: int) -> dt.date:
    today = new_york_day(now)
    day = booking.date or today
    if not today - LATEST_BOOKING < day <= today:
        raise invalid(f"date: {day} is not within the {LATEST_BOOKING.days} days up to {today}")
    return day


def _check(booking: Booking, held: Decimal) -> None:
    """Refuse what has no effect, or one that this type cannot have."""
    if booking.type not in KNOWN_TYPES - {TRADE, SPLIT}:
        raise invalid(f"type: {booking.type} cannot be booked: fills come from orders, splits from /sim/splits")
    if booking.type in TRANSFERS:
        if booking.symbol is None or not booking.qty or booking.amount:
            raise invalid(f"{booking.type} takes a symbol and a qty, and no amount")
        if booking.qty * held < 0 and abs(booking.qty) > abs(held):
            raise unprocessable(f"only {abs(held)} shares of {booking.symbol} can be transferred out")
    elif booking.per_share is not None:
        if booking.type != DIVIDEND or booking.amount or not held:
            raise invalid("per_share is for a DIV on a symbol that is held, instead of an amount")
    elif not booking.amount:
        raise invalid(f"{booking.type} takes an amount")

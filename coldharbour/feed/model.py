"""What the price stream says, as values: one trade of the tape, the last price it left, a minute; never a rule."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated

import msgspec

Conditions = tuple[str, ...] | str | None
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
UNITS = (1, 1_000, 1_000_000, 1_000_000_000)  # of a second: what a whole number as a stamp may count
LATEST_S = 1e11  # a stamp above it counts in the next smaller unit; as seconds it would be the year 5138


class Malformed(ValueError):
    """A message that is no trade; the text says what is wrong with it."""


class Trade(msgspec.Struct, frozen=True, gc=False):
    """One trade of the tape. price: currency per share. size: shares. timestamp: when it was made.

    conditions: the exchange's codes as they were sent: a list, one text of codes, or nothing. tape: "A", "B",
    "C" or "O" where the publisher says it.
    """

    symbol: str
    price: float
    timestamp: Annotated[datetime, msgspec.Meta(tz=True)]
    size: float = 0.0
    conditions: Conditions = None
    tape: str = ""


class TradeMessage(msgspec.Struct, frozen=True, gc=False):
    """A message of the stream: {"trade": {...}}; keys nobody knows are skipped."""

    trade: Trade


class _LooseTrade(msgspec.Struct):
    symbol: str
    price: float | str
    timestamp: datetime | float
    size: float | str | None = None
    conditions: Conditions = None
    tape: str | None = None


class _LooseMessage(msgspec.Struct):
    trade: _LooseTrade


@dataclass(frozen=True, slots=True)
class MinuteBar:
    """What a symbol traded at within one minute, per share. start: of it. open: None where nobody kept it."""

    start: datetime
    high: Decimal
    low: Decimal
    open: Decimal | None = None


@dataclass(frozen=True, slots=True)
class LastPrice:
    """The last price of a symbol. price: currency per share, exactly as published. at: when the trade was made.

    received_at: when we heard of it. previous: the price before it, None for the first. All times are UTC.
    """

    symbol: str
    price: Decimal
    at: datetime
    received_at: datetime
    previous: Decimal | None = None

    def age_s(self, now: datetime) -> float:
        """Return how old the trade is, in seconds."""
        return (now - self.at).total_seconds()


UNREADABLE = (msgspec.MsgspecError, ValueError, OverflowError, RecursionError)  # what a decoder may raise
decode = msgspec.msgpack.Decoder(TradeMessage).decode
_decode_loosely = msgspec.msgpack.Decoder(_LooseMessage).decode


def read_trade(message: bytes) -> Trade:
    """Return the trade of a message that `decode` refused, in whatever other way it is written.

    A stamp without a zone is UTC; a number is seconds since 1970, or thousandths, millionths or billionths of
    them, whichever is a plausible year. Prices and sizes may be text. Raises Malformed for anything else.
    """
    try:
        loose = _decode_loosely(message).trade
        return Trade(
            symbol=loose.symbol,
            price=float(loose.price),
            timestamp=_moment(loose.timestamp),
            size=float(loose.size or 0),
            conditions=loose.conditions,
            tape=loose.tape or "",
        )
    except UNREADABLE as error:
        raise Malformed(f"not a trade: {error}") from error


def _moment(stamp: datetime | float) -> datetime:
    if isinstance(stamp, datetime):
        return stamp if stamp.tzinfo is not None else stamp.replace(tzinfo=UTC)
    unit = next((unit for unit in UNITS if abs(stamp) / unit < LATEST_S), UNITS[-1])
    return EPOCH + timedelta(seconds=stamp / unit)

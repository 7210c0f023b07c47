"""A price book on a virtual clock, and trades as the publisher writes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from coldharbour.clock import VirtualClock
from coldharbour.feed.prices import Prices

NOON = datetime(2026, 10, 8, 16, 0, tzinfo=UTC)  # a Thursday, 12:00 in New York


def message(price: object, *, symbol: object = "KO", at_s: float = 0, **changes: Any) -> bytes:
    """Return a trade made so many seconds after noon, as the publisher writes it."""
    trade = {
        "symbol": symbol,
        "price": price,
        "size": 100,
        "conditions": ["@"],
        "timestamp": (NOON + timedelta(seconds=at_s)).isoformat(),
    }
    return msgspec.msgpack.encode({"trade": trade | changes})


@dataclass
class Tape:
    """A book and the hand that feeds it; every trade is a second after the one before unless it says otherwise."""

    clock: VirtualClock = field(default_factory=lambda: VirtualClock(NOON))
    exclude: tuple[str, ...] = ()
    traded_s: float = 0.0

    def __post_init__(self) -> None:
        self.book = Prices(self.clock, exclude_conditions=self.exclude, max_silence_s=15)

    def trade(self, *prices: float, symbol: str = "KO", **changes: Any) -> None:
        """Print prices one after the other, in one slice."""
        self.book.take_in([message(price, symbol=symbol, at_s=self._next_s(), **changes) for price in prices])

    def _next_s(self) -> float:
        self.traded_s += 1
        self.clock.advance(1)
        return self.traded_s

    def open_at(self, price: float, symbol: str = "KO") -> None:
        """Give a symbol a price that stands: printed and confirmed."""
        self.trade(price, price, symbol=symbol)

    def price(self, symbol: str = "KO") -> str | None:
        """Return the last price as it was published."""
        last = self.book.last(symbol)
        return str(last.price) if last else None

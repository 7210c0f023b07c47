"""The market: owns the tape of every symbol's trades; knows no orders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from random import Random

from .assets import ASSETS, Asset
from .bars import Bars
from .digits import on_tick
from .path import PricePath
from .sessions import Sessions
from .stamps import SECOND, moment_of, nanoseconds

QUIET_NS = 2 * SECOND  # an unchanged price is traded again after this long
REGULAR, CLOSING, EXTENDED = ("@",), ("@", "6"), ("@", "T")  # the tape's codes (tape C)


@dataclass(frozen=True, slots=True)
class Tick:
    """One trade on the tape. price: currency per share. size: shares. at: aware UTC. conditions: the tape's codes."""

    symbol: str
    price: Decimal
    size: int
    at: datetime
    conditions: tuple[str, ...] = REGULAR


class Market:
    """The tape of all assets, printed along the price path (see `path`).

    In regular hours every symbol trades. Outside them only what an extended-hours order fills, or a hand holds, with
    the tape's code T: such a trade sets the last price and minute bars, never a daily bar. The close has code 6.
    now: how far the tape has come, in nanoseconds. step_s: seconds between two moves of the prices, the first half
    of it after the opening; 0 lets them move at any moment.
    """

    def __init__(self, seed: int, sessions: Sessions, assets: Sequence[Asset] = ASSETS, *, step_s: int = 0) -> None:
        self.assets: Mapping[str, Asset] = {asset.symbol: asset for asset in assets}
        self.symbols: tuple[str, ...] = tuple(self.assets)
        self.path = PricePath(Random(f"{seed}:market"), sessions, assets, step_ns=step_s * SECOND or 1)
        self.bars = Bars(self.path, sessions)
        self.now = 0
        self._by_id = {asset.id: asset for asset in assets}
        self._sessions = sessions
        self._chance = Random(f"{seed}:tape")
        self._last: dict[str, tuple[Decimal, int, int]] = {}
        self._pins: dict[str, Decimal | None] = {}
        self._listeners: list[Callable[[Sequence[Tick]], None]] = []

    def asset(self, symbol_or_id: str) -> Asset | None:
        """Return an asset by its symbol or its UUID."""
        return self.assets.get(symbol_or_id) or self._by_id.get(symbol_or_id)

    def price_ns(self, symbol: str, ns: int) -> Decimal:
        """Return the last price at a moment. Raises KeyError for an unknown symbol."""
        return self.path.price(symbol, ns)

    def price_at(self, symbol: str, at: datetime) -> Decimal:
        """Return the last price at a moment. Raises KeyError for an unknown symbol."""
        return self.path.price(symbol, nanoseconds(at))

    def close_in_todays_shares(self, symbol: str, close: int, now: int) -> Decimal:
        """Return an earlier price as it is compared with one of now: divided by the splits between."""
        return on_tick(self.path.price(symbol, close) / self.path.ratio(symbol, close, now))

    def price(self, symbol: str) -> Decimal:
        """Return the newest price of the tape. Raises KeyError for an unknown symbol."""
        return self._last[symbol][0]

    def last(self, symbol: str) -> Tick:
        """Return the newest trade. Raises KeyError for an unknown symbol."""
        price, at, size = self._last[symbol]
        return Tick(symbol, price, size, moment_of(at), self._conditions(at))

    def pin(self, symbol: str, price: Decimal | None) -> None:
        """Hold a price by hand from the next step on; None lets it go. Raises KeyError if unknown."""
        self._pins[self.assets[symbol].symbol] = None if price is None else on_tick(price)

    def split(self, symbol: str, since: int, ratio: Decimal) -> None:
        """Let `ratio` new shares stand for one old share from a moment (ns) on. Raises KeyError if unknown."""
        self.path.split(self.assets[symbol].symbol, since, ratio)

    def listen(self, callback: Callable[[Sequence[Tick]], None]) -> Callable[[], None]:
        """Call back with the new trades of each step; returns the unsubscriber."""
        self._listeners.append(callback)
        return lambda: self._listeners.remove(callback)

    def advance(self, now: int) -> list[str]:
        """Move the tape to a moment and tell the listeners; return the symbols that traded.

        A first call only sets every last price.
        """
        self.now = now
        while self._pins:
            symbol, price = self._pins.popitem()
            self.path.hold(symbol, now, price)
        traded = [symbol for symbol in self.symbols if self._trade(symbol, now)]
        self._tell(traded)
        return traded

    def trade(self, symbol: str, price: Decimal, now: int) -> None:
        """Print a trade that two orders made outside regular hours; its price stands from then on."""
        self.path.trade(symbol, now, price)
        self._trade(symbol, now)
        self._tell([symbol])

    def _tell(self, traded: Sequence[str]) -> None:
        if traded and self._listeners:
            ticks = [self.last(symbol) for symbol in traded]
            for callback in tuple(self._listeners):
                callback(ticks)

    def _trade(self, symbol: str, now: int) -> bool:
        previous = self._last.get(symbol)
        price, at = self.path.price(symbol, now), self.path.traded_at(symbol, now)
        if previous is not None and price == previous[0] and (at <= previous[1] or now - previous[1] < QUIET_NS):
            return False
        self._last[symbol] = (price, at, 100 + int(self._chance.random() ** 4 * 4000))
        return previous is not None

    def _conditions(self, at: int) -> tuple[str, ...]:
        session = self._sessions.last_opened(at)
        if session is None or at < session.close - 1:
            return REGULAR
        return CLOSING if at < session.close else EXTENDED

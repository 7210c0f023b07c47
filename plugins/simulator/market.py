"""The market: owns every symbol's price as a function of seed and time; knows no orders."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random

from .assets import ASSETS, Asset
from .digits import on_tick
from .sessions import Sessions
from .stamps import MINUTE, SECOND, moment_of, nanoseconds, new_york_ns

# (period in seconds, amplitude as a fraction): slow waves make the year, fast ones make the tape.
WAVES = (
    (170 * 86400.0, 0.150),
    (61 * 86400.0, 0.070),
    (23 * 86400.0, 0.045),
    (8 * 86400.0, 0.030),
    (2.7 * 86400.0, 0.018),
    (86400.0, 0.0110),
    (6.1 * 3600.0, 0.0070),
    (5400.0, 0.0050),
    (1500.0, 0.0045),
    (430.0, 0.0040),
    (125.0, 0.0022),
    (37.0, 0.0012),
    (11.0, 0.0006),
    (3.1, 0.0003),
)
NOISE_BITS = 16
STRIDE = 40503  # odd, so that neighbouring lattice points fall far apart in the noise table
QUIET_NS = 2 * SECOND  # an unchanged price is traded again after this long
SAMPLES = {timedelta(minutes=1): 6, timedelta(days=1): 40}


@dataclass(frozen=True, slots=True)
class Tick:
    """One trade on the tape. price: currency per share. size: shares. at: aware UTC."""

    symbol: str
    price: Decimal
    size: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Bar:
    """Prices of one interval that starts at `at` (aware UTC); a daily bar starts at New York's midnight."""

    at: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: int
    trades: int
    vwap: Decimal


class Market:
    """Prices of all assets at any moment; outside sessions the newest close stands.

    The path is a sum of value-noise waves: any moment can be asked in any order, and the same seed always
    gives the same answer, so that history, bars and the live tape agree.
    """

    def __init__(self, seed: int, sessions: Sessions, assets: Sequence[Asset] = ASSETS) -> None:
        self.assets: Mapping[str, Asset] = {asset.symbol: asset for asset in assets}
        self.symbols: tuple[str, ...] = tuple(self.assets)
        self._by_id = {asset.id: asset for asset in assets}
        self._sessions = sessions
        chance = Random(f"{seed}:market")
        self._noise = [chance.uniform(-1, 1) for _ in range(1 << NOISE_BITS)]
        self._waves = {
            asset.symbol: [
                (1 / (SECOND * period), amplitude * asset.liveliness, chance.getrandbits(NOISE_BITS))
                for period, amplitude in WAVES
            ]
            for asset in assets
        }
        self._chance = Random(f"{seed}:tape")
        self._last: dict[str, tuple[Decimal, int, int]] = {}
        self._pins: dict[str, Decimal] = {}
        self._listeners: list[Callable[[Sequence[Tick]], None]] = []

    def asset(self, symbol_or_id: str) -> Asset | None:
        """Return an asset by its symbol or its UUID."""
        return self.assets.get(symbol_or_id) or self._by_id.get(symbol_or_id)

    def price_ns(self, symbol: str, ns: int) -> Decimal:
        """Return the last price at a moment, pins left out. Raises KeyError for an unknown symbol."""
        ns = self._sessions.traded_at(ns)
        noise, mask, height = self._noise, (1 << NOISE_BITS) - 1, 0.0
        for rate, amplitude, offset in self._waves[symbol]:
            place = ns * rate
            cell = int(place)
            left = noise[(cell * STRIDE + offset) & mask]
            right = noise[((cell + 1) * STRIDE + offset) & mask]
            height += amplitude * (left + (right - left) * (place - cell))
        price = self.assets[symbol].start_price * math.exp(height)
        if price >= 1:
            return Decimal(round(price * 100)).scaleb(-2)
        return Decimal(max(round(price * 10000), 1)).scaleb(-4)

    def price_at(self, symbol: str, at: datetime) -> Decimal:
        """Return the last price at a moment. Raises KeyError for an unknown symbol."""
        return self.price_ns(symbol, nanoseconds(at))

    def price(self, symbol: str) -> Decimal:
        """Return the newest price of the tape. Raises KeyError for an unknown symbol."""
        return self._last[symbol][0]

    def last(self, symbol: str) -> Tick:
        """Return the newest trade. Raises KeyError for an unknown symbol."""
        price, at, size = self._last[symbol]
        return Tick(symbol, price, size, moment_of(at))

    def pin(self, symbol: str, price: Decimal | None) -> None:
        """Hold a price by hand from the next step on; None lets it go. Raises KeyError if unknown."""
        if price is None:
            self._pins.pop(symbol, None)
        else:
            self._pins[self.assets[symbol].symbol] = on_tick(price)

    def listen(self, callback: Callable[[Sequence[Tick]], None]) -> Callable[[], None]:
        """Call back with the new trades of each step; returns the unsubscriber."""
        self._listeners.append(callback)
        return lambda: self._listeners.remove(callback)

    def advance(self, now: int) -> list[str]:
        """Move the tape to a moment and tell the listeners; return the symbols that traded.

        While the exchange is closed nothing trades, except that a first call sets every last price.
        """
        is_open = self._sessions.open_at(now) is not None
        traded = [symbol for symbol in self.symbols if self._trade(symbol, now, is_open)]
        if traded and self._listeners:
            ticks = [self.last(symbol) for symbol in traded]
            for callback in tuple(self._listeners):
                callback(ticks)
        return traded

    def _trade(self, symbol: str, now: int, is_open: bool) -> bool:
        previous = self._last.get(symbol)
        if previous is not None and not is_open and symbol not in self._pins:
            return False
        price = self._pins.get(symbol) or self.price_ns(symbol, now)
        if previous is not None and price == previous[0] and now - previous[1] < QUIET_NS:
            return False
        self._last[symbol] = (
            price,
            self._sessions.traded_at(now),
            100 + int(self._chance.random() ** 4 * 4000),
        )
        return previous is not None

    def bars(
        self, symbol: str, start: datetime, end: datetime, step: timedelta, *, limit: int | None = None
    ) -> list[Bar]:
        """Return the bars whose start lies within both bounds (inclusive), in session time only.

        step: one day for daily bars, else any shorter interval. limit: stop after so many bars. Raises
        KeyError for an unknown symbol.
        """
        first, last = nanoseconds(start), nanoseconds(end)
        bars: list[Bar] = []
        for session in self._sessions.all:
            if session.post < first or session.pre > last + 24 * 60 * MINUTE:
                continue
            if step >= timedelta(days=1):
                spans = [(new_york_ns(session.day, datetime.min.time()), session.open, session.close)]
            else:
                width = int(step.total_seconds() * SECOND)
                spans = [(at, at, min(at + width, session.close)) for at in range(session.open, session.close, width)]
            for label, opening, closing in spans:
                if first <= label <= last:
                    bars.append(self._bar(symbol, label, opening, closing, SAMPLES.get(step, 12)))
                    if len(bars) == limit:
                        return bars
        return bars

    def _bar(self, symbol: str, label: int, opening: int, closing: int, samples: int) -> Bar:
        stride = max((closing - opening) // samples, 1)
        prices = [self.price_ns(symbol, at) for at in range(opening, closing, stride)]
        prices.append(self.price_ns(symbol, closing))
        cell = label // SECOND + self._waves[symbol][0][2]
        busy = 1 + self._noise[cell * STRIDE & ((1 << NOISE_BITS) - 1)] / 2
        volume = int(busy * (closing - opening) / MINUTE * 2600)
        mean = sum(prices, Decimal(0)) / len(prices)
        return Bar(
            moment_of(label), prices[0], max(prices), min(prices), prices[-1], volume, volume // 90,
            mean.quantize(Decimal("0.000001")),
        )  # fmt: skip

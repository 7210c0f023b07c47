"""The one price of every symbol at every moment: owns waves, holds and splits; knows no trade and no order.

In regular hours the price follows a seeded path. Outside them it stands at the newest close, or at a trade since.
A price that is held by hand is the price at any hour, and trades there; let go out of hours, it stands until the
next opening.
From a split on, everything is divided by its ratio; before it, prices stay as they were. The broker's equity,
bars, latest trades and the price stream all read this one price.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from random import Random

from .assets import Asset
from .digits import ONE, on_tick
from .sessions import Sessions
from .stamps import SECOND

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


@dataclass(frozen=True, slots=True)
class Hold:
    """From `since` (nanoseconds) on, the price is held; None lets it go."""

    since: int
    price: Decimal | None


@dataclass(frozen=True, slots=True)
class Split:
    """From `since` (nanoseconds) on, `ratio` new shares stand for one old share."""

    since: int
    ratio: Decimal


class PricePath:
    """Prices as a function of seed, symbol and time, and of what was held or split.

    The path is a sum of value-noise waves: any moment can be asked in any order, and the same seed always
    gives the same answer, so that history, bars and the live tape agree. step_ns: the price moves this
    often only, half a step after each multiple of it; 1 lets it move at any moment.
    """

    def __init__(self, chance: Random, sessions: Sessions, assets: Sequence[Asset], *, step_ns: int = 1) -> None:
        self._sessions = sessions
        self._step_ns = step_ns
        self._noise = [chance.uniform(-1, 1) for _ in range(1 << NOISE_BITS)]
        self._starts = {asset.symbol: asset.start_price for asset in assets}
        self._waves = {
            asset.symbol: [
                (1 / (SECOND * period), amplitude * asset.liveliness, chance.getrandbits(NOISE_BITS))
                for period, amplitude in WAVES
            ]
            for asset in assets
        }
        self._newest: dict[str, tuple[int, float]] = {}  # a price that stands is asked for again and again
        self._holds: dict[str, list[Hold]] = {}
        self._splits: dict[str, list[Split]] = {}

    def price(self, symbol: str, ns: int) -> Decimal:
        """Return the price at a moment. Raises KeyError for an unknown symbol."""
        if symbol in self._holds or symbol in self._splits:
            return self._by_hand(symbol, ns, self.ratio(symbol, 0, ns))
        return self._rounded(self._height(symbol, self._moved_at(ns)))

    def traded_at(self, symbol: str, ns: int) -> int:
        """Return when, up to a moment, the symbol last had a price of its own: traded, or was split."""
        hold, at = self._hold_at(symbol, ns), self._moved_at(ns)
        if hold is not None:
            at = max(at, hold.since - 1 if hold.price is None else ns)
        return max([at, *(split.since for split in self._splits.get(symbol, ()) if split.since <= ns)])

    def hold(self, symbol: str, since: int, price: Decimal | None) -> None:
        """Hold a price from a moment on, which must not lie before any earlier hold; None lets it go."""
        holds = self._holds.setdefault(symbol, [])
        while holds and holds[-1].since >= since:
            holds.pop()
        if price != (holds[-1].price if holds else None):
            holds.append(Hold(since, price))
        if not holds:
            del self._holds[symbol]

    def trade(self, symbol: str, at: int, price: Decimal) -> None:
        """Have one trade at a price, at a moment that must not lie before any hold; a hold goes on after it."""
        hold = self._hold_at(symbol, at)
        self.hold(symbol, at, price)
        self.hold(symbol, at + 1, None if hold is None else hold.price)

    def held(self, symbol: str, first: int, last: int) -> list[Decimal]:
        """Return the prices held within [first, last), in order of time; none where nothing was held."""
        before = self._hold_at(symbol, first)
        within = [hold for hold in self._holds.get(symbol, ()) if first < hold.since < last]
        return [hold.price for hold in (before, *within) if hold is not None and hold.price is not None]

    def split(self, symbol: str, since: int, ratio: Decimal) -> None:
        """Let `ratio` new shares stand for one old share from a moment on."""
        self._splits.setdefault(symbol, []).append(Split(since, ratio))

    def ratio(self, symbol: str, after: int, until: int) -> Decimal:
        """Return how many shares of `until` stand for one of `after`."""
        ratio = ONE
        for split in self._splits.get(symbol, ()):
            if after < split.since <= until:
                ratio *= split.ratio
        return ratio

    def noise(self, symbol: str, place: int) -> float:
        """Return a number from -1 to 1 that belongs to a symbol and a place: how busy a bar is."""
        cell = place + self._waves[symbol][0][2]
        return self._noise[cell * STRIDE & ((1 << NOISE_BITS) - 1)]

    def _by_hand(self, symbol: str, ns: int, ratio: Decimal) -> Decimal:
        hold, at = self._hold_at(symbol, ns), self._moved_at(ns)
        if hold is not None and hold.price is None and at < hold.since:
            hold = self._hold_at(symbol, hold.since - 1)  # let go out of hours: it stands
        if hold is not None and hold.price is not None:
            return on_tick(hold.price / self.ratio(symbol, hold.since, ns))
        return self._rounded(self._height(symbol, at) / float(ratio))

    def _moved_at(self, ns: int) -> int:
        """Return when, up to a moment, the path last moved: at a step in regular hours."""
        at = self._sessions.traded_at(ns)
        if self._step_ns == 1:
            return at
        step = at - (at + self._step_ns // 2) % self._step_ns
        return step if step == self._sessions.traded_at(step) else self._moved_at(step)

    def _hold_at(self, symbol: str, ns: int) -> Hold | None:
        holds = self._holds.get(symbol)
        if not holds:
            return None
        place = bisect_right(holds, ns, key=lambda hold: hold.since) - 1
        return holds[place] if place >= 0 else None

    def _height(self, symbol: str, ns: int) -> float:
        """Return the path at a moment of trading, in currency, not rounded."""
        known, height = self._newest.get(symbol, (None, 0.0))
        if known != ns:
            height = self._waved(symbol, ns)
            self._newest[symbol] = (ns, height)
        return height

    def _waved(self, symbol: str, ns: int) -> float:
        noise, mask, height = self._noise, (1 << NOISE_BITS) - 1, 0.0
        for rate, amplitude, offset in self._waves[symbol]:
            place = ns * rate
            cell = int(place)
            left = noise[(cell * STRIDE + offset) & mask]
            right = noise[((cell + 1) * STRIDE + offset) & mask]
            height += amplitude * (left + (right - left) * (place - cell))
        return self._starts[symbol] * math.exp(height)

    @staticmethod
    def _rounded(price: float) -> Decimal:
        if price >= 1:
            return Decimal(round(price * 100)).scaleb(-2)
        return Decimal(max(round(price * 10000), 1)).scaleb(-4)

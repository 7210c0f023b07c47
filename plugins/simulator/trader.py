"""The demo's trader: owns its whims, so that something always happens; obeys the rules of every client.

It keeps no memory: what it does follows from the orders and positions it finds, so that a restart changes
nothing. Positions it did not open are none of its business.
"""

from __future__ import annotations

from decimal import Decimal
from random import Random

from .desk import Desk
from .digits import CENT, ZERO, cents, on_tick, plain
from .market import Market
from .orders import Order
from .permission import held_for_exits
from .refusals import Refused
from .scripts import PREFIX
from .sessions import Sessions
from .stamps import SECOND

FEW, MANY = 12, 18  # positions and entries: below it enters often, from there on never
PAUSE_S = 1.6  # mean time between two whims
IMPATIENCE = 90 * SECOND  # after which an unfilled entry is chased or given up
RISK_SHARE, VALUE_SHARE = Decimal("0.002"), Decimal("0.08")


class Trader:
    """Trades one account by brackets: enters, moves stops up, leaves by hand, protects what is bare.

    refused: how many of its requests the broker declined, which is part of trading.
    """

    def __init__(self, desk: Desk, market: Market, sessions: Sessions, chance: Random) -> None:
        self._desk = desk
        self._blotter = desk.blotter
        self._market = market
        self._sessions = sessions
        self._chance = chance
        self._next = 0
        self.refused = 0

    def act(self, now: int) -> None:
        """Follow one whim if it is time for one and the exchange is open."""
        if now < self._next or self._sessions.open_at(now) is None:
            return
        self._next = now + int(self._chance.expovariate(1 / PAUSE_S) * SECOND)
        try:
            self._follow_whim(now)
        except Refused:
            self.refused += 1

    def _follow_whim(self, now: int) -> None:
        bare = self._bare_symbol()
        if bare is not None:
            self._leave_or_protect(bare, now)
            return
        orders = self._blotter.book.live_orders()
        entries = [order for order in orders if _is_entry(order)]
        stops = [order for order in orders if order.role == "stop_loss" and order.armed and _is_calm(order)]
        crowd = len(self._blotter.ledger.positions) + len(entries)
        whim = self._chance.random()
        if crowd < FEW or (whim < 0.3 and crowd < MANY):
            self._enter(now)
        elif whim < 0.42 and entries:
            self._hurry(self._chance.choice(entries), now)
        elif whim < 0.92 and stops:
            self._tighten(self._chance.choice(stops), now)
        elif stops and crowd >= FEW:
            self._desk.cancel(self._chance.choice(stops).id, now)

    def _enter(self, now: int) -> None:
        symbol = self._chance.choice(self._market.symbols)
        if symbol in self._blotter.ledger.positions or self._blotter.book.live[symbol]:
            return
        asset, price = self._market.assets[symbol], self._market.price(symbol)
        sign = 1 if self._chance.random() < 0.66 else -1
        risk = on_tick(price * self._fraction(0.002, 0.006) * Decimal(str(asset.liveliness))) + CENT
        reward = on_tick(risk * self._fraction(1, 2.2)) + CENT
        equity = self._blotter.ledger.cash + sum(
            (held.qty * held.average for held in self._blotter.ledger.positions.values()), ZERO
        )
        qty = min(equity * RISK_SHARE / risk, equity * VALUE_SHARE / price) // 1
        is_market = self._chance.random() < 0.5
        limit = on_tick(price * (1 - sign * self._fraction(-0.0005, 0.001)))
        base = price if is_market else limit
        if qty < 1:
            return
        self._desk.place(
            {
                "symbol": symbol,
                "qty": plain(qty),
                "side": "buy" if sign > 0 else "sell",
                "type": "market" if is_market else "limit",
                "time_in_force": "gtc",
                "order_class": "bracket",
                "limit_price": None if is_market else plain(limit),
                "take_profit": {"limit_price": plain(on_tick(base + sign * reward))},
                "stop_loss": {"stop_price": plain(on_tick(base - sign * risk))},
                "client_order_id": f"{PREFIX}{self._blotter.ids.uuid()}",
            },
            now,
        )

    def _hurry(self, entry: Order, now: int) -> None:
        """Chase or give up an entry that waits for its limit."""
        if not _is_calm(entry) or entry.limit_price is None or now - entry.submitted < IMPATIENCE:
            return
        if self._chance.random() < 0.5:
            self._desk.cancel(entry.id, now)
        else:
            self._desk.replace(entry.id, {"limit_price": plain(self._market.price(entry.symbol))}, now)

    def _tighten(self, stop: Order, now: int) -> None:
        """Move a stop a third of the way to the price if the trade has room."""
        price, old = self._market.price(stop.symbol), stop.stop_price or ZERO
        room = -stop.sign * (price - old)
        new = cents(old - stop.sign * room / 3)
        if room / price > Decimal("0.004") and new != old:
            changes = {"stop_price": plain(new)}
            if stop.limit_price is not None:
                changes["limit_price"] = plain(cents(new * (1 + stop.sign * CENT)))
            self._desk.replace(stop.id, changes, now)

    def _leave_or_protect(self, symbol: str, now: int) -> None:
        held = self._blotter.ledger.quantity(symbol)
        free = abs(held) - held_for_exits(self._blotter, symbol)
        side, sign, price = ("sell", 1, self._market.price(symbol)) if held > 0 else (
            "buy", -1, self._market.price(symbol)
        )  # fmt: skip
        request: dict[str, object] = {"symbol": symbol, "qty": plain(free), "side": side}
        if self._chance.random() < 0.7:
            self._desk.place({**request, "type": "market", "time_in_force": "day"}, now)
            return
        gap = sign * (price * self._fraction(0.003, 0.006) + CENT)
        self._desk.place(
            {
                **request,
                "type": "limit",
                "time_in_force": "gtc",
                "order_class": "oco",
                "take_profit": {"limit_price": plain(on_tick(price + gap))},
                "stop_loss": {"stop_price": plain(on_tick(price - gap))},
            },
            now,
        )

    def _bare_symbol(self) -> str | None:
        """Return a symbol whose position this trader opened and nothing protects or closes."""
        for symbol, held in self._blotter.ledger.positions.items():
            if any(_is_entry(order) for order in self._blotter.book.live[symbol].values()):
                continue
            if abs(held.qty) > held_for_exits(self._blotter, symbol) and self._is_mine(symbol):
                return symbol
        return None

    def _is_mine(self, symbol: str) -> bool:
        for order in self._blotter.book.newest(symbol):
            if order.role == "entry" and order.replaces is None and order.position_intent.endswith("open"):
                return order.client_order_id.startswith(PREFIX)
        return False

    def _fraction(self, low: float, high: float) -> Decimal:
        return Decimal(f"{self._chance.uniform(low, high):.5f}")


def _is_entry(order: Order) -> bool:
    return order.role == "entry" and order.position_intent.endswith("to_open")


def _is_calm(order: Order) -> bool:
    return order.status in {"new", "held"} and not order.waiting

"""The year before the first start: owns inventing plausible trades; every transition is the blotter's own.

Each trade is a generator that yields the moment at which it wants to go on; one agenda runs them all in the
order of time, so that cash and positions grow as they would have.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta
from decimal import Decimal
from itertools import count, pairwise
from random import Random

from .cashflows import book_cash, settle_day
from .desk import Desk
from .digits import CENT, ZERO, cents, on_tick
from .market import Market
from .orders import Order
from .sessions import Session
from .stamps import HOUR, MILLISECOND, MINUTE, SECOND
from .tickets import Ticket

TRADES_A_DAY = 2.2
GRID = 20 * MINUTE  # how often a position is compared with its exits
LONG_SHARE = 0.66
FORESIGHT = 0.12  # how often a trade knows its side: the difference between losing slowly and living
RISK_SHARE = Decimal("0.004")  # of the equity, lost when a stop is hit
VALUE_SHARE = Decimal("0.12")  # of the equity, at most, in one position
PREFIX = "demo-"
Script = Iterator[int]


class HistoryWriter:
    """Writes one account's past into its blotter: trades, deposits, fees, dividends, interest."""

    def __init__(self, desk: Desk, market: Market, days: Sequence[Session], chance: Random) -> None:
        self._desk = desk
        self._blotter = desk.blotter
        self._market = market
        self._days = days
        self._chance = chance
        self._agenda: list[tuple[int, int, Script]] = []
        self._ties = count()
        self._names = count(1)
        self._open: Counter[str] = Counter()
        self._signs: dict[str, int] = {}

    def write(self, deposit: Decimal) -> None:
        """Write everything, beginning with the first deposit; trades may still be open at the end."""
        if not self._days:
            return
        self._start(self._days[0].pre, self._transfers(deposit))
        self._start(self._days[0].open, self._spawn_trades())
        self._start(self._days[0].post, self._settle())
        end = self._days[-1].post + 2 * HOUR
        while self._agenda and self._agenda[0][0] < end:
            at, _, script = heapq.heappop(self._agenda)
            wanted = next(script, None)
            if wanted is not None:
                self._start(max(wanted, at), script)

    def _start(self, at: int, script: Script) -> None:
        heapq.heappush(self._agenda, (at, next(self._ties), script))

    def _transfers(self, deposit: Decimal) -> Script:
        """The first deposit, a few later ones, a withdrawal and a journal entry."""
        first = self._days[0]
        book_cash(self._blotter, "CSD", first.day, deposit, first.pre, description="ACH deposit")
        kinds = ("CSD", "CSD", "CSW", "JNLC", "CSD")
        shares = (Decimal("0.08"), Decimal("0.05"), Decimal("-0.06"), Decimal("0.002"), Decimal("0.04"))
        spots = sorted(self._chance.sample(range(1, len(self._days)), min(len(kinds), len(self._days) - 1)))
        for kind, share, spot in zip(kinds, shares, spots, strict=False):
            session = self._days[spot]
            yield session.pre + 2 * HOUR
            amount = (deposit * share).quantize(Decimal(10))
            book_cash(self._blotter, kind, session.day, amount, session.pre + 2 * HOUR)

    def _settle(self) -> Script:
        """Each day's fees, dividends and interest, booked on the following morning."""
        before = self._days[0].day - timedelta(days=1)
        for session, following in zip(self._days, [*self._days[1:], None], strict=True):
            at = session.post + HOUR if following is None else following.pre + 2 * HOUR + 10 * MINUTE
            yield at
            settle_day(self._blotter, self._market, session.day, before, at)
            before = session.day

    def _spawn_trades(self) -> Script:
        for session in self._days:
            for _ in range(self._count_today()):
                at = self._chance.randint(session.open + MINUTE, session.close - 45 * MINUTE)
                self._start(at, self._trade(at, session))
            yield session.close

    def _count_today(self) -> int:
        return sum(self._chance.random() < TRADES_A_DAY / 8 for _ in range(8))

    def _trade(self, at: int, session: Session) -> Script:
        """One trade from entry to exit; `at` and all later moments in nanoseconds since 1970."""
        symbol = self._chance.choice(self._market.symbols)
        if self._open[symbol] and self._chance.random() < 0.6:
            return
        ticket = self._ticket(symbol, at)
        if ticket is None:
            return
        self._open[symbol] += 1
        self._signs[symbol] = ticket.sign
        entry = self._desk.write(ticket, at)
        yield at + self._delay()
        self._blotter.accept(entry, self._blotter.moment(at))
        yield from self._enter(entry, session)
        if entry.filled_qty:
            yield from self._leave(entry, ticket)
        self._open[symbol] -= 1

    def _ticket(self, symbol: str, at: int) -> Ticket | None:
        asset, price = self._market.assets[symbol], self._market.price_ns(symbol, at)
        sign = self._signs[symbol] if self._open[symbol] else self._side(symbol, price, at)
        risk = on_tick(price * Decimal(f"{self._chance.uniform(0.01, 0.03):.4f}")) + CENT
        reward = on_tick(risk * Decimal(self._chance.choice(("1", "1.2", "1.5", "1.5", "2", "3"))))
        equity = self._book_value()
        qty = min(equity * RISK_SHARE / risk, equity * VALUE_SHARE / price) // 1
        if qty < 1:
            return None
        kind = self._chance.random()
        order_class = "bracket" if kind < 0.8 else "oto" if kind < 0.88 else ""
        limit = None
        if order_class == "bracket" and self._chance.random() < 0.6:
            limit = on_tick(price * (1 - sign * Decimal(f"{self._chance.uniform(-0.001, 0.006):.4f}")))
        base = limit or price
        stop = on_tick(base - sign * risk)
        return Ticket(
            asset=asset,
            side="buy" if sign > 0 else "sell",
            type="market" if limit is None else "limit",
            time_in_force="gtc",
            order_class=order_class,
            qty=qty,
            limit_price=limit,
            take_profit=on_tick(base + sign * reward),
            stop_loss=stop,
            stop_loss_limit=on_tick(stop * (1 - sign * CENT)) if self._chance.random() < 0.1 else None,
            client_order_id=f"{PREFIX}{next(self._names):05d}",
        )

    def _side(self, symbol: str, price: Decimal, at: int) -> int:
        if self._chance.random() < FORESIGHT:
            later = self._market.price_ns(symbol, min(at + 80 * HOUR, self._days[-1].close))
            return 1 if later >= price else -1
        return 1 if self._chance.random() < LONG_SHARE else -1

    def _book_value(self) -> Decimal:
        held = self._blotter.ledger.positions.values()
        return self._blotter.ledger.cash + sum((position.qty * position.average for position in held), ZERO)

    def _enter(self, entry: Order, session: Session) -> Script:
        """Fill the entry now or when its limit is touched; otherwise replace, cancel or leave it."""
        symbol, at = entry.symbol, entry.submitted + 200 * MILLISECOND
        price = self._market.price_ns(symbol, at)
        if entry.limit_price is None or entry.sign * (entry.limit_price - price) >= 0:
            yield from self._fill(entry, price, at)
            return
        touch = self._touch(symbol, at, session.close - MINUTE, {entry.limit_price: -entry.sign})
        if touch is not None:
            yield touch[0]
            yield from self._fill(entry, entry.limit_price, touch[0])
            return
        yield session.close - 10 * MINUTE
        yield from self._cancel(entry, session.close - 10 * MINUTE)

    def _leave(self, entry: Order, ticket: Ticket) -> Script:
        """Hold the position until an exit is touched or patience ends, moving the stop on the way."""
        at = entry.filled or entry.updated
        target, stop = self._exits(entry)
        if target is None and stop is None:
            at += self._chance.randint(2, 90) * MINUTE
            at = self._next_open_moment(at)
            yield at
            target, stop = self._attach_oco(entry, ticket, at)
        patience = at + int(self._chance.expovariate(1 / 9) * 24 * HOUR) + HOUR
        moves = self._moves(entry, stop)
        while stop is not None:
            levels = {stop.stop_price or ZERO: -entry.sign}
            if target is not None and target.limit_price is not None:
                levels[target.limit_price] = entry.sign
            if moves:
                levels[moves[0][0]] = entry.sign
            touch = self._touch(entry.symbol, at, patience, levels)
            if touch is None:
                yield from self._give_up(entry, target or stop, self._next_open_moment(patience))
                return
            at, level = touch
            yield at
            if level == stop.stop_price:
                yield from self._stop_out(stop, at)
                return
            if target is not None and level == target.limit_price:
                yield from self._fill(target, level, at)
                return
            stop = yield from self._move_stop(stop, moves.pop(0)[1], at)

    def _exits(self, entry: Order) -> tuple[Order | None, Order | None]:
        legs = {leg.role: leg for leg in map(self._blotter.book.by_id.__getitem__, entry.legs)}
        if "stop_loss" not in legs and "take_profit" in legs:
            return None, None
        return legs.get("take_profit"), legs.get("stop_loss")

    def _attach_oco(self, entry: Order, ticket: Ticket, at: int) -> tuple[Order, Order]:
        root = self._desk.write(
            Ticket(
                asset=ticket.asset,
                side="sell" if entry.sign > 0 else "buy",
                type="limit",
                time_in_force="gtc",
                order_class="oco",
                qty=entry.filled_qty,
                take_profit=ticket.take_profit,
                stop_loss=ticket.stop_loss,
            ),
            at,
        )
        self._blotter.accept(root, self._blotter.moment(at))
        return root, self._blotter.book.by_id[root.legs[0]]

    def _moves(self, entry: Order, stop: Order | None) -> list[tuple[Decimal, Decimal]]:
        """Return (price to wait for, stop to set then) pairs: to break-even after 1 R, then behind the price."""
        average = entry.filled_avg_price
        if stop is None or stop.stop_price is None or average is None or self._chance.random() > 0.45:
            return []
        risk = entry.sign * (average - stop.stop_price)
        if risk <= ZERO:
            return []
        steps = [(Decimal(1), -entry.sign * CENT)] + [
            (Decimal(at), entry.sign * risk * Decimal(keep))
            for at, keep in (("1.4", "0.5"), ("1.8", "0.9"))
            if self._chance.random() < 0.6
        ]
        return [(on_tick(average + entry.sign * risk * reach), on_tick(average + gain)) for reach, gain in steps]

"""How a trade of the past went: owns inventing one from entry to exit; every transition is the blotter's."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import count
from random import Random
from typing import TypeVar

from .blotter import Blotter
from .desk import Desk
from .digits import CENT, ZERO, on_tick
from .market import Market
from .orders import Order
from .sessions import Session
from .stamps import HOUR, MILLISECOND, MINUTE, SECOND
from .tickets import Ticket

GRID = 20 * MINUTE  # how often a position is compared with its exits
LONG_SHARE = 0.66
FORESIGHT = 0.2  # how often a trade knows its side: the difference between losing slowly and living
RISK_SHARE = Decimal("0.004")  # of the equity, lost when a stop is hit
VALUE_SHARE = Decimal("0.12")  # of the equity, at most, in one position
PATIENCE_H, PATIENCE_MAX_H = 9 * 24, 60 * 24
PREFIX = "demo-"
Script = Iterator[int]
Result = TypeVar("Result")
Part = Generator[int, None, Result]
Levels = Mapping[Decimal, int]
Move = tuple[Decimal, Decimal]


class TradeScripts:
    """Makes one account's trades; a script yields the moments (nanoseconds) at which it wants to go on."""

    def __init__(self, desk: Desk, market: Market, days: Sequence[Session], chance: Random) -> None:
        self._desk = desk
        self._blotter: Blotter = desk.blotter
        self._market = market
        self._days = days
        self._opens = [session.open for session in days]
        self._chance = chance
        self._names = count(1)
        self._open: Counter[str] = Counter()
        self._signs: dict[str, int] = {}

    def trade(self, at: int, session: Session) -> Script:
        """Trade once, from an entry at `at` within `session` until the position is closed."""
        symbol = self._chance.choice(self._market.symbols)
        if self._open[symbol] and self._chance.random() < 0.6:
            return
        ticket = self._ticket(symbol, at)
        if ticket is None:
            return
        self._open[symbol] += 1
        self._signs[symbol] = ticket.sign
        entry = self._desk.write(ticket, at)
        at += self._delay()
        yield at
        self._blotter.accept(entry, self._blotter.moment(at))
        entry = yield from self._enter(entry, session)
        if entry.filled_qty:
            yield from self._leave(entry, ticket)
        self._open[symbol] -= 1

    def _ticket(self, symbol: str, at: int) -> Ticket | None:
        """Return a trade whose stop costs a fixed share of the equity, None if that buys no share."""
        price = self._market.price_ns(symbol, at)
        sign = self._signs[symbol] if self._open[symbol] else self._side(symbol, price, at)
        risk = on_tick(price * self._fraction(0.012, 0.03)) + CENT
        reward = on_tick(risk * Decimal(self._chance.choice(("0.9", "1", "1.2", "1.5", "1.5", "2.5"))))
        kind = self._chance.random()
        order_class = "bracket" if kind < 0.8 else "oto" if kind < 0.88 else ""
        limit = None
        if order_class == "bracket" and self._chance.random() < 0.6:
            limit = on_tick(price * (1 - sign * self._fraction(-0.001, 0.006)))
        base = limit or price
        stop = on_tick(base - sign * risk)
        equity = self._book_value()
        qty = min(equity * RISK_SHARE / risk, equity * VALUE_SHARE / price) // 1
        if qty < 1:
            return None
        return Ticket(
            asset=self._market.assets[symbol],
            side="buy" if sign > 0 else "sell",
            type="market" if limit is None else "limit",
            time_in_force="gtc",
            order_class=order_class,
            qty=qty,
            limit_price=limit,
            take_profit=None if order_class == "oto" else on_tick(base + sign * reward),
            stop_loss=stop,
            stop_loss_limit=_stop_limit(stop, sign) if self._chance.random() < 0.1 else None,
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

    def _enter(self, entry: Order, session: Session) -> Part[Order]:
        """Fill the entry now or when its limit is touched, else chase or cancel it; return what remained."""
        at = entry.updated + 120 * MILLISECOND
        price, limit = self._market.price_ns(entry.symbol, at), entry.limit_price
        if limit is None or entry.sign * (limit - price) >= 0:
            yield from self._fill(entry, price, at)
            return entry
        touch = self._touch(entry.symbol, at, session.close - 20 * MINUTE, {limit: -entry.sign})
        if touch is not None:
            yield touch[0]
            yield from self._fill(entry, limit, touch[0])
            return entry
        at = session.close - 15 * MINUTE
        yield at
        if self._chance.random() < 0.4:
            return (yield from self._chase(entry, at))
        yield from self._cancel(entry, at)
        return entry

    def _chase(self, entry: Order, at: int) -> Part[Order]:
        """Move an unfilled limit to the market, where it fills; exits keep their prices if they still fit."""
        price = self._market.price_ns(entry.symbol, at)
        legs = [self._blotter.book.by_id[leg_id] for leg_id in entry.legs]
        bounds = [leg.limit_price if leg.role == "take_profit" else leg.stop_price for leg in legs]
        if price == entry.limit_price or not min(map(_known, bounds)) < price < max(map(_known, bounds)):
            yield from self._cancel(entry, at)
            return entry
        chaser = self._desk.replace(entry.id, {"limit_price": str(price)}, at)
        at += 3 * self._delay()
        yield at
        self._blotter.finish_replace(entry, self._blotter.moment(at))
        yield from self._fill(chaser, price, at + SECOND)
        return chaser

    def _leave(self, entry: Order, ticket: Ticket) -> Part[None]:
        """Hold the position until an exit is touched or patience ends, moving the stop on the way."""
        at = entry.filled or entry.updated
        target, stop = self._exits(entry)
        if stop is None:
            at = self._in_session(at + self._chance.randint(2, 90) * MINUTE)
            yield at
            target, stop = self._attach_oco(entry, ticket, at)
        hours = min(self._chance.expovariate(1 / PATIENCE_H) + 1, PATIENCE_MAX_H)
        patience = at + int(hours * HOUR)
        moves = self._moves(entry, stop)
        while True:
            touch = self._touch(entry.symbol, at, patience, _levels(entry, target, stop, moves))
            if touch is None:
                yield from self._give_up(entry, target or stop, self._in_session(patience))
                return
            at, level = touch
            yield at
            if level == stop.stop_price:
                elected = self._blotter.elect(stop, self._blotter.moment(at))
                yield from self._fill(elected, self._market.price_ns(entry.symbol, at), at)
                return
            if target is not None and level == target.limit_price:
                yield from self._fill(target, level, at)
                return
            stop = yield from self._move_stop(stop, moves.pop(0)[1], at)

    def _exits(self, entry: Order) -> tuple[Order | None, Order | None]:
        legs = {leg.role: leg for leg in map(self._blotter.book.by_id.__getitem__, entry.legs)}
        return legs.get("take_profit"), legs.get("stop_loss")

    def _attach_oco(self, entry: Order, ticket: Ticket, at: int) -> tuple[Order, Order]:
        """Protect a plain position with a pair around the price of the moment."""
        price = self._market.price_ns(entry.symbol, at)
        risk = abs((ticket.take_profit or price) - (ticket.stop_loss or price)) / 2 + CENT
        root = self._desk.write(
            Ticket(
                asset=ticket.asset,
                side="sell" if entry.sign > 0 else "buy",
                type="limit",
                time_in_force="gtc",
                order_class="oco",
                qty=entry.filled_qty,
                take_profit=on_tick(price + entry.sign * risk),
                stop_loss=on_tick(price - entry.sign * risk),
            ),
            at,
        )
        self._blotter.accept(root, self._blotter.moment(at))
        return root, self._blotter.book.by_id[root.legs[0]]

    def _moves(self, entry: Order, stop: Order) -> list[Move]:
        """Return (price to wait for, stop to set then): break-even after 1 R, then behind the price."""
        average = entry.filled_avg_price
        if stop.stop_price is None or average is None or self._chance.random() > 0.45:
            return []
        risk = entry.sign * (average - stop.stop_price)
        if risk <= ZERO:
            return []
        steps = [(Decimal(1), -entry.sign * CENT)]
        steps += [
            (Decimal(reach), entry.sign * risk * Decimal(kept))
            for reach, kept in (("1.4", "0.5"), ("1.8", "0.9"))
            if self._chance.random() < 0.6
        ]
        return [(on_tick(average + entry.sign * risk * reach), on_tick(average + gain)) for reach, gain in steps]

    def _move_stop(self, stop: Order, price: Decimal, at: int) -> Part[Order]:
        changes = {"stop_price": str(price)}
        if stop.limit_price is not None:
            changes["limit_price"] = str(_stop_limit(price, -stop.sign))
        moved = self._desk.replace(stop.id, changes, at)
        at += 3 * self._delay()
        yield at
        self._blotter.finish_replace(stop, self._blotter.moment(at))
        return moved

    def _give_up(self, entry: Order, exit_order: Order, at: int) -> Part[None]:
        """Cancel the exits and leave at the market."""
        yield at
        yield from self._cancel(exit_order, at)
        at += SECOND
        leaving = self._desk.write(
            Ticket(
                asset=self._market.assets[entry.symbol],
                side="sell" if entry.sign > 0 else "buy",
                qty=entry.filled_qty,
            ),
            at,
        )
        at += self._delay()
        yield at
        self._blotter.accept(leaving, self._blotter.moment(at))
        yield from self._fill(leaving, self._market.price_ns(entry.symbol, at), at)

    def _cancel(self, order: Order, at: int) -> Part[None]:
        self._blotter.request_cancel(order, self._blotter.moment(at))
        at += 2 * self._delay()
        yield at
        self._blotter.finish_cancel(order, self._blotter.moment(at))

    def _fill(self, order: Order, price: Decimal, at: int) -> Part[None]:
        """Fill the whole order in one to three slices, fractions of a second apart."""
        for _ in range(2):
            if order.rest > 2 and self._chance.random() < 0.3:
                part = Decimal(max(int(order.rest * self._fraction(0.2, 0.7)), 1))
                self._blotter.fill(order, part, price, self._blotter.moment(at))
                at += self._chance.randint(40, 900) * MILLISECOND
                yield at
        self._blotter.fill(order, order.rest, price, self._blotter.moment(at))

    def _touch(self, symbol: str, at: int, until: int, levels: Levels) -> tuple[int, Decimal] | None:
        """Return when the price first reaches a level (from below for +1, from above for -1), and which."""
        before, place = self._market.price_ns(symbol, at), at
        for moment in self._grid(at, until):
            price = self._market.price_ns(symbol, moment)
            reached = [level for level, sign in levels.items() if sign * (price - level) >= 0]
            if reached:
                level = min(reached, key=lambda level: abs(level - before))
                return self._refine(symbol, place, moment, level, levels[level]), level
            before, place = price, moment
        return None

    def _refine(self, symbol: str, low: int, high: int, level: Decimal, sign: int) -> int:
        session = self._days[bisect_right(self._opens, high) - 1]
        low = max(low, session.open)
        while high - low > 10 * SECOND:
            middle = (low + high) // 2
            if sign * (self._market.price_ns(symbol, middle) - level) >= 0:
                high = middle
            else:
                low = middle
        return high

    def _grid(self, at: int, until: int) -> Iterator[int]:
        for session in self._days[max(bisect_right(self._opens, at) - 1, 0) :]:
            if session.open > until:
                return
            start = max(session.open + SECOND, at)
            yield from range(start, min(session.close - MINUTE, until), GRID)

    def _in_session(self, at: int) -> int:
        """Return this moment if the exchange is open for another while, else the next opening."""
        place = bisect_right(self._opens, at) - 1
        if place >= 0 and at < self._days[place].close - 5 * MINUTE:
            return at
        place = bisect_left(self._opens, at)
        return self._opens[place] + 3 * MINUTE if place < len(self._opens) else at

    def _delay(self) -> int:
        return self._chance.randint(15, 60) * MILLISECOND

    def _fraction(self, low: float, high: float) -> Decimal:
        return Decimal(f"{self._chance.uniform(low, high):.4f}")


def _levels(entry: Order, target: Order | None, stop: Order, moves: Sequence[Move]) -> dict[Decimal, int]:
    levels = {moves[0][0]: entry.sign} if moves else {}
    if target is not None and target.limit_price is not None:
        levels[target.limit_price] = entry.sign
    if stop.stop_price is not None:
        levels[stop.stop_price] = -entry.sign
    return levels


def _stop_limit(stop: Decimal, sign: int) -> Decimal:
    """Return a limit one percent beyond a stop, for a position of this sign."""
    return on_tick(stop * (1 - sign * CENT))


def _known(bound: Decimal | None) -> Decimal:
    return bound or ZERO

"""What matters for a flatten beside the broker's own lists: prices, session, latch, stop moves, the kill file.

Reads, and judges prices by the rule for all prices; decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from psycopg import AsyncConnection

from coldharbour import store as kernel_store
from coldharbour.accounts import AccountContext
from coldharbour.broker import Position
from coldharbour.feed.substitutes import Substitutes
from coldharbour.live.model import ZERO
from coldharbour.risk.flattening import store
from coldharbour.risk.flattening.decision import client_order_id, seconds_left
from coldharbour.risk.flattening.model import Around, Request, Rules, Run, Scene, Sight, Target
from coldharbour.risk.model import MarketView
from coldharbour.risk.prices import price_problem, quiet_problem
from coldharbour.sessions import MarketSession, Phase, Schedule


class Surroundings:
    """The surroundings of one account."""

    def __init__(self, ctx: AccountContext, rules: Rules) -> None:
        self._ctx, self._rules, self._slug = ctx, rules, ctx.destination.slug
        self._substitutes = Substitutes(ctx.prices, ctx.market_db, ctx.broker)
        self._positions: dict[str, Position] = {}

    async def scenes(
        self, run: Run, targets: Sequence[Target], requests: Sequence[Request], sight: Sight
    ) -> tuple[list[Scene], Around]:
        """Return all that is known now of each target, and of the account."""
        now = self._ctx.clock.now()
        self._positions = dict(sight.positions)
        await self._seed_prices([each.symbol for each in targets], now)
        async with self._ctx.db.transaction() as conn:
            stops, session = await store.unsettled_stops(conn, self._slug), await self.session(conn)
            stands = await store.stands(conn, run)
        scenes = [self._scene(run, target, requests, sight, stops) for target in targets]
        closes_in_s = seconds_left(run, session, now)
        return scenes, Around(now=now, stands=stands, closes_in_s=closes_in_s, kept_back=self._kept_back())

    async def session(self, conn: AsyncConnection) -> MarketSession | None:
        """Return the session that began last."""
        sessions = await kernel_store.sessions_of(conn, self._ctx.destination.market)
        return Schedule(sessions).session_at(self._ctx.clock.now())

    def learn(self, position: Position) -> None:
        """Take over a newer look at a position: its price is the second source."""
        self._positions[position.symbol] = position

    def lacks_price(self, symbols: Iterable[str]) -> bool:
        """Return whether the feed has brought nothing yet, or there never was a price of one of these."""
        prices = self._ctx.prices
        return prices.heard_at is None or any(prices.last(symbol) is None for symbol in symbols)

    def why_not(self, symbol: str) -> str:
        """Return why nothing may be sent for a symbol at this very moment, "" if it may."""
        if self._ctx.phase() is not Phase.REGULAR:
            return "the regular session is not on"
        return self._kept_back() or self._price_problem(symbol) or ""

    def _scene(
        self, run: Run, target: Target, requests: Sequence[Request], sight: Sight, stops: dict[str, str]
    ) -> Scene:
        symbol = target.symbol
        position = sight.positions.get(symbol)
        free = position.qty_available if position else None
        return Scene(
            target=target,
            held=position.signed_qty if position else ZERO,
            available=None if free is None else abs(free),
            orders=tuple(order for order in sight.orders.values() if order.symbol == symbol),
            closing=sight.closings.get(client_order_id(run, symbol)),
            requests=tuple(each for each in requests if each.symbol == symbol),
            stop_move=stops.get(symbol, ""),
            price_problem=self._price_problem(symbol),
        )

    async def _seed_prices(self, symbols: Sequence[str], now: datetime) -> None:
        """Look elsewhere for the prices of symbols that the stream does not tell of, or that seem not to trade."""
        rule = self._rules.prices
        oldest = timedelta(seconds=min(rule.max_price_age_s, rule.max_quiet_s))
        await self._substitutes.seed(symbols, now, oldest)

    def _price_problem(self, symbol: str) -> str | None:
        prices, position = self._ctx.prices, self._positions.get(symbol)
        last = prices.last(symbol)
        market = MarketView(
            as_of=self._ctx.clock.now(), feed_silent_s=None if prices.heard_at is None else prices.silent_s,
            price=last.price if last else None, traded_at=last.at if last else None,
            last_trade=position.current_price if position else None,
        )  # fmt: skip
        return price_problem(market, self._rules.prices) or quiet_problem(market, self._rules.prices)

    def _kept_back(self) -> str:
        if self._rules.is_dry_run:
            return "the account is not armed any more, or in dry run"
        return f"the file {self._rules.kill_file} exists" if self._rules.kill_file.exists() else ""

"""Prices from elsewhere than the stream, for symbols it says nothing of: a table of trades, else the broker."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

import psycopg
import structlog

from coldharbour.broker import Broker, BrokerRefused, LatestTrade
from coldharbour.connect import one_line
from coldharbour.db import Database
from coldharbour.errors import Transient
from coldharbour.feed import store
from coldharbour.feed.prices import Prices

LOOK_BACK = timedelta(days=7)  # in the table; whatever did not trade since is asked of the broker
FREE_FEED = "iex"  # what an account may read that has no subscription to all exchanges

log = structlog.get_logger(__name__)


class Substitutes:
    """Seeds the price book. market_db: where the table of trades stands, if it does anywhere."""

    def __init__(self, prices: Prices, market_db: Database, broker: Broker) -> None:
        self._prices, self._market_db, self._broker = prices, market_db, broker
        self._feed: str | None = None
        self._failing = False

    async def seed(self, symbols: Collection[str], now: datetime, max_age: timedelta) -> None:
        """Look for a price of every symbol that has none, or one older than max_age; what cannot be had is left out.

        A failure is logged once, and its end too: the stream goes on without it.
        """
        if missing := list(self._old(symbols, now - max_age)):
            await self._from_table(missing, now - LOOK_BACK)
        if missing := list(self._old(missing, now - max_age)):
            await self._from_broker(missing)

    def _old(self, symbols: Collection[str], since: datetime) -> Iterator[str]:
        for symbol in symbols:
            last = self._prices.last(symbol)
            if last is None or last.at < since:
                yield symbol

    async def _from_table(self, symbols: Collection[str], since: datetime) -> None:
        try:
            async with self._market_db.transaction() as conn:
                found = await store.newest_trades(conn, symbols, since)
        except (Transient, psycopg.Error) as error:  # whatever is wrong with a table that need not be there
            self._note(error)
            return
        for trade in found:
            self._prices.seed(trade.symbol, trade.price, trade.at)

    async def _from_broker(self, symbols: Collection[str]) -> None:
        try:
            trades = await self._latest_trades(list(symbols))
        except (Transient, BrokerRefused) as error:
            self._note(error)
            return
        self._note(None)
        for trade in trades.values():
            self._prices.seed(trade.symbol, trade.price, trade.at)

    async def _latest_trades(self, symbols: Sequence[str]) -> Mapping[str, LatestTrade]:
        """Ask the broker, and again at once where the account may read the free feed alone."""
        try:
            return await self._broker.latest_trades(symbols, feed=self._feed)
        except BrokerRefused as error:
            if error.status != 403 or self._feed is not None:
                raise
        self._feed = FREE_FEED
        return await self._broker.latest_trades(symbols, feed=self._feed)

    def _note(self, error: Exception | None) -> None:
        if error is not None and not self._failing:
            log.warning("prices.no_substitutes", error=one_line(error))
        elif error is None and self._failing:
            log.info("prices.substitutes_again")
        self._failing = error is not None

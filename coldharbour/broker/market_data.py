"""Alpaca's market data API as methods: latest trades, bars, announced corporate actions; reads, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import date, datetime
from typing import Final, TypeVar

from coldharbour.broker import translate
from coldharbour.broker.budget import Priority
from coldharbour.broker.exchange import Exchange
from coldharbour.broker.model import Bar, CorporateAction, LatestTrade
from coldharbour.broker.pages import StuckWalk
from coldharbour.broker.parameters import given, stamp

T = TypeVar("T")

BARS_LIMIT: Final = 10_000
SYMBOLS_LIMIT: Final = 500
ACTION_SYMBOLS_LIMIT: Final = 100
ACTIONS_LIMIT: Final = 1000
ACTION_TYPES: Final = (
    "reverse_split", "forward_split", "unit_split", "stock_dividend", "spin_off", "cash_merger", "stock_merger",
    "stock_and_cash_merger", "redemption", "name_change", "worthless_removal", "rights_distribution",
)  # fmt: skip


class MarketDataApi:
    """The calls to the market data host, through an exchange.

    Every read raises BrokerUnavailable (Transient) after its last try, and BrokerRefused for a definite no.
    """

    _market: Exchange

    async def latest_trades(
        self, symbols: Sequence[str], *, feed: str | None = None, priority: Priority = Priority.HEAL
    ) -> dict[str, LatestTrade]:
        """Return the latest trade by symbol; unknown symbols are missing from the result."""
        found: dict[str, LatestTrade] = {}
        for start in range(0, len(symbols), SYMBOLS_LIMIT):
            params = {"symbols": ",".join(symbols[start : start + SYMBOLS_LIMIT]), **given(feed=feed)}
            found |= await self._market.read(
                "/v2/stocks/trades/latest", translate.latest_trades, params, priority=priority
            )
        return found

    async def bars(
        self,
        symbols: Sequence[str],
        timeframe: str,
        start: datetime,
        end: datetime | None = None,
        *,
        adjustment: str = "raw",
        feed: str | None = None,
        priority: Priority = Priority.BULK,
    ) -> dict[str, tuple[Bar, ...]]:
        """Return the bars by symbol, oldest first, bounds included, merged over all pages.

        timeframe: such as 1Min or 1Day. Raises StuckWalk (Transient) on a page token that repeats.
        """
        fixed = {
            "symbols": ",".join(symbols),
            "timeframe": timeframe,
            "adjustment": adjustment,
            "limit": str(BARS_LIMIT),
            **given(start=stamp(start), end=stamp(end), feed=feed),
        }
        merged: dict[str, list[Bar]] = {}
        async for page in self._market_pages("/v2/stocks/bars", translate.bars_page, fixed, priority):
            for symbol, bars in page.items():
                merged.setdefault(symbol, []).extend(bars)
        return {symbol: tuple(bars) for symbol, bars in merged.items()}

    async def corporate_actions(
        self, symbols: Sequence[str], start: date, end: date, *, priority: Priority = Priority.BULK
    ) -> tuple[CorporateAction, ...]:
        """Return what is announced for symbols, cash dividends apart, and booked from start to end, both included.

        The broker promises neither that it knows of every action nor when. Raises StuckWalk (Transient) on a page token
        that repeats.
        """
        found: list[CorporateAction] = []
        for first in range(0, len(symbols), ACTION_SYMBOLS_LIMIT):
            fixed = {
                "symbols": ",".join(symbols[first : first + ACTION_SYMBOLS_LIMIT]),
                "types": ",".join(ACTION_TYPES),
                "start": start.isoformat(),
                "end": end.isoformat(),
                "limit": str(ACTIONS_LIMIT),
            }
            path = "/v1/corporate-actions"
            async for page in self._market_pages(path, translate.corporate_actions_page, fixed, priority):
                found.extend(page)
        return tuple(found)

    async def _market_pages(
        self, path: str, read: Callable[[bytes], tuple[T, str | None]], fixed: Mapping[str, str], priority: Priority
    ) -> AsyncIterator[T]:
        token: str | None = None
        used: set[str] = set()
        while True:
            page, token = await self._market.read(path, read, {**fixed, **given(page_token=token)}, priority=priority)
            yield page
            if token is None:
                return
            if token in used:
                raise StuckWalk(path.rpartition("/")[2], token)
            used.add(token)

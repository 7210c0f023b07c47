"""The newest price of each symbol that an account needs one of; asks no broker."""

from __future__ import annotations

from collections.abc import Iterable

from psycopg import AsyncConnection

from coldharbour.metrics import store
from coldharbour.metrics.market import Source
from coldharbour.metrics.store import Price


async def newest_prices(conn: AsyncConnection, source: Source, slug: str, symbols: Iterable[str]) -> dict[str, Price]:
    """Return what is known now: the open trades' market prices, or what the price stream told since.

    An open trade shows moves below the push threshold only with the next flush, and nothing of a symbol that is no
    longer held; the stream itself knows.
    """
    prices = await store.market_prices(conn, slug)
    for symbol in symbols:
        told, known = source.last(symbol), prices.get(symbol)
        if told is not None and (known is None or told.at > known.at):
            prices[symbol] = Price(told.price, told.at)
    return prices

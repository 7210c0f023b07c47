"""The market data API: paths, paging and JSON numbers of Alpaca's data v2; owns no price."""

from __future__ import annotations

import base64
import binascii
import itertools
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache

import anyio.lowlevel
from litestar import get
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler

from .announcements import listing
from .bars import Bar
from .broker import SimulatedBroker
from .digits import tick_of
from .market import Market, Tick
from .query import Query, parse_moment
from .refusals import Refused
from .stamps import NEW_YORK, moment_of

JSON = dict[str, object]
Arguments = NamedDependency[Query]
Broker = NamedDependency[SimulatedBroker]
MICROSECOND, MINUTE = timedelta(microseconds=1), timedelta(minutes=1)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BARS_A_BREATH = 16  # a cold bar takes milliseconds, and the streams must not wait for a year of them
TIMEFRAME = re.compile(r"(\d{1,2})(Min|T|Hour|H|Day|D|Week|W|Month|M)")
UNITS = {"M": MINUTE, "T": MINUTE, "H": HOUR, "D": DAY}


@get("/v2/stocks/trades/latest", sync_to_thread=False)
def latest_trades(broker: Broker, arguments: Arguments) -> JSON:
    market = broker.market
    return {"trades": {symbol: trade_row(market.last(symbol)) for symbol in _symbols(arguments, market)}}


@get("/v2/stocks/quotes/latest", sync_to_thread=False)
def latest_quotes(broker: Broker, arguments: Arguments) -> JSON:
    market = broker.market
    return {"quotes": {symbol: quote_row(market.last(symbol)) for symbol in _symbols(arguments, market)}}


@get("/v2/stocks/bars/latest", sync_to_thread=False)
def latest_bars(broker: Broker, arguments: Arguments) -> JSON:
    market = broker.market
    rows = {symbol: _newest(market, symbol, MINUTE) for symbol in _symbols(arguments, market)}
    return {"bars": {symbol: bar_row(bars[-1]) for symbol, bars in rows.items() if bars}}


@get("/v2/stocks/snapshots", sync_to_thread=False)
def snapshots(broker: Broker, arguments: Arguments) -> JSON:
    return {symbol: _snapshot(broker.market, symbol) for symbol in _symbols(arguments, broker.market)}


@get("/v2/stocks/bars")
async def bars(broker: Broker, arguments: Arguments) -> JSON:
    """Answer one page: sorted by symbol, then time; `limit` counts the bars of all symbols together."""
    limit = arguments.integer("limit", 1000, most=10_000)
    reverse = arguments.choice("sort", "asc", "desc") == "desc"
    seen = _read_token(arguments.text("page_token"))
    page: list[tuple[str, Bar]] = []
    for row in _all_bars(broker.market, arguments, reverse=reverse, seen=seen):
        page.append(row)
        if len(page) > limit:
            break
        if len(page) % BARS_A_BREATH == 0:
            await anyio.lowlevel.checkpoint()
    merged: dict[str, list[JSON]] = {}
    for symbol, bar in page[:limit]:
        merged.setdefault(symbol, []).append(bar_row(bar))
    token = _write_token(*page[limit - 1]) if len(page) > limit else None
    return {"bars": merged, "next_page_token": token}


@get("/v1/corporate-actions", sync_to_thread=False)
def corporate_actions(broker: Broker, arguments: Arguments) -> JSON:
    """Answer one page of announcements, by kind; the token is how many came before."""
    today = moment_of(broker.now()).astimezone(NEW_YORK).date()
    found = listing(
        broker.announced, symbols=arguments.csv("symbols"), types=arguments.csv("types"),
        start=arguments.day("start") or today, end=arguments.day("end") or today,
    )  # fmt: skip
    limit, begin = arguments.integer("limit", 100, most=1000), arguments.integer("page_token", 0, most=10**6, least=0)
    groups: dict[str, list[JSON]] = {}
    for each in found[begin : begin + limit]:
        groups.setdefault(f"{each.kind}s", []).append(each.row())
    token = str(begin + limit) if begin + limit < len(found) else None
    return {"corporate_actions": groups, "next_page_token": token}


MARKET_DATA: list[HTTPRouteHandler] = [latest_trades, latest_quotes, latest_bars, snapshots, bars, corporate_actions]


def trade_row(tick: Tick) -> JSON:
    """Return a trade as the data API shows it."""
    return {
        "t": _rfc3339(tick.at), "x": "V", "p": float(tick.price), "s": tick.size,
        "c": list(tick.conditions),
        "i": int(tick.at.timestamp() * 1000) % 2**31, "z": "C",
    }  # fmt: skip


def quote_row(tick: Tick) -> JSON:
    """Return the quote around a trade: one tick to each side."""
    gap = tick_of(tick.price)
    return {
        "t": _rfc3339(tick.at), "ax": "V", "ap": float(tick.price + gap), "as": 200,
        "bx": "V", "bp": float(tick.price - gap), "bs": 200, "c": ["R"], "z": "C",
    }  # fmt: skip


def bar_row(bar: Bar) -> JSON:
    """Return a bar as the data API shows it."""
    return {
        "t": _rfc3339(bar.at), "o": float(bar.open), "h": float(bar.high), "l": float(bar.low),
        "c": float(bar.close), "v": bar.volume, "n": bar.trades, "vw": float(bar.vwap),
    }  # fmt: skip


def _snapshot(market: Market, symbol: str) -> JSON:
    tick = market.last(symbol)
    minutes, days = _newest(market, symbol, MINUTE), _newest(market, symbol, DAY)
    return {
        "latestTrade": trade_row(tick),
        "latestQuote": quote_row(tick),
        "minuteBar": bar_row(minutes[-1]) if minutes else None,
        "dailyBar": bar_row(days[-1]) if days else None,
        "prevDailyBar": bar_row(days[-2]) if len(days) > 1 else None,
    }


def _symbols(arguments: Query, market: Market) -> list[str]:
    """Return the known ones of the symbols asked for, sorted; unknown ones are just missing."""
    return sorted(set(arguments.csv("symbols")) & market.assets.keys())


def _newest(market: Market, symbol: str, step: timedelta) -> list[Bar]:
    """Return the last few bars up to the newest trade, the running one included."""
    at = market.last(symbol).at
    span = DAY * 6 if step >= DAY else timedelta(minutes=2)
    return list(_bars(market, symbol, (at - span, at), step))


def _all_bars(
    market: Market, arguments: Query, *, reverse: bool, seen: tuple[str, datetime] | None
) -> Iterator[tuple[str, Bar]]:
    count, unit = _timeframe(arguments.text("timeframe") or "")
    symbols = _symbols(arguments, market)
    for symbol in symbols:
        if seen is not None and symbol < seen[0]:
            continue
        now = moment_of(market.now)
        start = arguments.moment("start") or now.replace(hour=0, minute=0, second=0, microsecond=0)
        end = min(arguments.moment("end") or now, now)
        rows: Iterable[Bar] = _framed(market, symbol, (start, end), (count, unit))
        for bar in reversed(list(rows)) if reverse else rows:
            if seen is None or symbol > seen[0] or (bar.at < seen[1] if reverse else bar.at > seen[1]):
                yield symbol, bar


def _framed(market: Market, symbol: str, span: tuple[datetime, datetime], frame: tuple[int, str]) -> Iterator[Bar]:
    """Yield the bars of a timeframe; weeks and months are built from days, as Alpaca does."""
    count, unit = frame
    if unit in UNITS:
        yield from _bars(market, symbol, span, count * UNITS[unit])
        return
    days = _bars(market, symbol, span, DAY)
    for _, group in itertools.groupby(days, lambda bar: _period(bar.at, count, unit)):
        yield _merged(list(group))


def _period(at: datetime, count: int, unit: str) -> tuple[int, int]:
    if unit == "W":
        return at.isocalendar()[:2]
    return at.year, (at.month - 1) // count


def _bars(market: Market, symbol: str, span: tuple[datetime, datetime], step: timedelta) -> Iterator[Bar]:
    """Yield bars up to the present; the one it falls into ends with it."""
    start, end = span
    now = moment_of(market.now)
    end = min(end, now)
    width = DAY if step >= HOUR else HOUR
    block = EPOCH + (start - EPOCH) // width * width
    while block <= end:
        following = block + width
        if following + step <= now:  # no bar of the block will ever change
            for bar in _past_bars(market, symbol, block, following, step):
                if start <= bar.at <= end:
                    yield bar
        else:
            last = min(end, following - MICROSECOND)
            yield from market.bars.between(symbol, max(start, block), last, step, now=market.now)
        block = following


@lru_cache(maxsize=2_048)  # hours of minute bars: 45 kB each
def _past_bars(market: Market, symbol: str, start: datetime, following: datetime, step: timedelta) -> tuple[Bar, ...]:
    return tuple(market.bars.between(symbol, start, following - MICROSECOND, step))


def _merged(parts: list[Bar]) -> Bar:
    volume = sum(part.volume for part in parts)
    return Bar(
        at=min(part.at for part in parts),
        open=parts[0].open,
        high=max(part.high for part in parts),
        low=min(part.low for part in parts),
        close=parts[-1].close,
        volume=volume,
        trades=sum(part.trades for part in parts),
        vwap=sum((part.vwap * part.volume for part in parts), start=Decimal(0)) / max(volume, 1),
    )


def _timeframe(text: str) -> tuple[int, str]:
    found = TIMEFRAME.fullmatch(text)
    if found is None or int(found[1]) == 0:
        raise Refused(400, 40010000, f"invalid timeframe: {text}")
    unit = "MO" if found[2] in {"Month", "M"} else found[2][0]
    return int(found[1]), unit


def _write_token(symbol: str, bar: Bar) -> str:
    return base64.urlsafe_b64encode(f"{symbol}|{bar.at.isoformat()}".encode()).decode()


def _read_token(token: str | None) -> tuple[str, datetime] | None:
    if token is None:
        return None
    try:
        symbol, _, at = base64.urlsafe_b64decode(token).decode().partition("|")
    except (binascii.Error, UnicodeDecodeError):
        raise Refused(400, 40010000, "invalid page_token") from None
    return symbol, parse_moment(at, "page_token")


def _rfc3339(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")

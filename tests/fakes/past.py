"""A broker that knows a market's past and nothing else: calendar and bars, and what it was asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from random import Random
from typing import Any

import httpx
from pydantic import SecretStr

from coldharbour.broker import Broker
from coldharbour.clock import SystemClock
from coldharbour.sessions import NEW_YORK

DAILY, MINUTELY = "1Day", "1Min"
Refusal = tuple[int, dict[str, Any]]

UNKNOWN_SYMBOL: Refusal = (400, {"code": 40010000, "message": "invalid symbol"})
NOT_IN_THE_PLAN: Refusal = (403, {"code": 42210000, "message": "subscription does not permit querying recent SIP data"})


class MarketPast:
    """Session days, and closes by timeframe, symbol and moment. Change them as the story needs.

    refusals: symbol or timeframe -> status and body. asked: (path, parameters) of every request.
    """

    def __init__(self, days: Iterable[date] = ()) -> None:
        self.days = list(days)
        self.closes: dict[str, dict[str, dict[datetime, str]]] = {DAILY: {}, MINUTELY: {}}
        self.refusals: dict[str, Refusal] = {}
        self.is_down = False
        self.meanwhile: Callable[[], Awaitable[object]] | None = None  # happens once, while bars are asked for
        self.asked: list[tuple[str, dict[str, str]]] = []

    def close(self, day: date, **prices: str) -> None:
        """Give symbols a close of a day."""
        for symbol, price in prices.items():
            self.closes[DAILY].setdefault(symbol, {})[_midnight(day)] = price

    def minute(self, at: datetime, **prices: str) -> None:
        """Give symbols the bar of a minute."""
        for symbol, price in prices.items():
            self.closes[MINUTELY].setdefault(symbol, {})[at] = price

    def asked_for(self, timeframe: str) -> list[tuple[str, str, str]]:
        """Return (symbols, start, end) of the requests for bars; both days only."""
        return [
            (told["symbols"], told["start"][:10], told["end"][:10])
            for path, told in self.asked
            if path.endswith("/bars") and told["timeframe"] == timeframe
        ]

    def broker(self) -> Broker:
        """Return a client whose requests end here; it gives up at once."""
        return Broker(
            base_url="https://broker.example",
            data_url="https://data.example",
            key_id="key",
            secret=SecretStr("secret"),
            clock=SystemClock(),
            random=Random(1),
            slug="paper",
            requests_per_min=1_000_000,
            transport=httpx.MockTransport(self._answer),
        )

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        told = dict(request.url.params)
        self.asked.append((request.url.path, told))
        if self.is_down:
            return httpx.Response(503, text="closed for repairs", headers={"Retry-After": "120"})
        if request.url.path == "/v2/calendar":
            days = [day for day in self.days if told["start"] <= str(day) <= told["end"]]
            return httpx.Response(200, json=[_day(day) for day in days])
        if self.meanwhile is not None:
            happens, self.meanwhile = self.meanwhile, None
            await happens()
        wanted = told["symbols"].split(",")
        for name in (told["timeframe"], *wanted):
            if name in self.refusals:
                status, body = self.refusals[name]
                return httpx.Response(status, json=body)
        first, last = (datetime.fromisoformat(told[name]) for name in ("start", "end"))
        known = self.closes[told["timeframe"]]
        bars = {symbol: _bars(known[symbol], first, last) for symbol in wanted if symbol in known}
        return httpx.Response(200, json={"bars": bars, "next_page_token": None})


def _day(day: date) -> dict[str, str]:
    return {"date": str(day), "open": "09:30", "close": "16:00", "session_open": "0400", "session_close": "2000"}


def _bars(closes: Mapping[datetime, str], first: datetime, last: datetime) -> list[dict[str, Any]]:
    return [
        {"t": at.isoformat(), "o": float(price), "h": float(price), "l": float(price), "c": float(price), "v": 1}
        for at, price in sorted(closes.items())
        if first <= at <= last
    ]


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), NEW_YORK).astimezone(UTC)


def sessions_between(first: date, last: date) -> list[date]:
    """Return the weekdays of a span."""
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    return [day for day in days if day.weekday() < 5]

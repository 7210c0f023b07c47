"""What bars say of the past: which question goes to whom, and what an answer that is a refusal costs."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import httpx
import psycopg
import pytest
from pydantic import SecretStr

from coldharbour.broker import Broker
from coldharbour.clock import SystemClock, VirtualClock
from coldharbour.db import Database, open_database
from coldharbour.errors import Transient
from coldharbour.feed.model import MinuteBar
from coldharbour.live.marks.book import Bounds, Wanted
from coldharbour.live.marks.coverage import Stretch
from coldharbour.live.marks.history import BarHistory
from coldharbour.sessions import MarketSession, session_of

pytestmark = pytest.mark.anyio

D = Decimal
OPENS, CLOSES = "13:30", "20:00"  # UTC, 9:30 to 16:00 in New York


def at(day: int, wall: str) -> datetime:
    return datetime.combine(datetime(2026, 10, day, tzinfo=UTC), time.fromisoformat(wall), UTC)


def session(day: int) -> MarketSession:
    return session_of(datetime(2026, 10, day, tzinfo=UTC).date(), time(9, 30), time(16, 0))


def part(day: int, start: str, end: str) -> Stretch:
    return Stretch(session(day), at(day, start), at(day, end))


@dataclass
class Exchange:
    """The data API: bars of some symbols, each price named by its symbol; what was asked for; whom it refuses."""

    refused: frozenset[str] = frozenset()
    needs_feed: str | None = None
    asked: list[dict[str, str]] = field(default_factory=list)
    bars: dict[str, list[tuple[datetime, str, str]]] = field(default_factory=dict)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        query = dict(request.url.params)
        self.asked.append(query)
        if self.needs_feed and query.get("feed") != self.needs_feed:
            return httpx.Response(403, json={"code": 42210000, "message": "subscription does not permit recent SIP"})
        symbols = query["symbols"].split(",")
        if self.refused & set(symbols):
            return httpx.Response(400, json={"message": "invalid symbol"})
        start, end = (datetime.fromisoformat(query[name]) for name in ("start", "end"))
        found = {
            symbol: [_bar(*bar) for bar in self.bars.get(symbol, ()) if start <= bar[0] <= end] for symbol in symbols
        }
        return httpx.Response(200, content=json.dumps({"bars": found, "next_page_token": None}))

    def broker(self) -> Broker:
        return Broker(
            base_url="http://broker", data_url="http://broker", key_id="key", secret=SecretStr("secret"),
            clock=VirtualClock(at(9, "21:00")), random=Random(1), slug="paper", transport=httpx.MockTransport(self),
        )  # fmt: skip

    def minute_bars(self) -> list[str]:
        return [query["symbols"] for query in self.asked if query["timeframe"] == "1Min"]


def _bar(begins: datetime, high: str, low: str) -> dict[str, Any]:
    return {"t": begins.isoformat(), "o": 1, "h": float(high), "l": float(low), "c": 1, "v": 1, "n": 1, "vw": 1}


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    async with open_database(database_url, name="test") as db:
        yield db


async def look_up(db: Database, exchange: Exchange, *wanted: Wanted) -> dict[Wanted, Bounds]:
    found: dict[Wanted, Bounds] = {}
    async with exchange.broker() as broker:
        async for answer in BarHistory(db, broker).bounds(wanted):
            found |= answer
    return found


async def test_parts_are_read_as_minutes_and_whole_sessions_as_days(db: Database) -> None:
    morning, whole = part(8, OPENS, "14:30"), part(7, OPENS, CLOSES)
    midnight = datetime(2026, 10, 7, 4, 0, tzinfo=UTC)
    exchange = Exchange(
        bars={"KO": [(midnight, "63", "60"), (at(8, "13:31"), "62", "61"), (at(8, "14:30"), "99", "1")]}
    )

    found = await look_up(db, exchange, ("KO", morning), ("KO", whole))

    assert found == {("KO", morning): Bounds(D(62), D(61)), ("KO", whole): Bounds(D(63), D(60))}
    assert sorted(query["timeframe"] for query in exchange.asked) == ["1Day", "1Min"]
    assert {query["adjustment"] for query in exchange.asked} == {"split"}


async def test_the_minute_in_which_a_stretch_ends_is_in_it(db: Database) -> None:
    stretch = part(8, "14:00", "14:30:20")

    found = await look_up(db, Exchange(bars={"KO": [(at(8, "14:30"), "62", "61")]}), ("KO", stretch))

    assert found == {("KO", stretch): Bounds(D(62), D(61))}


async def test_a_symbol_that_did_not_trade_is_found_to_have_no_bounds(db: Database) -> None:
    stretch = part(8, "14:00", "14:30")

    assert await look_up(db, Exchange(), ("QUIET", stretch)) == {("QUIET", stretch): Bounds()}


async def test_lots_of_one_day_are_read_together_and_each_gets_its_own_minutes(db: Database) -> None:
    early, late = part(8, "14:00", "15:00"), part(8, "14:30", "15:00")
    bars = [(at(8, "14:10"), "70", "50"), (at(8, "14:40"), "62", "61")]
    exchange = Exchange(bars={"KO": bars, "PEP": bars})

    found = await look_up(db, exchange, ("KO", early), ("PEP", late))

    assert found == {("KO", early): Bounds(D(70), D(50)), ("PEP", late): Bounds(D(62), D(61))}
    assert exchange.minute_bars() == ["KO,PEP"]


async def test_an_account_without_a_subscription_reads_the_free_feed_from_then_on(db: Database) -> None:
    stretches = [part(7, "14:00", "14:30"), part(8, "14:00", "14:30")]
    exchange = Exchange(needs_feed="iex", bars={"KO": [(at(8, "14:10"), "62", "61")]})

    found = await look_up(db, exchange, *(("KO", stretch) for stretch in stretches))

    assert found["KO", stretches[1]] == Bounds(D(62), D(61))
    assert [query.get("feed") for query in exchange.asked] == [None, "iex", "iex"]


async def test_a_symbol_that_the_broker_refuses_hides_no_other(db: Database) -> None:
    stretch = part(8, "14:00", "14:30")
    bars = {"KO": [(at(8, "14:10"), "62", "61")]}

    found = await look_up(
        db, Exchange(refused=frozenset({"BTC/USD"}), bars=bars), ("KO", stretch), ("BTC/USD", stretch)
    )

    assert found == {("KO", stretch): Bounds(D(62), D(61)), ("BTC/USD", stretch): Bounds()}


class TestTheTableOfBars:
    @staticmethod
    def collect(url: str, symbol: str, start: datetime, minutes: int) -> None:
        with psycopg.connect(url) as conn:
            conn.execute(
                "create table if not exists public.alpaca_bars_1min"
                " (symbol text, timestamp timestamptz, high float, low float)"
            )
            for number in range(minutes):
                conn.execute(
                    "insert into public.alpaca_bars_1min values (%s, %s, %s, %s)",
                    [symbol, start + timedelta(minutes=number), 62.5 + number / 100, 61.5 - number / 100],
                )

    async def test_the_broker_is_not_asked_for_what_it_has(self, db: Database, database_url: str) -> None:
        stretch = part(8, "14:00", "14:30")
        self.collect(database_url, "KO", at(8, "13:50"), 60)
        exchange = Exchange()

        found = await look_up(db, exchange, ("KO", stretch))

        assert found == {("KO", stretch): Bounds(D("62.89"), D("61.11"))}  # the minutes 10 to 39 after 13:50
        assert exchange.asked == []

    async def test_where_it_has_holes_the_broker_is_asked(self, db: Database, database_url: str) -> None:
        stretch = part(8, "14:00", "14:30")
        self.collect(database_url, "KO", at(8, "14:00"), 26)
        exchange = Exchange(bars={"KO": [(at(8, "14:10"), "70", "60")]})

        found = await look_up(db, exchange, ("KO", stretch))

        assert found == {("KO", stretch): Bounds(D(70), D(60))}

    async def test_minutes_come_from_it_and_those_of_stretches_with_holes_from_the_broker(
        self, db: Database, database_url: str
    ) -> None:
        kept, holed = part(7, "14:00", "14:02"), part(8, "14:00", "14:02")
        self.collect(database_url, "KO", at(7, "14:00"), 2)
        self.collect(database_url, "KO", at(8, "14:01"), 1)
        exchange = Exchange(bars={"KO": [(at(7, "14:00"), "99", "1"), (at(8, "14:00"), "70", "60")]})

        async with exchange.broker() as broker:
            found = await BarHistory(db, broker).minutes("KO", [kept, holed])

        assert found == {
            kept: [
                MinuteBar(at(7, "14:00"), D("62.5"), D("61.5")),
                MinuteBar(at(7, "14:01"), D("62.51"), D("61.49")),
            ],
            holed: [MinuteBar(at(8, "14:00"), D(70), D(60), D(1))],
        }

    async def test_a_server_that_is_away_has_none(self) -> None:
        stretch = part(8, "14:00", "14:30")
        exchange = Exchange(bars={"KO": [(at(8, "14:10"), "70", "60")]})
        async with open_database("host=127.0.0.1 port=1 user=nobody connect_timeout=1", name="away", min_size=0) as db:
            found = await look_up(db, exchange, ("KO", stretch))

        assert found == {("KO", stretch): Bounds(D(70), D(60))}


async def test_what_was_found_before_the_broker_failed_is_not_lost(db: Database) -> None:
    exchange = Exchange(bars={"KO": [(datetime(2026, 10, 7, 4, 0, tzinfo=UTC), "63", "60")]})

    def failing(request: httpx.Request) -> httpx.Response:
        return exchange(request) if request.url.params["timeframe"] == "1Day" else httpx.Response(503)

    rest = Broker(
        base_url="http://broker", data_url="http://broker", key_id="key", secret=SecretStr("secret"),
        clock=SystemClock(), random=Random(1), slug="paper", transport=httpx.MockTransport(failing), total_s=2,
    )  # fmt: skip
    async with rest as broker:
        found: dict[Wanted, Bounds] = {}
        wanted = [("KO", part(7, OPENS, CLOSES)), ("KO", part(8, "14:00", "14:30"))]

        async def look() -> None:
            async for answer in BarHistory(db, broker).bounds(wanted):
                found.update(answer)

        with pytest.raises(Transient):
            await look()

    assert list(found.values()) == [Bounds(D(63), D(60))]

"""The `prices` worker under the real kernel: from a trade on the wire to the row, the channel and the next start."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import anyio
import msgspec
import psycopg
import pytest
from coldharbour_plugins.simulator.broker import SimulatedBroker
from coldharbour_plugins.simulator.server import SimulatorAddress
from fakes.ingest import Station, recorded, simulated
from fakes.pricing import Lots, Publisher, open_all_day, publishing, trade_message
from pydantic import SecretStr

from coldharbour.broker import Broker
from coldharbour.clock import SystemClock
from coldharbour.db import MAX_PAYLOAD_BYTES, RESYNC

pytestmark = pytest.mark.anyio

D = Decimal
SLUG = "paper"
# Nothing of the wait is the product's own: a batch is a moment, and what waits for the flush waits for ever.
QUICK = "[workers.prices]\nbatch_s = 0.01\nflush_s = 1000\npoll_s = 1000\n"


@dataclass
class Bench:
    """One account whose lots the worker values, the stream it hears, and what came of it."""

    station: Station
    publisher: Publisher
    lots: Lots
    channel: list[dict[str, Any]]

    async def row(self, parent_id: str = "a") -> dict[str, Any]:
        """Return a row of the table."""
        [found] = await self.station.select("select * from accounts.open_trades where parent_id = %s", parent_id)
        return found

    async def until(self, parent_id: str = "a", **expected: object) -> dict[str, Any]:
        """Return a row of the table once it shows what is expected."""
        found: dict[str, Any] = {}

        async def shows() -> bool:
            nonlocal found
            found = await self.row(parent_id)
            return all(found[name] == value for name, value in expected.items())

        try:
            await self.station.until(shows)
        except TimeoutError:
            raise AssertionError(f"{expected} is not what stands there: {found}") from None
        return found

    async def until_told(self, is_it: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Return the first note on the channel that is the one."""

        async def look() -> dict[str, Any] | None:
            return next((note for note in self.channel if is_it(note)), None)

        found: dict[str, Any] = await self.station.until(look)
        return found


@asynccontextmanager
async def bench(
    url: str,
    folder: Path,
    prepare: Callable[[Lots], Awaitable[None]] | None = None,
    *,
    endpoint: str = "tcp://127.0.0.1:*",
    more: str = QUICK,
    market: tuple[SimulatedBroker, SimulatorAddress] | None = None,
) -> AsyncIterator[Bench]:
    """Run the worker beside a publisher of the test; `prepare` enters lots before it starts."""
    async with AsyncExitStack() as stack:
        publisher = await stack.enter_async_context(publishing(endpoint))
        broker, address = await stack.enter_async_context(simulated(SLUG)) if market is None else market
        tables = f'[feed]\nendpoint = "{publisher.endpoint}"\nmax_silence_s = 1000\n{more}'
        accounts = [(broker.accounts[SLUG], address)]
        folder.mkdir(exist_ok=True)  # noqa: ASYNC240  a test's own folder
        if prepare is not None:  # the first run makes the tables
            async with recorded(url, folder, accounts, tables, kinds=()) as stations:
                await prepare(Lots(stations[0].db))
        [station] = await stack.enter_async_context(recorded(url, folder, accounts, tables, kinds=("prices",)))
        channel = await stack.enter_async_context(_hearing(station))
        await publisher.until_subscribed()
        await station.until(_ready(station))
        yield Bench(station, publisher, Lots(station.db), channel)


def _ready(station: Station) -> Callable[[], Awaitable[bool]]:
    async def is_ready() -> bool:
        return await station.state("prices") == "ready"

    return is_ready


@asynccontextmanager
async def _hearing(station: Station) -> AsyncIterator[list[dict[str, Any]]]:
    heard: list[dict[str, Any]] = []
    started = anyio.Event()

    async def listen() -> None:
        async with station.db.listener() as listener, listener.subscribe(f"pos_channel_{SLUG}") as notes:
            async for note in notes:
                if note is RESYNC:
                    started.set()
                else:
                    assert len(note.payload.encode()) <= MAX_PAYLOAD_BYTES
                    heard.append(msgspec.json.decode(note.payload))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listen)
        await started.wait()
        yield heard
        tasks.cancel_scope.cancel()


@pytest.fixture
def url(database_url: str) -> str:
    open_all_day(database_url)
    return database_url


async def one_lot(lots: Lots) -> None:
    await lots.open("a", "XYZ")


class TestFromTheWireToTheRow:
    async def test_a_trade_values_the_lot_and_is_told(self, url: str, tmp_path: Path) -> None:
        async with bench(url, tmp_path, one_lot) as prices:
            await prices.publisher.open_at("XYZ", 52.0)

            row = await prices.until(mkt_px=D(52))
            note = await prices.until_told(lambda note: note.get("row", {}).get("mkt_px") == "52.0")

        # 10*52, 10*(52-50) twice, half the way from 50 to 54, 2.00 of a risk of 1.00
        assert (row["mkt_value"], row["profit_loss"], row["profit_loss_lot"]) == (D(520), D(20), D(20))
        assert (row["tp_sl_reach_pct"], row["r_multiple"], row["version"]) == (D(50), D(2), 1)
        told = note["row"]
        assert (told["parent_id"], told["profit_loss"], told["holding_days"]) == ("a", "20.0", 0)

    async def test_a_short_lot_gains_when_the_price_falls(self, url: str, tmp_path: Path) -> None:
        async def short(lots: Lots) -> None:
            await lots.open("a", "XYZ", side="Short", qty=D(-10), initial_stop=D(51), sl_px=D(51), tp_px=D(46))

        async with bench(url, tmp_path, short) as prices:
            await prices.publisher.open_at("XYZ", 48.0)

            row = await prices.until(mkt_px=D(48))

        assert (row["mkt_value"], row["profit_loss"], row["tp_sl_reach_pct"]) == (D(-480), D(20), D(50))

    async def test_an_old_price_keeps_the_moment_it_was_made(self, url: str, tmp_path: Path) -> None:
        yesterday = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
        async with bench(url, tmp_path, one_lot) as prices:
            await prices.publisher.trade("XYZ", 52.0, at=yesterday)
            await prices.publisher.trade("XYZ", 52.0, at=yesterday + timedelta(seconds=1))

            row = await prices.until(mkt_px=D(52))

        assert row["mkt_at"] == yesterday + timedelta(seconds=1)
        assert row["valued_at"] > yesterday + timedelta(hours=23)

    async def test_small_moves_wait_for_the_flush(self, url: str, tmp_path: Path) -> None:
        async with bench(url, tmp_path, one_lot, more="[workers.prices]\nbatch_s = 0.01\nflush_s = 0.5\n") as prices:
            await prices.publisher.open_at("XYZ", 50.0)
            await prices.until(mkt_px=D(50))
            await prices.publisher.trade("XYZ", 50.001)

            await prices.until(mkt_px=D("50.001"))

    async def test_the_first_price_of_each_lot_comes_from_the_broker_and_the_worker_is_ready_with_it(
        self, url: str, tmp_path: Path
    ) -> None:
        async with simulated(SLUG) as market:

            async def known(lots: Lots) -> None:
                await lots.open("a", "KO")

            async with bench(url, tmp_path, known, market=market) as prices:
                row = await prices.row()

        assert row["mkt_px"] is not None
        assert abs(row["mkt_px"] / market[0].market.price("KO") - 1) < D("0.05")
        assert row["mkt_at"] <= row["valued_at"]

    async def test_a_symbol_that_nobody_knows_does_not_keep_the_worker_from_being_ready(
        self, url: str, tmp_path: Path
    ) -> None:
        async with bench(url, tmp_path, one_lot) as prices:
            row = await prices.row()

        assert (row["mkt_px"], row["valued_at"]) == (None, None)


class TestBatches:
    async def test_a_storm_is_written_in_few_statements_and_ends_with_the_last_prices(
        self, url: str, tmp_path: Path
    ) -> None:
        symbols = [f"S{number}" for number in range(40)]

        async def many(lots: Lots) -> None:
            for symbol in symbols:
                await lots.open(symbol, symbol, tell=False)

        async with bench(url, tmp_path, many, more="[workers.prices]\nbatch_s = 0.3\nflush_s = 1000\n") as prices:
            _count_statements(url)
            storm = [trade_message(symbol, 50 + step / 10) for step in range(20) for symbol in symbols]

            await prices.publisher.send(storm)
            for symbol in symbols:
                await prices.until(symbol, mkt_px=D("51.9"))

            [counted] = await prices.station.select("select count(*) as statements, sum(rows) as rows from counted")

        assert counted["statements"] <= 4  # 800 ticks of 40 lots: one batch at once, the rest in the next ones
        assert counted["rows"] <= 4 * len(symbols)

    async def test_every_lot_is_told_in_a_payload_of_its_own(self, url: str, tmp_path: Path) -> None:
        async def many(lots: Lots) -> None:
            for number in range(300):
                await lots.open(f"lot {number}", "XYZ", tell=False, avg_fill=D(50) + D(1) / 7)

        async with bench(url, tmp_path, many) as prices:
            await prices.publisher.open_at("XYZ", 52.0)

            def is_complete(_: dict[str, Any]) -> bool:
                told = {note["row"]["parent_id"] for note in prices.channel if note.get("row", {}).get("mkt_px")}
                return len(told) == 300

            await prices.until_told(is_complete)


def _count_statements(url: str) -> None:
    """Have the database count every statement that updates the account's open trades, and its rows."""
    with psycopg.connect(url) as conn:
        conn.execute("create table public.counted (rows bigint)")
        conn.execute(
            "create function public.count_statement() returns trigger language plpgsql as $$"
            " begin insert into public.counted select count(*) from changed; return null; end $$"
        )
        conn.execute(
            "create trigger counting after update on accounts.open_trades_paper referencing new table as changed"
            " for each statement execute function public.count_statement()"
        )


class TestStructure:
    async def test_a_new_lot_is_valued_at_once_with_the_price_that_stands(self, url: str, tmp_path: Path) -> None:
        async with bench(url, tmp_path, one_lot) as prices:
            await prices.publisher.open_at("XYZ", 52.0)
            await prices.until(mkt_px=D(52))

            await prices.lots.open("b", "XYZ", qty=D(1))

            row = await prices.until("b", mkt_px=D(52))
        assert row["profit_loss"] == D(2)

    async def test_a_changed_lot_is_valued_anew_without_a_tick(self, url: str, tmp_path: Path) -> None:
        async with bench(url, tmp_path, one_lot) as prices:
            await prices.publisher.open_at("XYZ", 52.0)
            await prices.until(mkt_px=D(52))

            await prices.lots.change("a", qty=D(4), tp_px=D(58))

            row = await prices.until(profit_loss=D(8))
        assert (row["version"], row["tp_sl_reach_pct"], row["mkt_value"]) == (2, D(25), D(208))

    async def test_a_change_that_nobody_told_of_is_never_overwritten_by_the_old_one(
        self, url: str, tmp_path: Path
    ) -> None:
        async with bench(url, tmp_path, one_lot) as prices:
            await prices.publisher.open_at("XYZ", 52.0)
            await prices.until(mkt_px=D(52))
            await prices.lots.change("a", tell=False, qty=D(4))

            await prices.publisher.trade("XYZ", 53.0)  # its value for 10 shares meets version 2

            row = await prices.until(mkt_px=D(53))
        assert row["profit_loss"] == D(12)

    async def test_a_note_that_got_lost_is_made_up_for_by_the_poll(self, url: str, tmp_path: Path) -> None:
        async with bench(url, tmp_path, one_lot, more="[workers.prices]\nbatch_s = 0.01\npoll_s = 0.3\n") as prices:
            await prices.publisher.open_at("XYZ", 52.0)
            await prices.until(mkt_px=D(52))

            await prices.lots.open("b", "XYZ", tell=False)

            await prices.until("b", mkt_px=D(52))

    async def test_a_closed_lot_is_forgotten_and_the_others_go_on(self, url: str, tmp_path: Path) -> None:
        async def two(lots: Lots) -> None:
            for parent_id in "ab":
                await lots.open(parent_id, "XYZ")

        async with bench(url, tmp_path, two) as prices:
            await prices.publisher.open_at("XYZ", 52.0)
            await prices.until("b", mkt_px=D(52))

            await prices.lots.close("a")
            await prices.publisher.trade("XYZ", 53.0)

            await prices.until("b", mkt_px=D(53))
            found = await prices.station.select("select parent_id from accounts.open_trades")
        assert [row["parent_id"] for row in found] == ["b"]

    async def test_while_the_book_keeping_writes_its_whole_table_valuation_waits_its_turn(
        self, url: str, tmp_path: Path
    ) -> None:
        async with bench(url, tmp_path, one_lot) as prices:
            with psycopg.connect(url) as writer:
                writer.execute("select pg_advisory_xact_lock(hashtextextended('coldharbour:open_trades:paper', 0))")
                await prices.publisher.open_at("XYZ", 52.0)
                writer.execute("update accounts.open_trades set qty = 4, version = version + 1")
                assert (await prices.row())["mkt_px"] is None
                writer.commit()

            row = await prices.until(mkt_px=D(52))
            assert await _failures(prices) == []
        assert row["profit_loss"] == D(8)


async def _failures(prices: Bench) -> Sequence[object]:
    query = "select last_error from accounts.worker_status where kind = 'prices' and last_error is not null"
    return await prices.station.select(query)


class TestExtremes:
    async def test_they_widen_with_the_ticks_and_survive_a_restart(self, url: str, tmp_path: Path) -> None:
        async with bench(url, tmp_path / "first", one_lot) as prices:
            await prices.publisher.open_at("XYZ", 52.0)
            for price in (53.0, 49.5, 51.0):
                await prices.publisher.trade("XYZ", price)
                await prices.until(mkt_px=D(str(price)))

        async with bench(url, tmp_path / "second") as prices:
            await prices.publisher.trade("XYZ", 51.5)

            row = await prices.until(mkt_px=D("51.5"))
        assert (row["high_px"], row["low_px"]) == (D(53), D("49.5"))

    async def test_a_restart_invents_none(self, url: str, tmp_path: Path) -> None:
        async with bench(url, tmp_path / "first", one_lot) as prices:
            await prices.publisher.open_at("XYZ", 50.5)
            await prices.until(mkt_px=D("50.5"))

        async with bench(url, tmp_path / "second") as prices:
            await prices.publisher.trade("XYZ", 50.6)
            row = await prices.until(mkt_px=D("50.6"))

        assert (row["high_px"], row["low_px"]) == (D("50.6"), D(50))  # the entry was the lowest price

    async def test_what_was_missed_is_read_from_the_table_of_bars_where_it_has_them(
        self, url: str, tmp_path: Path
    ) -> None:
        entered = datetime.now(UTC) - timedelta(minutes=90, seconds=30)
        minute = entered.replace(second=0, microsecond=0)
        _collect_bars(url, "XYZ", minute, 90)

        async def early(lots: Lots) -> None:
            await lots.open("a", "XYZ", entry_time=entered, last_fill_time=entered)

        async with bench(url, tmp_path, early) as prices:
            await prices.publisher.open_at("XYZ", 50.0)

            row = await prices.until(high_px=D(57))
        assert row["low_px"] == D("48.5")  # 99 and 1 were traded in the entry's own minute, perhaps before it

    async def test_what_was_missed_is_read_from_the_broker_else(self, url: str, tmp_path: Path) -> None:
        entered = datetime.now(UTC) - timedelta(days=2, minutes=7)
        async with simulated(SLUG) as market:
            highest, lowest = await _bounds_by_minutes(market[1], "KO", entered)
            entry_price = (highest + lowest) / 2

            async def old(lots: Lots) -> None:
                at: dict[str, Any] = {"entry_time": entered, "last_fill_time": entered}
                await lots.open("a", "KO", avg_fill=entry_price, avg_px_symbol=entry_price, **at)

            # How far they are known is no news by itself: it is written with the next flush.
            async with bench(url, tmp_path, old, market=market, more=QUICK.replace("1000", "0.5", 1)) as prices:
                await prices.publisher.open_at("KO", float(entry_price))
                recent = datetime.now(UTC) - timedelta(minutes=5)

                async def is_known() -> bool:
                    through = (await prices.row())["extremes_through"]
                    return through is not None and through > recent

                await prices.station.until(is_known)
                row = await prices.row()

        # The day between is one daily bar, whose samples of the simulated price are other ones.
        assert abs(row["high_px"] / highest - 1) < D("0.01")
        assert abs(row["low_px"] / lowest - 1) < D("0.01")


async def _bounds_by_minutes(address: SimulatorAddress, symbol: str, since: datetime) -> tuple[Decimal, Decimal]:
    """Return the highest and the lowest price since the minute after a moment, by the broker's minute bars."""
    rest = Broker(
        base_url=address.url, data_url=address.url, key_id=f"SIM-{SLUG}", secret=SecretStr("simulator"),
        clock=SystemClock(), random=Random(1), slug=SLUG,
    )  # fmt: skip
    async with rest as broker:
        bars = (await broker.bars([symbol], "1Min", since, datetime.now(UTC)))[symbol]
    return max(bar.high for bar in bars), min(bar.low for bar in bars)


def _collect_bars(url: str, symbol: str, start: datetime, minutes: int) -> None:
    """Make the optional table of minute bars; 99 and 1 in the first minute, 57 and 48.5 in some later ones."""
    with psycopg.connect(url) as conn:
        conn.execute(
            "create table public.alpaca_bars_1min (symbol text, timestamp timestamptz, open float, high float,"
            " low float, close float, volume bigint)"
        )
        for number in range(minutes + 1):
            high = 99 if number == 0 else 57 if number == 30 else 51
            low = 1 if number == 0 else 48.5 if number == 40 else 50
            conn.execute(
                "insert into public.alpaca_bars_1min values (%s, %s, 50, %s, %s, 50, 100)",
                [symbol, start + timedelta(minutes=number), high, low],
            )


class TestOtherSources:
    async def test_the_table_of_trades_gives_the_first_price(self, url: str, tmp_path: Path) -> None:
        with psycopg.connect(url) as conn:
            conn.execute("create table public.alpaca_trade_data (symbol text, timestamp timestamptz, price float)")
            conn.execute(
                "insert into public.alpaca_trade_data values ('XYZ', now() - interval '2 minutes', 51.5),"
                " ('XYZ', now() - interval '1 minute', 51.7), ('XYZ', now() - interval '3 minutes', 51.6)"
            )

        async with bench(url, tmp_path, one_lot) as prices:
            row = await prices.row()

        assert row["mkt_px"] == D("51.7")

    async def test_a_table_with_other_columns_is_left_alone(self, url: str, tmp_path: Path) -> None:
        with psycopg.connect(url) as conn:
            conn.execute("create table public.alpaca_trade_data (ticker text, at timestamptz, px float)")

        async with bench(url, tmp_path, one_lot) as prices:
            assert (await prices.row())["mkt_px"] is None
            assert await _failures(prices) == []

    async def test_tables_that_cannot_be_read_cost_a_line_and_no_price(self, url: str, tmp_path: Path) -> None:
        with psycopg.connect(url) as conn:
            conn.execute("create table public.alpaca_trade_data (symbol text, timestamp timestamptz, price text)")
            conn.execute(
                "create table public.alpaca_bars_1min (symbol text, timestamp timestamptz, high text, low text)"
            )

        async with bench(url, tmp_path, one_lot) as prices:
            await prices.publisher.open_at("XYZ", 52.0)

            await prices.until(mkt_px=D(52))
            assert await _failures(prices) == []

    async def test_a_second_server_that_is_away_costs_a_line_and_no_price(self, url: str, tmp_path: Path) -> None:
        away = f'[database]\ntimescale_url = "postgresql://nobody@127.0.0.1:1/nowhere?connect_timeout=1"\n{QUICK}'
        async with bench(url, tmp_path, one_lot, more=away) as prices:
            await prices.publisher.open_at("XYZ", 52.0)

            await prices.until(mkt_px=D(52))

"""The broker's own Python client trades against the simulator over real sockets, unchanged and unaware."""

from __future__ import annotations

import queue
import threading
import uuid
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import anyio
import anyio.to_thread
import pytest
from coldharbour_plugins.simulator.broker import SimulatedBroker
from coldharbour_plugins.simulator.server import SimulatorAddress, running_simulator

from coldharbour.clock import SystemClock
from coldharbour.sections import SimulatorSettings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # the client imports websockets.legacy
    from alpaca.common.exceptions import APIError
    from alpaca.data.historical import StockHistoricalDataClient
    from alpaca.data.requests import (
        StockBarsRequest,
        StockLatestBarRequest,
        StockLatestQuoteRequest,
        StockLatestTradeRequest,
        StockSnapshotRequest,
    )
    from alpaca.data.timeframe import TimeFrame, TimeFrameUnit
    from alpaca.trading.client import TradingClient
    from alpaca.trading.models import TradeUpdate
    from alpaca.trading.requests import (
        ClosePositionRequest,
        GetCalendarRequest,
        GetOrderByIdRequest,
        GetOrdersRequest,
        GetPortfolioHistoryRequest,
        LimitOrderRequest,
        MarketOrderRequest,
        ReplaceOrderRequest,
        StopLimitOrderRequest,
        TrailingStopOrderRequest,
    )
    from alpaca.trading.stream import TradingStream

pytestmark = pytest.mark.anyio

SLUG, SECRET = "conformance", "simulator"
PATIENCE_S = 30.0


@dataclass
class Bench:
    """A simulator on real sockets and the official client, called from a worker thread as users do."""

    broker: SimulatedBroker
    address: SimulatorAddress
    client: TradingClient
    data: StockHistoricalDataClient

    async def call(self, method: Callable[..., Any], *args: object, **kwargs: object) -> Any:
        return await anyio.to_thread.run_sync(lambda: method(*args, **kwargs))

    async def until(self, method: Callable[..., Any], *args: object, holds: Callable[[Any], bool]) -> Any:
        """Call until the answer is as wanted, with the broker's pulse in between."""
        with anyio.fail_after(PATIENCE_S):
            while not holds(answer := await self.call(method, *args)):
                self.broker.step()
        return answer

    async def place(self, request: Any) -> Any:
        return await self.call(self.client.submit_order, request)

    async def order(self, order_id: Any, status: str) -> Any:
        """Return an order with its legs once it has that status."""
        nested = GetOrderByIdRequest(nested=True)
        return await self.until(
            self.client.get_order_by_id, order_id, nested, holds=lambda order: _text(order.status) == status
        )

    async def buy(self, symbol: str, qty: int) -> Any:
        placed = await self.place(_market(symbol, "buy", qty))
        return await self.order(placed.id, "filled")

    def price(self, symbol: str) -> Decimal:
        return self.broker.market.price(symbol)

    def pin(self, symbol: str, price: Decimal) -> None:
        self.broker.market.pin(symbol, price)
        self.broker.step()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    broker = SimulatedBroker(
        seed=7, accounts={SLUG: Decimal(1_000_000)}, clock=SystemClock(), history_days=5, trading=False
    )
    await _flatten(broker)
    settings = SimulatorSettings.model_validate({"port": 0, "price_endpoint": "tcp://127.0.0.1:*"})
    async with running_simulator(broker, settings) as address:
        keys: dict[str, Any] = {"api_key": f"SIM-{SLUG}", "secret_key": SECRET, "url_override": address.url}
        bench = Bench(broker, address, TradingClient(**keys), StockHistoricalDataClient(**keys))
        yield bench
        bench.client._session.close()
        bench.data._session.close()
    broker.close()


async def test_the_account_the_clock_and_the_calendar_parse(bench: Bench) -> None:
    account = await bench.call(bench.client.get_account)
    clock = await bench.call(bench.client.get_clock)
    today = clock.timestamp.date()
    days = await bench.call(bench.client.get_calendar, GetCalendarRequest(start=today - timedelta(days=7), end=today))

    assert _text(account.status) == "ACTIVE"
    assert clock.is_open
    assert clock.next_close > clock.timestamp
    assert [day.date for day in days] == sorted(day.date for day in days)
    assert all(day.open < day.close for day in days)
    assert days[-1].date == today


async def test_a_market_order_fills_and_its_position_can_be_closed_in_parts(bench: Bench) -> None:
    filled = await bench.buy("KO", 10)

    position = await bench.call(bench.client.get_open_position, "KO")
    half = await bench.call(bench.client.close_position, "KO", ClosePositionRequest(percentage="50"))
    await bench.order(half.id, "filled")
    rest = await bench.call(bench.client.close_position, "KO")
    await bench.order(rest.id, "filled")
    flat = await bench.until(bench.client.get_all_positions, holds=lambda rows: not rows)

    assert (filled.filled_qty, position.qty, half.qty, rest.qty) == ("10", "10", "5", "5")
    assert flat == []


async def test_a_limit_order_is_found_replaced_and_canceled(bench: Bench) -> None:
    far = bench.price("AAPL") - 20
    placed = await bench.place(_limit("AAPL", "buy", 3, far, client_order_id="mine-1"))
    resting = await bench.order(placed.id, "new")

    by_client = await bench.call(bench.client.get_order_by_client_id, "mine-1")
    newer = await bench.call(
        bench.client.replace_order_by_id, resting.id, ReplaceOrderRequest(limit_price=float(far - 1))
    )
    older = await bench.order(resting.id, "replaced")
    await bench.order(newer.id, "new")
    await bench.call(bench.client.cancel_order_by_id, newer.id)
    canceled = await bench.order(newer.id, "canceled")

    assert by_client.id == placed.id
    assert (newer.replaces, older.replaced_by) == (older.id, newer.id)
    assert (Decimal(older.limit_price), Decimal(newer.limit_price)) == (far, far - 1)
    assert newer.created_at == older.created_at
    assert canceled.canceled_at is not None


async def test_a_bracket_lives_through_entry_stop_move_and_cancel_of_a_leg(bench: Bench) -> None:
    placed, take_profit, stop = await _bracket(bench, "MSFT", 4)
    before = {_text(leg.status) for leg in placed.legs}
    parent = await bench.order(placed.id, "filled")
    await bench.order(take_profit.id, "new")
    held = await bench.order(stop.id, "held")

    tighter = Decimal(held.stop_price) + 1
    moved = await bench.call(bench.client.replace_order_by_id, held.id, ReplaceOrderRequest(stop_price=float(tighter)))
    await bench.order(held.id, "replaced")
    await bench.call(bench.client.cancel_order_by_id, take_profit.id)
    await bench.order(take_profit.id, "canceled")
    gone = await bench.order(moved.id, "canceled")

    assert before == {"held"}
    assert Decimal(gone.stop_price) == tighter
    assert parent.filled_qty == "4"
    assert (await bench.order(parent.id, "filled")).id == parent.id


async def test_a_bracket_stop_that_is_hit_closes_the_position(bench: Bench) -> None:
    placed, take_profit, stop = await _bracket(bench, "MSFT", 4)
    await bench.order(placed.id, "filled")
    await bench.order(take_profit.id, "new")

    bench.pin("MSFT", Decimal(stop.stop_price) - 1)

    await bench.order(stop.id, "filled")
    await bench.until(bench.client.get_all_positions, holds=lambda rows: not rows)


async def test_oto_oco_and_trailing_stops_are_taken(bench: Bench) -> None:
    price = bench.price("T")
    oto = await bench.place(_market("T", "buy", 5, order_class="oto", stop_loss={"stop_price": float(price - 2)}))
    await bench.order(oto.id, "filled")
    stop = oto.legs[0]
    await bench.call(bench.client.cancel_order_by_id, stop.id)
    await bench.order(stop.id, "canceled")

    oco = await bench.place(
        _limit(
            "T",
            "sell",
            5,
            price + 3,
            order_class="oco",
            time_in_force="gtc",
            take_profit={"limit_price": float(price + 3)},
            stop_loss={"stop_price": float(price - 3)},
        )
    )
    resting = await bench.order(oco.id, "new")
    await bench.call(bench.client.cancel_order_by_id, oco.id)
    await bench.order(oco.id, "canceled")
    trailing = await bench.place(
        TrailingStopOrderRequest(symbol="T", qty=5, side="sell", time_in_force="gtc", trail_percent=5)
    )
    protected = await bench.order(trailing.id, "new")

    assert [(_text(leg.type), _text(leg.status)) for leg in resting.legs] == [("stop", "held")]
    assert Decimal(protected.stop_price) < Decimal(protected.hwm)


async def test_a_stop_limit_order_keeps_both_prices(bench: Bench) -> None:
    price = bench.price("DIS")

    placed = await bench.place(
        StopLimitOrderRequest(
            symbol="DIS",
            qty=1,
            side="buy",
            time_in_force="gtc",
            stop_price=float(price + 10),
            limit_price=float(price + 11),
        )
    )

    assert (Decimal(placed.stop_price), Decimal(placed.limit_price)) == (price + 10, price + 11)


async def test_a_list_of_more_than_five_hundred_orders_is_paged_by_submission_time(bench: Bench) -> None:
    account = bench.broker.accounts[SLUG]
    far = str(bench.price("F") - 3)
    wanted = {
        account.place(
            {"symbol": "F", "qty": "1", "side": "buy", "type": "limit", "time_in_force": "gtc", "limit_price": far}
        )["id"]
        for _ in range(520)
    }

    found: dict[str, Any] = {}
    after = datetime.now(UTC) - timedelta(hours=1)
    while True:
        page = await bench.call(
            bench.client.get_orders, GetOrdersRequest(status="all", limit=500, direction="asc", after=after)
        )
        fresh = [order for order in page if str(order.id) not in found]
        if not fresh:
            break
        found |= {str(order.id): order for order in fresh}
        after = page[-1].submitted_at - timedelta(milliseconds=1)  # bounds are exclusive: pages must overlap

    assert len(page) < 500
    assert found.keys() >= wanted


async def test_cancel_all_and_close_all_answer_for_every_item(bench: Bench) -> None:
    await bench.buy("KO", 2)
    far = await bench.place(_limit("KO", "buy", 1, bench.price("KO") - 9))
    await bench.order(far.id, "new")

    canceled = await bench.call(bench.client.cancel_orders)
    await bench.order(far.id, "canceled")
    closed = await bench.call(bench.client.close_all_positions, cancel_orders=True)
    await bench.until(bench.client.get_all_positions, holds=lambda rows: not rows)

    assert [(item.id, item.status) for item in canceled] == [(far.id, 200)]
    assert [(item.symbol, item.status) for item in closed] == [("KO", 200)]


async def test_activities_are_paged_by_the_last_id_and_hold_the_fills_of_the_stream(bench: Bench) -> None:
    for symbol in ("KO", "T", "F"):
        await bench.buy(symbol, 1)

    pages = [row async for row in _activity_pages(bench, page_size=2)]

    fills = [row for page in pages for row in page]
    assert max(len(page) for page in pages) <= 2
    assert len({row["id"] for row in fills}) == len(fills)
    assert {"KO", "T", "F"} <= {row["symbol"] for row in fills}
    assert all(row["activity_type"] == "FILL" and "::" in row["id"] for row in fills)


async def test_refusals_carry_the_brokers_status_and_code(bench: Bench) -> None:
    far = bench.price("KO") - 9
    await bench.place(_limit("KO", "buy", 1, far, client_order_id="twice"))

    assert await _refusal(bench, bench.client.submit_order, _limit("KO", "buy", 1, far, client_order_id="twice")) == (
        422,
        40010001,
    )
    assert await _refusal(bench, bench.client.submit_order, _limit("KO", "buy", 1, Decimal("55.123"))) == (
        422,
        42210000,
    )
    assert await _refusal(bench, bench.client.submit_order, _market("KO", "buy", 10_000_000)) == (403, 40310000)
    assert await _refusal(bench, bench.client.get_order_by_id, uuid.uuid4()) == (404, 40410000)
    assert await _refusal(bench, bench.client.get_open_position, "AAPL") == (404, 40410000)
    assert await _refusal(bench, bench.client.get, "/orders/not-a-uuid") == (422, 40010001)
    assert await _refusal(bench, bench.client.get_asset, "NOSUCH") == (404, 40410000)
    stranger = TradingClient(f"SIM-{SLUG}", "wrong", url_override=bench.address.url)
    assert await _refusal(bench, stranger.get_account) == (401, 40110000)
    stranger._session.close()


async def test_the_stream_tells_of_new_fill_replaced_and_canceled(bench: Bench) -> None:
    async with _stream(bench) as events:
        await bench.buy("KO", 2)
        placed = await bench.place(_limit("KO", "buy", 1, bench.price("KO") - 9))
        await bench.order(placed.id, "new")
        newer = await bench.call(bench.client.replace_order_by_id, placed.id, ReplaceOrderRequest(qty=2))
        await bench.order(placed.id, "replaced")
        await bench.call(bench.client.cancel_order_by_id, newer.id)
        await bench.order(newer.id, "canceled")
        seen = await _events_until(events, "canceled")

    kinds = [_text(event.event) for event in seen]
    fill = next(event for event in seen if _text(event.event) == "fill")
    replaced = next(event for event in seen if _text(event.event) == "replaced")
    assert {"new", "fill", "replaced", "canceled"} <= set(kinds)
    assert (fill.order.filled_qty, fill.position_qty) == ("2", 2)
    assert (replaced.order.id, replaced.order.replaced_by) == (placed.id, newer.id)


async def test_market_data_comes_as_numbers_and_in_pages(bench: Bench) -> None:
    symbols, end = ["AAPL", "KO"], datetime.now(UTC)
    bars = await bench.call(
        bench.data.get_stock_bars,
        StockBarsRequest(symbol_or_symbols=symbols, timeframe=TimeFrame.Day, start=end - timedelta(days=30), end=end),
    )
    weeks = await bench.call(
        bench.data.get_stock_bars,
        StockBarsRequest(
            symbol_or_symbols="KO", timeframe=TimeFrame(1, TimeFrameUnit.Week), start=end - timedelta(days=30)
        ),
    )
    trade = await bench.call(bench.data.get_stock_latest_trade, StockLatestTradeRequest(symbol_or_symbols=symbols))
    quote = await bench.call(bench.data.get_stock_latest_quote, StockLatestQuoteRequest(symbol_or_symbols=symbols))
    latest = await bench.call(bench.data.get_stock_latest_bar, StockLatestBarRequest(symbol_or_symbols=symbols))
    snapshots = await bench.call(
        bench.data.get_stock_snapshot, StockSnapshotRequest(symbol_or_symbols=[*symbols, "NOSUCH"])
    )

    assert set(bars.data) == set(trade) == set(quote) == set(snapshots) == set(symbols)
    assert len(bars.data["KO"]) >= 5
    assert len(weeks.data["KO"]) < len(bars.data["KO"])
    assert all(bar.low <= bar.open <= bar.high and bar.low <= bar.close <= bar.high for bar in bars.data["KO"])
    assert quote["KO"].bid_price < quote["KO"].ask_price
    assert trade["KO"].price > 0
    assert set(latest) <= set(symbols)
    assert snapshots["KO"].daily_bar is not None


async def test_bars_continue_where_the_page_token_says(bench: Bench) -> None:
    start = (datetime.now(UTC) - timedelta(days=14)).isoformat()
    asked = {"symbols": "KO,AAPL", "timeframe": "1Day", "start": start}
    whole = await bench.call(bench.data.get, "/stocks/bars", {**asked, "limit": 1000})

    merged: dict[str, list[Any]] = {}
    token: str | None = ""
    while token is not None:
        page = await bench.call(bench.data.get, "/stocks/bars", {**asked, "limit": 3, "page_token": token})
        for symbol, rows in page["bars"].items():
            merged.setdefault(symbol, []).extend(rows)
        token = page["next_page_token"]

    assert [(s, [row["t"] for row in rows]) for s, rows in merged.items()] == [
        (s, [row["t"] for row in rows]) for s, rows in whole["bars"].items()
    ]


async def test_assets_and_portfolio_history_parse(bench: Bench) -> None:
    assets = await bench.call(bench.client.get_all_assets)
    apple = await bench.call(bench.client.get_asset, "AAPL")
    history = await bench.call(
        bench.client.get_portfolio_history, GetPortfolioHistoryRequest(period="1W", timeframe="1D")
    )

    assert apple.symbol in {asset.symbol for asset in assets}
    assert len(history.timestamp) == len(history.equity) == len(history.profit_loss)


async def _flatten(broker: SimulatedBroker) -> None:
    """Leave the account without positions and open orders, so that each test sees only its own."""
    account = broker.accounts[SLUG]
    account.close_all_positions(cancel_orders=True)
    with anyio.fail_after(PATIENCE_S):
        while account.positions():
            broker.step()
            await anyio.sleep(0.01)  # the exchange takes real time to fill


async def _bracket(bench: Bench, symbol: str, qty: int) -> tuple[Any, Any, Any]:
    """Place a market bracket; return the parent, its take-profit and its stop."""
    price = bench.price(symbol)
    placed = await bench.place(
        _market(
            symbol,
            "buy",
            qty,
            order_class="bracket",
            time_in_force="gtc",
            take_profit={"limit_price": float(price + 40)},
            stop_loss={"stop_price": float(price - 40)},
        )
    )
    legs = {_text(leg.type): leg for leg in placed.legs}
    return placed, legs["limit"], legs["stop"]


def _market(symbol: str, side: str, qty: int, **more: Any) -> Any:
    return MarketOrderRequest(**{"symbol": symbol, "side": side, "qty": qty, "time_in_force": "day", **more})


def _limit(symbol: str, side: str, qty: int, price: Decimal, **more: Any) -> Any:
    base = {"symbol": symbol, "side": side, "qty": qty, "time_in_force": "gtc", "limit_price": float(price)}
    return LimitOrderRequest(**{**base, **more})


async def _refusal(bench: Bench, method: Callable[..., Any], *args: object) -> tuple[int, int]:
    with pytest.raises(APIError) as refused:
        await bench.call(method, *args)
    return refused.value.status_code, refused.value.code


async def _activity_pages(bench: Bench, page_size: int) -> AsyncIterator[list[dict[str, Any]]]:
    asked: dict[str, Any] = {"activity_types": "FILL", "page_size": page_size}
    while page := await bench.call(bench.client.get, "/account/activities", asked):
        yield page
        asked["page_token"] = page[-1]["id"]


@asynccontextmanager
async def _stream(bench: Bench) -> AsyncIterator[queue.Queue[TradeUpdate]]:
    """Run the official stream client in its own thread and loop, subscribed before the block begins."""
    events: queue.Queue[TradeUpdate] = queue.Queue()

    async def keep(update: TradeUpdate) -> None:
        events.put(update)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        stream = TradingStream(f"SIM-{SLUG}", SECRET, url_override=bench.address.stream_url)
        stream.subscribe_trade_updates(keep)
        thread = threading.Thread(target=stream.run)
        thread.start()
        try:
            await _subscribed(bench, events)
            yield events
        finally:
            await anyio.to_thread.run_sync(stream.stop)
            await anyio.to_thread.run_sync(thread.join)


async def _subscribed(bench: Bench, events: queue.Queue[TradeUpdate]) -> None:
    """Place and forget orders until one is heard of: only then does the server count the client as listening."""
    with anyio.fail_after(PATIENCE_S):
        while events.empty():
            placed = await bench.place(_limit("F", "buy", 1, bench.price("F") - 3))
            await bench.order(placed.id, "new")


async def _events_until(events: queue.Queue[TradeUpdate], kind: str) -> list[TradeUpdate]:
    seen: list[TradeUpdate] = []
    while not seen or _text(seen[-1].event) != kind:
        seen.append(await anyio.to_thread.run_sync(lambda: events.get(timeout=PATIENCE_S)))
    return seen


def _text(value: Any) -> str:
    return str(getattr(value, "value", value))

"""The walk over orders serves each order once, however many share an instant or fill a page."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from fractions import Fraction
from uuid import UUID

import httpx
import pytest
from broker_payloads import NOON, Script, Skipper, make_broker, order_json
from hypothesis import given, settings
from hypothesis import strategies as st

from coldharbour.broker import OrdersPage, StuckWalk, UnreadableAnswer

pytestmark = pytest.mark.anyio

NANO = 1_000_000_000


class OrderBook:
    """The broker's list of orders: exclusive bounds on submitted_at in nanoseconds, pages with a cap."""

    def __init__(self, offsets_ns: list[int], *, legs_count: bool = False) -> None:
        # In no order of ids: the broker's ids are random, so ties come in an order nobody can predict.
        rows = [(ns, str(UUID(int=(n * 7919 + 1) % 2**32))) for n, ns in enumerate(offsets_ns)]
        self.rows = sorted(rows)
        self.legs_count = legs_count
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        assert len(self.requests) <= 2 * len(self.rows) + 5, "an endless walk"
        params = request.url.params
        rows = self.rows
        if cursor := params.get("after_order_id"):
            assert "after" not in params
            assert "until" not in params
            rows = rows[[order_id for _, order_id in rows].index(cursor) + 1 :]
        if after := params.get("after"):
            rows = [row for row in rows if row[0] > nanoseconds(after)]
        if until := params.get("until"):
            rows = [row for row in rows if row[0] < nanoseconds(until)]
        limit = int(params["limit"])
        page = rows[: max(limit // 3, 1) if self.legs_count else limit]
        return httpx.Response(200, content=b"[" + b",".join(order_row(*row) for row in page) + b"]")


def nanoseconds(stamp: str) -> int:
    since = datetime.fromisoformat(stamp) - NOON
    return int(Fraction(since / timedelta(microseconds=1)) * 1000)


def order_row(ns: int, order_id: str) -> bytes:
    whole = NOON + timedelta(seconds=ns // NANO)
    fraction = f".{ns % NANO:09}".rstrip("0").rstrip(".")
    return order_json(id=order_id, submitted_at=f"{whole:%Y-%m-%dT%H:%M:%S}{fraction}Z")


async def walked(book: OrderBook, after: datetime | None, until: datetime | None, limit: int) -> list[OrdersPage]:
    async with make_broker(book, clock=Skipper()) as broker:
        return [page async for page in broker.walk_orders(after, until, page_limit=limit)]


instants = st.integers(0, 8 * NANO) | st.integers(0, 8).map(lambda s: s * NANO) | st.just(3 * NANO + 999_999_501)


@settings(max_examples=60, deadline=None)
@given(
    offsets_ns=st.lists(instants, max_size=60),
    limit=st.integers(1, 9),
    legs_count=st.booleans(),
)
async def test_any_distribution_of_orders_is_walked_once_each(
    offsets_ns: list[int], limit: int, legs_count: bool
) -> None:
    book = OrderBook(offsets_ns, legs_count=legs_count)

    pages = await walked(book, None, None, limit)

    served = [order.id for page in pages for order in page.orders]
    assert sorted(served) == sorted(order_id for _, order_id in book.rows)
    assert [page.complete for page in pages] == [False] * (len(pages) - 1) + [True]


@settings(max_examples=60, deadline=None)
@given(
    offsets_ns=st.lists(instants, max_size=60),
    bounds_ms=st.tuples(st.integers(0, 8000), st.integers(0, 8000)).map(sorted),
    limit=st.integers(1, 9),
)
async def test_a_window_holds_every_order_between_its_bounds(
    offsets_ns: list[int], bounds_ms: list[int], limit: int
) -> None:
    book = OrderBook(offsets_ns)
    after, until = (NOON + timedelta(milliseconds=ms) for ms in bounds_ms)

    pages = await walked(book, after, until, limit)

    served = [order.id for page in pages for order in page.orders]
    low, high = (ms * 1_000_000 for ms in bounds_ms)
    assert len(served) == len(set(served))
    assert {order_id for ns, order_id in book.rows if low < ns < high} <= set(served)
    assert set(served) <= {order_id for ns, order_id in book.rows if low - 500 <= ns <= high + 500}


@settings(max_examples=60, deadline=None)
@given(offsets_ns=st.lists(instants, min_size=1, max_size=60), limit=st.integers(1, 9), stop=st.integers(0, 30))
async def test_a_walk_resumed_from_any_page_misses_nothing(offsets_ns: list[int], limit: int, stop: int) -> None:
    book = OrderBook(offsets_ns)
    pages = await walked(book, None, None, limit)
    kept = pages[: stop % len(pages) + 1]

    rest = await walked(book, kept[-1].resume_after, None, limit)

    served = {order.id for page in [*kept, *rest] for order in page.orders}
    assert served == {order_id for _, order_id in book.rows}


@pytest.mark.parametrize("count", [499, 500, 501, 1000, 1203])
async def test_more_orders_in_one_instant_than_a_page_holds_are_all_served(count: int) -> None:
    book = OrderBook([5] * count + [2 * NANO])

    pages = await walked(book, None, None, 500)

    assert len({order.id for page in pages for order in page.orders}) == count + 1
    assert len(book.requests) <= count // 500 + 4


async def test_two_thousand_orders_over_a_week_take_few_requests() -> None:
    book = OrderBook([n * 300 * NANO for n in range(2000)])

    pages = await walked(book, NOON - timedelta(days=1), None, 500)

    assert sum(len(page.orders) for page in pages) == 2000
    assert len(book.requests) <= 6


async def test_pages_ask_for_everything_ascending_and_reach_back() -> None:
    book = OrderBook([10 * NANO, 20 * NANO])

    await walked(book, NOON, NOON + timedelta(hours=1), 500)

    first, second = (dict(request.url.params) for request in book.requests)
    assert first == {
        "status": "all",
        "direction": "asc",
        "limit": "500",
        "nested": "true",
        "after": "2026-10-08T16:00:00Z",
        "until": "2026-10-08T17:00:00Z",
    }
    assert second["after"] == "2026-10-08T16:00:19Z"


async def test_a_broker_that_knows_no_cursor_by_id_is_an_error_and_not_an_endless_walk() -> None:
    rows = b"[" + b",".join(order_row(5, f"id-{n}") for n in range(3)) + b"]"
    script = Script(*[httpx.Response(200, content=rows) for _ in range(9)])

    async with make_broker(script, clock=Skipper()) as broker:
        with pytest.raises(StuckWalk):
            [page async for page in broker.walk_orders(None, page_limit=3)]


async def test_an_unreadable_order_is_set_aside_once_and_the_walk_goes_on() -> None:
    bad = order_json(id="bad", qty="many")
    rows = b"[" + b",".join([order_row(1, "a"), bad, order_row(2, "b")]) + b"]"

    async with make_broker(lambda _: httpx.Response(200, content=rows), clock=Skipper()) as broker:
        pages = [page async for page in broker.walk_orders(None)]

    assert [order.id for page in pages for order in page.orders] == ["a", "b"]
    assert [found.raw for page in pages for found in page.malformed] == [bad]


async def test_open_orders_are_complete_beyond_one_page() -> None:
    book = OrderBook([n * NANO for n in range(1203)])

    async with make_broker(book, clock=Skipper()) as broker:
        orders = await broker.open_orders()

    assert len(orders) == 1203
    assert {request.url.params["status"] for request in book.requests} == {"open"}


async def test_open_orders_are_refused_when_one_of_them_cannot_be_read() -> None:
    rows = b"[" + order_json(qty="many") + b"]"

    async with make_broker(lambda _: httpx.Response(200, content=rows), clock=Skipper()) as broker:
        with pytest.raises(UnreadableAnswer):
            await broker.open_orders()


async def test_a_margin_of_nothing_is_refused_since_bounds_are_exclusive() -> None:
    async with make_broker(OrderBook([])) as broker:
        with pytest.raises(ValueError, match="margin_s"):
            broker.walk_orders(datetime.now(UTC), margin_s=0)

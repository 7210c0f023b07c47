"""Requests end in a value or in an error that says what may be done next; changes are sent once."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from random import Random

import anyio
import anyio.abc
import httpx
import msgspec
import pytest
import structlog
from broker_payloads import (
    NOON,
    REQUEST_ID,
    SECRET,
    Script,
    Skipper,
    fill_json,
    make_broker,
    order_json,
)
from pydantic import SecretStr

from coldharbour.broker import (
    AlpacaRest,
    Broker,
    BrokerUnavailable,
    KeysRefused,
    NotFound,
    NotSent,
    OutcomeUnknown,
    Priority,
    Refused,
    StuckWalk,
    UnreadableAnswer,
)
from coldharbour.clock import SystemClock
from coldharbour.errors import ColdHarbourError, NeedsOperator, Transient

pytestmark = pytest.mark.anyio

ORDER_ID = "5f1c1c36-0c1e-4d53-9d7c-0c3b0b7f9a01"
Change = Callable[[Broker], Awaitable[object]]

CHANGES: list[Change] = [
    lambda broker: broker.place_order({"symbol": "KO", "qty": Decimal(1), "client_order_id": "c1"}),
    lambda broker: broker.replace_order(ORDER_ID, stop_price=Decimal("51.60")),
    lambda broker: broker.cancel_order(ORDER_ID),
]


def refused(status: int, body: bytes | str = b"", **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, content=body, headers={"X-Request-ID": REQUEST_ID, **named})


def found_order() -> httpx.Response:
    return httpx.Response(200, content=order_json())


async def test_a_read_is_tried_again_until_it_works() -> None:
    clock = Skipper()
    script = Script(refused(503), httpx.ReadError("reset"), found_order())

    async with make_broker(script, clock=clock) as broker:
        order = await broker.order(ORDER_ID)

    assert order.id == ORDER_ID
    assert len(script.requests) == 3
    first_s, second_s = clock.slept_s
    assert 0.25 <= first_s <= 0.5 <= second_s <= 1.0


async def test_a_read_gives_up_after_three_tries() -> None:
    script = Script(*[refused(500, b'{"code":50010000,"message":"internal error"}') for _ in range(3)])

    async with make_broker(script, clock=Skipper()) as broker:
        with pytest.raises(BrokerUnavailable) as caught:
            await broker.account()

    assert isinstance(caught.value, Transient)
    assert (caught.value.status, caught.value.request_id) == (500, REQUEST_ID)
    assert len(script.requests) == 3


async def test_retry_after_is_waited_for() -> None:
    clock = Skipper()
    script = Script(refused(429, b'{"code":42910000}', retry_after="4"), found_order())

    async with make_broker(script, clock=clock) as broker:
        await broker.order(ORDER_ID)

    assert 4.0 <= sum(clock.slept_s) <= 5.1


async def test_a_rate_limit_without_retry_after_waits_for_the_end_of_the_window() -> None:
    clock = Skipper()
    reset = str(int(NOON.timestamp()) + 20)
    script = Script(refused(429, "too many requests.", x_ratelimit_reset=reset), found_order())

    async with make_broker(script, clock=clock) as broker:
        await broker.order(ORDER_ID)

    assert 20.0 <= sum(clock.slept_s) <= 21.1


async def test_a_rate_limit_without_any_hint_backs_off() -> None:
    clock = Skipper()

    async with make_broker(Script(refused(429), found_order()), clock=clock) as broker:
        await broker.order(ORDER_ID)

    assert 0.25 <= sum(clock.slept_s) <= 0.5


async def test_a_wait_of_many_minutes_is_left_to_the_kernel() -> None:
    clock = Skipper()

    async with make_broker(Script(refused(429, retry_after="900")), clock=clock) as broker:
        with pytest.raises(BrokerUnavailable) as caught:
            await broker.order(ORDER_ID)

    assert caught.value.retry_after_s == 900
    assert clock.slept_s == []


async def test_a_broker_that_hangs_is_left_after_the_total_limit() -> None:
    requests = []

    async def hang(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        await anyio.sleep_forever()
        raise AssertionError

    async with make_broker(hang, clock=Skipper(), total_s=0.02) as broker:
        with anyio.fail_after(5), pytest.raises(BrokerUnavailable, match="no answer"):
            await broker.clock()
        with anyio.fail_after(5), pytest.raises(OutcomeUnknown, match="no answer"):
            await broker.cancel_order(ORDER_ID)

    assert [request.method for request in requests] == ["GET", "GET", "GET", "DELETE"]


@pytest.mark.parametrize("status", [200, 403, 502])
async def test_a_page_of_html_is_no_answer_whatever_its_status(status: int) -> None:
    script = Script(*[refused(status, "<!doctype html><title>proxy</title>") for _ in range(3)])

    async with make_broker(script, clock=Skipper()) as broker:
        with pytest.raises(BrokerUnavailable) as caught:
            await broker.positions()

    assert isinstance(caught.value, UnreadableAnswer) == (status == 200)
    assert len(script.requests) == 3


async def test_a_position_that_cannot_be_read_is_never_flat() -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=b'[{"symbol":"KO","side":"long","qty":"two"}]')

    async with make_broker(answer, clock=Skipper()) as broker:
        with pytest.raises(UnreadableAnswer):
            await broker.positions()


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, b'{"message":"unauthorized."}'),
        (401, b"unauthorized."),
        (401, b'{"code":40110000,"message":"request is not authorized"}'),
        (403, b'{"message":"forbidden."}'),
        (403, b'{"code":40110000,"message":"request is not authorized"}'),
    ],
)
async def test_refused_keys_need_the_operator_and_are_not_tried_again(status: int, body: bytes) -> None:
    script = Script(refused(status, body))

    async with make_broker(script) as broker:
        with pytest.raises(KeysRefused) as caught:
            await broker.account()

    assert isinstance(caught.value, NeedsOperator)
    assert "ALPACA_API_KEY_PAPER" in caught.value.hint
    assert len(script.requests) == 1


async def test_a_business_refusal_keeps_its_facts() -> None:
    body = b'{"code":40310000,"message":"insufficient qty available","available":"1","related_orders":["a"]}'

    async with make_broker(Script(refused(403, body))) as broker:
        with pytest.raises(Refused) as caught:
            await broker.place_order({"symbol": "KO"})

    refusal = caught.value
    assert (refusal.status, refusal.code, refusal.request_id) == (403, 40310000, REQUEST_ID)
    assert refusal.extra == {"available": "1", "related_orders": ["a"]}
    assert not isinstance(refusal, Transient | NeedsOperator)


async def test_what_the_broker_does_not_know_is_not_found() -> None:
    body = b'{"code":40410000,"message":"position does not exist"}'

    async with make_broker(Script(refused(404, body))) as broker:
        with pytest.raises(NotFound, match="position does not exist"):
            await broker.position("BRK.B")


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(
    "end",
    [
        refused(500),
        refused(504, b'{"code":50410000}'),
        refused(429, retry_after="1"),
        refused(302, location="https://elsewhere.example/"),
        refused(502, "<html>"),
        httpx.ReadTimeout("slow"),
        httpx.ReadError("reset"),
        httpx.RemoteProtocolError("closed without an answer"),
    ],
)
async def test_a_change_with_an_unclear_end_is_sent_once_and_unknown(
    change: Change, end: httpx.Response | Exception
) -> None:
    script = Script(end)

    async with make_broker(script, clock=Skipper()) as broker:
        with pytest.raises(OutcomeUnknown) as caught:
            await change(broker)

    assert len(script.requests) == 1
    assert not isinstance(caught.value, Transient)


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"id":', b'{"message":"fine"}'])
@pytest.mark.parametrize("change", CHANGES[:2])
async def test_a_change_whose_success_cannot_be_read_is_unknown(change: Change, body: bytes) -> None:
    script = Script(refused(200, body))

    async with make_broker(script) as broker:
        with pytest.raises(OutcomeUnknown) as caught:
            await change(broker)

    assert (caught.value.status, caught.value.request_id) == (200, REQUEST_ID)
    assert len(script.requests) == 1


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [(422, 42210000, Refused), (404, 40410000, NotFound), (400, 40010000, Refused)],
)
async def test_a_definite_no_to_a_change_is_not_unknown(
    change: Change, status: int, code: int, kind: type[ColdHarbourError]
) -> None:
    async with make_broker(Script(refused(status, msgspec.json.encode({"code": code})))) as broker:
        with pytest.raises(kind):
            await change(broker)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("error", [httpx.ConnectError("refused"), httpx.ConnectTimeout("slow")])
async def test_a_change_that_never_left_is_not_unknown(change: Change, error: Exception) -> None:
    async with make_broker(Script(error)) as broker:
        with pytest.raises(NotSent):
            await change(broker)


async def test_a_replacement_sends_exact_numbers_and_nothing_else() -> None:
    script = Script(found_order())

    async with make_broker(script) as broker:
        await broker.replace_order(ORDER_ID, stop_price=Decimal("51.60"), client_order_id="be-1")

    request = script.requests[0]
    assert (request.method, request.url.path) == ("PATCH", f"/v2/orders/{ORDER_ID}")
    assert msgspec.json.decode(request.content) == {"stop_price": "51.60", "client_order_id": "be-1"}


async def test_a_cancel_is_taken_with_an_empty_answer() -> None:
    async with make_broker(Script(httpx.Response(204))) as broker:
        await broker.cancel_order(ORDER_ID)


async def test_every_request_carries_the_keys_and_says_who_asks() -> None:
    script = Script(found_order())

    async with make_broker(script) as broker:
        await broker.order_by_client_id("mine/1")

    request = script.requests[0]
    assert request.headers["APCA-API-KEY-ID"] == "PKTEST"
    assert request.headers["APCA-API-SECRET-KEY"] == SECRET
    assert request.headers["User-Agent"].startswith("coldharbour/")
    assert str(request.url).endswith("/v2/orders:by_client_order_id?client_order_id=mine%2F1")


async def test_an_id_cannot_reach_another_path() -> None:
    script = Script(found_order())

    async with make_broker(script) as broker:
        await broker.order("../account?x=1")

    assert script.requests[0].url.raw_path == b"/v2/orders/..%2Faccount%3Fx%3D1?nested=true"


async def test_a_failure_is_logged_with_its_request_id_and_nothing_logs_the_secret(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    with structlog.testing.capture_logs() as logs:
        async with make_broker(Script(refused(422, b'{"code":42210000}'))) as broker:
            with pytest.raises(Refused) as caught:
                await broker.replace_order(ORDER_ID, stop_price=Decimal(1))

    assert [(line["event"], line["request_id"], line["destination"]) for line in logs] == [
        ("broker.request_failed", REQUEST_ID, "paper")
    ]
    assert SECRET not in caplog.text + repr(logs) + repr(broker) + repr(vars(broker)) + repr(caught.value)


async def test_reads_spend_from_the_budget_that_the_broker_reports() -> None:
    clock = Skipper()
    headers = {
        "X-Ratelimit-Limit": "200",
        "X-Ratelimit-Remaining": "10",
        "X-Ratelimit-Reset": str(int(NOON.timestamp()) + 45),
    }
    script = Script(httpx.Response(200, content=order_json(), headers=headers), found_order())

    async with make_broker(script, clock=clock) as broker:
        await broker.order(ORDER_ID)
        await broker.order(ORDER_ID, priority=Priority.BULK)

    assert clock.slept_s == [pytest.approx(45)]


async def test_activities_are_walked_to_an_empty_page_though_pages_are_short() -> None:
    pages = [[fill(1), fill(2)], [fill(3)], [fill(4), fill(5)], []]
    script = Script(*[activities(page) for page in pages])

    async with make_broker(script) as broker:
        walked = [page async for page in broker.walk_activities(NOON, types=["FILL", "DIV"])]

    assert [row.id for page in walked for row in page.activities] == [f"2026100811101809{n}::e{n}" for n in range(1, 6)]
    assert [page.complete for page in walked] == [False, False, False, True]
    params = [request.url.params for request in script.requests]
    assert [given.get("page_token") for given in params] == [None, *[page.next_token for page in walked[:3]]]
    assert dict(params[0]) == {
        "direction": "asc",
        "page_size": "100",
        "after": "2026-10-08T16:00:00Z",
        "activity_types": "FILL,DIV",
    }
    assert b"%3A%3A" in script.requests[1].url.query


async def test_activities_of_one_category_are_asked_for_by_its_name() -> None:
    script = Script(activities([]))

    async with make_broker(script) as broker:
        _ = [page async for page in broker.walk_activities(NOON, category="non_trade_activity")]

    params = script.requests[0].url.params
    assert (params["category"], "activity_types" in params) == ("non_trade_activity", False)


async def test_activities_go_on_behind_a_token() -> None:
    script = Script(activities([fill(7)]), activities([]))

    async with make_broker(script) as broker:
        walked = [page async for page in broker.walk_activities(None, page_token="t6")]

    assert script.requests[0].url.params["page_token"] == "t6"
    assert walked[-1].next_token == walked[0].next_token


async def test_a_page_token_that_repeats_is_an_error_and_not_an_endless_walk() -> None:
    script = Script(activities([fill(1), fill(2)]), activities([fill(1), fill(2)]))

    async with make_broker(script) as broker:
        walk = broker.walk_activities(None)
        first = await anext(walk)
        with pytest.raises(StuckWalk):
            await anext(walk)

    assert len(first.activities) == 2


async def test_rows_that_a_page_repeats_are_given_once() -> None:
    script = Script(activities([fill(1), fill(2)]), activities([fill(2), fill(3)]), activities([]))

    async with make_broker(script) as broker:
        rows = [row.id[-2:] async for page in broker.walk_activities(None) for row in page.activities]

    assert rows == ["e1", "e2", "e3"]


async def test_an_unreadable_activity_is_set_aside_and_the_walk_goes_on() -> None:
    script = Script(activities([fill(1), fill(2, qty="many")]), activities([fill(3)]), activities([]))

    async with make_broker(script) as broker:
        walked = [page async for page in broker.walk_activities(None)]

    assert [row.id[-2:] for page in walked for row in page.activities] == ["e1", "e3"]
    assert [bad.raw for page in walked for bad in page.malformed] == [fill(2, qty="many")]


async def test_a_walk_that_fails_between_pages_leaves_the_token_of_the_last_whole_page() -> None:
    script = Script(activities([fill(1)]), *[refused(500) for _ in range(3)])

    async with make_broker(script, clock=Skipper()) as broker:
        walk = broker.walk_activities(None)
        page = await anext(walk)
        with pytest.raises(BrokerUnavailable):
            await anext(walk)

    assert page.next_token == "20261008111018091::e1"
    assert not page.complete


async def test_bars_are_merged_over_pages_and_by_symbol() -> None:
    def bar(minute: int) -> dict[str, object]:
        return {"t": f"2026-10-08T15:{minute:02}:00Z", "o": 1, "h": 1, "l": 1, "c": minute, "v": 1}

    script = Script(
        httpx.Response(200, json={"bars": {"A": [bar(1)]}, "next_page_token": "x"}),
        httpx.Response(200, json={"bars": {"A": [bar(2)], "B": [bar(1)]}, "next_page_token": "y"}),
        httpx.Response(200, json={"bars": None, "next_page_token": None}),
    )

    async with make_broker(script) as broker:
        bars = await broker.bars(["A", "B"], "1Min", NOON - timedelta(hours=1), feed="iex")

    assert {symbol: [int(found.close) for found in rows] for symbol, rows in bars.items()} == {
        "A": [1, 2],
        "B": [1],
    }
    assert script.requests[0].url.host == "data.alpaca.markets"
    assert [request.url.params.get("page_token") for request in script.requests] == [None, "x", "y"]


async def test_announced_actions_are_merged_over_pages_each_with_the_symbol_whose_shares_change() -> None:
    split = {"symbol": "A", "new_rate": 2, "old_rate": 1, "process_date": "2026-10-09", "ex_date": "2026-10-09"}
    spin = {"source_symbol": "B", "new_symbol": "C", "process_date": "2026-10-12", "ex_date": "2026-10-08"}
    merger = {
        "acquirer_symbol": "A",
        "acquiree_symbol": "B",
        "effective_date": "2026-10-13",
        "process_date": "2026-10-14",
    }
    name = {"old_symbol": "B", "new_symbol": "D", "process_date": "2026-10-15"}
    script = Script(
        httpx.Response(
            200, json={"corporate_actions": {"forward_splits": [split], "spin_offs": [spin]}, "next_page_token": "x"}
        ),
        httpx.Response(200, json={"corporate_actions": {"stock_mergers": [merger], "name_changes": [name]}}),
    )

    async with make_broker(script) as broker:
        found = await broker.corporate_actions(["A", "B"], date(2026, 10, 8), date(2026, 11, 8))

    assert [(action.kind, action.symbol, action.day.day) for action in found] == [
        ("forward_splits", "A", 9), ("spin_offs", "B", 8), ("stock_mergers", "B", 13), ("name_changes", "B", 15),
    ]  # fmt: skip


async def test_a_page_token_of_bars_that_repeats_is_an_error() -> None:
    same = [httpx.Response(200, json={"bars": {}, "next_page_token": "x"}) for _ in range(9)]

    async with make_broker(Script(*same)) as broker:
        with pytest.raises(StuckWalk):
            await broker.bars(["A"], "1Day", NOON)


async def test_latest_trades_of_many_symbols_are_asked_for_in_parts() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        trade = {"t": "2026-10-08T15:10:18Z", "p": 1.5, "s": 1, "c": None}
        return httpx.Response(200, json={"trades": dict.fromkeys(request.url.params["symbols"].split(","), trade)})

    symbols = [f"S{n}" for n in range(1203)]
    async with make_broker(answer) as broker:
        trades = await broker.latest_trades(symbols)

    assert sorted(trades) == sorted(symbols)


async def test_the_calendar_and_the_equity_curve_are_read() -> None:
    days = [{"date": "2026-11-27", "open": "09:30", "close": "13:00"}]
    curve = {"timestamp": [1790985600], "equity": [1.5], "profit_loss": [0], "base_value": None}
    script = Script(httpx.Response(200, json=days), httpx.Response(200, json=curve))

    async with make_broker(script) as broker:
        (day,) = await broker.calendar(date(2026, 11, 1), date(2026, 11, 30))
        (point,) = await broker.portfolio_history(period="1M")

    assert day.close == datetime(2026, 11, 27, 18, tzinfo=UTC)
    assert point.equity == Decimal("1.5")
    assert dict(script.requests[0].url.params) == {"start": "2026-11-01", "end": "2026-11-30"}


def fill(number: int, **changes: str) -> bytes:
    return fill_json(id=f"2026100811101809{number}::e{number}", **changes)


def activities(page: list[bytes]) -> httpx.Response:
    return httpx.Response(200, content=b"[" + b",".join(page) + b"]")


async def test_a_change_that_may_not_be_sent_any_more_is_kept_back() -> None:
    def too_late() -> None:
        raise NotSent("too late")

    script = Script(found_order())
    async with make_broker(script) as broker:
        with pytest.raises(NotSent):
            await broker.replace_order(ORDER_ID, may_send=too_late, stop_price=Decimal("51.60"))

    assert script.requests == []


async def test_whether_a_change_may_be_sent_is_asked_again_when_the_connection_stands() -> None:
    """Connecting takes time, in which a permission can run out: nothing but an open socket reaches the broker."""
    asked, heard = list[bool](), list[bytes]()

    def once() -> None:
        asked.append(True)
        if len(asked) > 1:
            raise NotSent("too late")

    async def listen(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            with anyio.move_on_after(5):
                heard.extend([part async for part in stream])

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    url = f"http://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"  # noqa: S610  no query, a port
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, listen)
        async with AlpacaRest(
            base_url=url, data_url=url, key_id="K", secret=SecretStr(SECRET), clock=SystemClock(), random=Random(1),
            slug="paper",
        ) as broker:  # fmt: skip
            with pytest.raises(NotSent):
                await broker.replace_order(ORDER_ID, may_send=once, stop_price=Decimal("51.60"))
        tasks.cancel_scope.cancel()

    assert (len(asked), b"".join(heard)) == (2, b"")

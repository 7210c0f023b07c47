"""The JSON API over real sockets and a real PostgreSQL: exact, whole, cheap to ask again, and never at a loss."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import httpx
import pytest
from fakes.room import SLUG, Room, healthy_workers, open_room
from psycopg.conninfo import make_conninfo
from psycopg.types.json import Jsonb

from coldharbour import db

pytestmark = pytest.mark.anyio

HOSTILE = '<script>alert("x")</script>'
LOT = """
    insert into accounts.open_trades (destination, parent_id, symbol, side, qty, entry_qty, avg_fill, avg_px_symbol,
        buy_value, entry_time, last_fill_time, sl_px, stop_order_id, mkt_px, mkt_value, profit_loss)
    values (%s, %s, %s, 'Long', 3, 3, 12.3333333333333333333333333, 12.3, 37, '2026-10-08T16:00:00.000001Z',
        '2026-10-08T16:00Z', 11.5, 'stop', 12.5, 37.5, 0.6)
"""
CLOSINGS = """
    insert into accounts.closed_trades (destination, entry_lot_id, exit_order_id, symbol, side, qty, entry_time,
        entry_price, exit_time, exit_price, exit_type, pnl_cash, pnl_cash_fifo, diff_pnl, return_pct, duration_sec)
    select %s, %s || n, 'exit', 'KO', 'Short', 10, '2026-10-08T16:00Z', 60, %s::timestamptz + n / 3 * interval '1 s',
        61, 'SL', -10, 4, -14, -1.75, 60
    from generate_series(1, %s) as n
"""
DAY = """
    insert into accounts.equity_full (destination, session_date, cash, market_value, deposit, net_flows, daily_return,
        cumulative_return, drawdown, complete, provisional, buy_volume)
    values (%s, %s, 100, 0.25, 100.25, 0, 0.0125, 0.5, -0.1, true, false, %s)
"""
MINUTE = """
    insert into accounts.equity_intraday (destination, session_date, at, equity, profit, flows, cumulative_return,
        complete, source) values (%s, '2026-10-08', %s, %s, %s, %s, 0.01, true, 'live')
"""
DECISION = """
    insert into accounts.log_breakeven (destination, "timestamp", last_at, parent_id, symbol, side, moved_flag, reason,
        detail, old_stop, new_stop, qty, entry_px, stop_order_id, is_action, evaluated_at, prices)
    values (%s, now(), now(), %s, 'KO', 'Long', 'OK', 'moved', 'moved', 11, 11.99, 5, 12, 'stop', true, '{}', '{}')
"""


@pytest.fixture
async def room(database_url: str) -> AsyncIterator[Room]:
    async with open_room(database_url) as opened:
        yield opened


@pytest.fixture
async def api(room: Room) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"{room.url}/{SLUG}/api/", timeout=20) as client:
        yield client


async def write(room: Room, query: str, *rows: tuple[object, ...]) -> None:
    async with room.db.transaction() as conn, conn.cursor() as cursor:
        await cursor.executemany(query.encode(), rows)


def exact(response: httpx.Response) -> Any:
    """Return the answer as one reads it who wants every digit."""
    assert response.status_code == 200, response.text
    return json.loads(response.text, parse_float=Decimal)


async def test_positions_keep_every_digit_and_what_the_broker_says_stays_text(
    room: Room, api: httpx.AsyncClient
) -> None:
    await write(room, LOT, (SLUG, HOSTILE, HOSTILE))

    response = await api.get("positions")

    (lot,) = exact(response)
    assert lot["avg_fill"] == Decimal("12.3333333333333333333333333")
    assert (lot["parent_id"], lot["symbol"], lot["qty"], lot["tp_px"]) == (HOSTILE, HOSTILE, 3, None)
    assert lot["entry_time"] == "2026-10-08T16:00:00.000001Z"
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("name", ["positions", "positions_cached"])
async def test_who_knows_the_answer_is_told_only_when_it_changed(room: Room, api: httpx.AsyncClient, name: str) -> None:
    await write(room, LOT, (SLUG, "one", "KO"))
    tag = (await api.get(name)).headers["etag"]

    same = await api.get(name, headers={"if-none-match": f'"other", W/{tag}'})
    await write(room, "update accounts.open_trades set mkt_px = 13 where destination = %s", (SLUG,))
    changed = await api.get(name, headers={"if-none-match": tag})

    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
    assert same.headers["cache-control"] == "private, no-cache"
    assert exact(changed)[0]["mkt_px"] == 13


async def test_pages_of_closed_trades_are_complete_though_trades_arrive_meanwhile(
    room: Room, api: httpx.AsyncClient
) -> None:
    # Three trades close in each second, so that pages of 7 end amid equal times.
    await write(room, CLOSINGS, (SLUG, "lot", "2026-10-08T17:00Z", 40))

    found, page = [], await api.get("closed", params={"limit": 7})
    while True:
        found += [trade["entry_lot_id"] for trade in exact(page)]
        await write(room, CLOSINGS, (SLUG, f"late{len(found)}-", "2026-10-09T17:00Z", 2))
        if "next" not in page.links:
            break
        page = await api.get(room.url + page.links["next"]["url"])

    by_time = sorted(range(1, 41), key=lambda n: (-(n // 3), f"lot{n}"))
    assert found == [f"lot{n}" for n in by_time]


async def test_closed_trades_come_in_pages_of_300_unless_asked_otherwise(room: Room, api: httpx.AsyncClient) -> None:
    await write(room, CLOSINGS, (SLUG, "lot", "2026-10-08T17:00Z", 301))

    page, cached = await api.get("closed"), await api.get("closed_cached")
    rest = await api.get(room.url + page.links["next"]["url"])

    assert [len(exact(answer)) for answer in (page, cached, rest)] == [300, 300, 1]
    assert exact(page) == exact(cached)
    assert exact(page)[0]["pnl_cash_fifo"] == 4


async def test_equity_is_cut_to_its_window(room: Room, api: httpx.AsyncClient) -> None:
    for day, bought in (("2026-09-01", 0), ("2026-09-30", 5), ("2026-10-07", 0), ("2026-10-08", 0)):
        await write(room, DAY, (SLUG, day, bought))

    async def days(window: str) -> list[str]:
        return [row["session_date"] for row in exact(await api.get("equity", params={"window": window}))]

    assert await days("all") == ["2026-09-01", "2026-09-30", "2026-10-07", "2026-10-08"]
    assert await days("first_trade") == ["2026-09-30", "2026-10-07", "2026-10-08"]
    assert await days("2d") == ["2026-10-07", "2026-10-08"]
    assert await days("99999d") == await days("all")
    assert exact(await api.get("equity?window=1d"))[0]["deposit"] == Decimal("100.25")


async def test_the_session_is_told_from_its_begin_its_open_or_an_hour(room: Room, api: httpx.AsyncClient) -> None:
    # 04:00, 09:29, 09:30 and 16:00 in New York; 50 came in from outside at noon; the day began with 1,000.
    for at, equity, profit, flows in (
        ("08:00", "1000", "0", "0"), ("13:29", "1001", "1", "0"), ("13:30", "1002", "2", "0"),
        ("20:00", "1060", "10", "50"),
    ):  # fmt: skip
        await write(room, MINUTE, (SLUG, f"2026-10-08T{at}Z", equity, profit, flows))

    async def seen(start: str) -> list[str]:
        answer = exact(await api.get("equity_intraday", params={"start": start}))
        assert answer["meta"] == {
            "session_date": "2026-10-08", "open_utc": None, "close_utc": None, "baseline_deposit": 1000,
            "session_flows": 50, "live_deposit": 1060,
        }  # fmt: skip
        return [point["at"][11:16] for point in answer["series"]]

    assert await seen("pre") == ["08:00", "13:29", "13:30", "20:00"]
    assert await seen("rth") == ["13:30", "20:00"]
    assert await seen("16") == ["20:00"]


async def test_key_figures_and_workers_are_told_as_they_stand(room: Room, api: httpx.AsyncClient) -> None:
    document = Jsonb({"equity": 74584.95, "risk_reward": None})
    await write(room, "insert into accounts.account_metrics values (%s, 'latest', %s, now())", (SLUG, document))
    await room.report(healthy_workers()[:1])

    figures, workers = exact(await api.get("metrics")), exact(await api.get("workers"))

    assert figures == {"equity": Decimal("74584.95"), "risk_reward": None}
    assert [(worker["kind"], worker["state"]) for worker in workers] == [("healing", "absent"), ("stream", "ready")]


async def test_the_audit_is_told_in_pages_and_by_lot(room: Room, api: httpx.AsyncClient) -> None:
    for lot in ("one", HOSTILE, "one", "one"):
        await write(room, DECISION, (SLUG, lot))

    page = await api.get("audit?limit=2&parent_id=one")
    rest = await api.get(room.url + page.links["next"]["url"])
    other = await api.get("audit", params={"parent_id": HOSTILE})

    assert [row["new_stop"] for row in exact(page) + exact(rest)] == [Decimal("11.99")] * 3
    assert "next" not in rest.links
    assert [(row["parent_id"], row["reason"]) for row in exact(other)] == [(HOSTILE, "moved")]


async def test_an_account_without_anything_has_empty_answers(api: httpx.AsyncClient) -> None:
    for name in ("positions", "positions_cached", "closed", "closed_cached", "equity", "equity?window=first_trade"):
        assert exact(await api.get(name)) == []
    assert exact(await api.get("metrics")) == {}
    intraday = exact(await api.get("equity_intraday?start=rth"))
    assert (intraday["series"], intraday["meta"]["live_deposit"]) == ([], None)


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        ("closed?limit=0", "limit"),
        ("closed?limit=1001", "limit"),
        ("closed?limit=many", "limit"),
        ("closed?after=x", "after: take it from the Link header"),
        ("closed?after=WyI5OTk5LTEyLTMxVDIzOjU5OjU5LTIzOjAwIiwiIiwiIl0", "after: take it from the Link header"),
        ("closed?after=WyIyMDI2LTEwLTA4VDE2OjAwWiIsIlx1MDAwMCIsIiJd", "after: take it from the Link header"),
        ("audit?parent_id=%00", "parent_id: no text has a NUL in it"),
        ("audit?before=9223372036854775808", "before"),
        ("equity?window=0d", "window"),
        ("equity?window=30d%0A", "window"),
        ("equity_intraday?start=24", "start"),
        ("equity_intraday?start=rth%0A", "start"),
    ],
)
async def test_a_parameter_that_cannot_be_used_is_refused_with_the_reason(
    api: httpx.AsyncClient, question: str, reason: str
) -> None:
    refused = await api.get(question)

    assert refused.status_code == 400
    assert reason in json.dumps(refused.json())


async def test_an_unknown_account_is_a_404_in_json(room: Room, api: httpx.AsyncClient) -> None:
    answer = await api.get(f"{room.url}/nobody/api/positions")

    assert answer.status_code == 404
    assert answer.json() == {"status_code": 404, "detail": "no such account is configured here"}


async def test_without_the_database_it_says_when_to_come_back(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db, "CHECKOUT_S", 0.2)  # how long to wait for a database is not the point here
    nobody = make_conninfo(database_url, host="127.0.0.1", port=1)
    async with open_room(database_url, pages_conninfo=nobody) as room, httpx.AsyncClient(timeout=60) as client:
        away = await client.get(f"{room.url}/{SLUG}/api/positions_cached")

    assert away.status_code == 503
    assert int(away.headers["retry-after"]) > 0
    assert "database" in away.json()["detail"]


async def test_a_database_that_was_not_upgraded_is_named_as_the_reason(room: Room, api: httpx.AsyncClient) -> None:
    await write(room, "drop table accounts.equity_full", ())

    answer = await api.get("equity")

    assert answer.status_code == 503
    assert "coldharbour db upgrade" in answer.json()["detail"]

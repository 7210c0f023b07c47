"""The downloads of the pages: whole, exact, and harmless in a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator

import anyio
import httpx
import pytest
from fakes.room import SLUG, Room, open_room

pytestmark = pytest.mark.anyio

TRADES = 12_345  # more than are fetched at once
CLOSINGS = """
    insert into accounts.closed_trades (destination, entry_lot_id, exit_order_id, symbol, side, qty, entry_time,
        entry_price, exit_time, exit_price, exit_type, pnl_cash, pnl_cash_fifo, diff_pnl, return_pct, duration_sec)
    select %s, %s || n, 'exit', %s, 'Long', 10, '2026-10-08T16:00Z', 12.3333333333333333333333333,
        '2026-10-08T16:00Z'::timestamptz + n * interval '1 s', 61, 'SL', -1e-9, 4, 0, -1.75, 60
    from generate_series(1, %s) as n
"""


@pytest.fixture
async def room(database_url: str) -> AsyncIterator[Room]:
    async with open_room(database_url) as opened:
        yield opened


@pytest.fixture
async def browser(room: Room) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"{room.url}/{SLUG}/export/", timeout=30) as client:
        yield client


async def write(room: Room, symbol: str, count: int, lot: str = "lot") -> None:
    async with room.db.transaction() as conn:
        await conn.execute(CLOSINGS, [SLUG, lot, symbol, count])


async def write_much(room: Room) -> None:
    """Write more than the sockets between us hold."""
    await write(room, "KO" * 1_000, 15_000)


async def test_closed_trades_come_whole_and_with_every_digit(room: Room, browser: httpx.AsyncClient) -> None:
    await write(room, "KO", TRADES)

    answer = await browser.get("closed.csv")

    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["entry_lot_id"] for row in rows] == [f"lot{n}" for n in range(1, TRADES + 1)]
    assert (rows[0]["entry_price"], rows[0]["pnl_cash"]) == ("12.3333333333333333333333333", "-0.000000001")
    assert rows[0]["exit_time"] == "2026-10-08T16:00:01Z"
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == f'attachment; filename="{SLUG}-closed.csv"'


async def test_what_the_broker_says_is_never_computed_by_a_spreadsheet(room: Room, browser: httpx.AsyncClient) -> None:
    formulas = ["=1+1", "+1", "-1", "@SUM(A1)", '=HYPERLINK("http://x","y")', "\t=1"]
    for number, symbol in enumerate(formulas):
        await write(room, symbol, 1, f"lot{number}-")

    rows = list(csv.DictReader(io.StringIO((await browser.get("closed.csv")).text)))

    assert sorted(row["symbol"] for row in rows) == sorted(f"'{symbol}" for symbol in formulas)
    assert {row["return_pct"] for row in rows} == {"-1.75"}


async def test_every_listing_can_be_had_before_it_has_rows_and_nothing_else(browser: httpx.AsyncClient) -> None:
    for name in ("positions", "closed", "equity", "audit"):
        answer = await browser.get(f"{name}.csv")
        assert (answer.status_code, answer.text.count("\n")) == (200, 1), name

    for name in ("positions.xls", "raw_events.csv", "positions"):
        assert (await browser.get(name)).status_code == 404, name


async def test_two_at_once_are_served_and_the_next_is_told_when_to_come(room: Room, browser: httpx.AsyncClient) -> None:
    await write_much(room)

    async with browser.stream("GET", "closed.csv") as one, browser.stream("GET", "closed.csv") as two:
        third = await browser.get("closed.csv")

    assert (one.status_code, two.status_code, third.status_code) == (200, 200, 503)
    assert int(third.headers["retry-after"]) > 0


async def test_a_download_that_is_broken_off_leaves_no_transaction_behind(
    room: Room, browser: httpx.AsyncClient
) -> None:
    await write_much(room)

    for _ in range(3):  # more than are served at once
        async with browser.stream("GET", "closed.csv") as answer:
            assert answer.status_code == 200
            assert await exports_under_way(room) == 1
        with anyio.fail_after(30):
            while await exports_under_way(room):
                await anyio.lowlevel.checkpoint()

    async with browser.stream("GET", "closed.csv"):
        room.worker.cancel()
        await room.ended.wait()
        assert await exports_under_way(room) == 0


async def exports_under_way(room: Room) -> int:
    """Return how many sessions of downloads the database server has."""
    async with room.db.transaction() as conn:
        found = await conn.execute(
            "select count(*) from pg_stat_activity"
            " where application_name = 'coldharbour/export' and datname = current_database()"
        )
        [(count,)] = await found.fetchall()
    return int(count)


async def test_a_database_that_was_not_upgraded_is_named_as_the_reason(room: Room, browser: httpx.AsyncClient) -> None:
    async with room.db.transaction() as conn:
        await conn.execute("drop table accounts.equity_full")

    answer = await browser.get("equity.csv")

    assert answer.status_code == 503
    assert "coldharbour db upgrade" in answer.json()["detail"]

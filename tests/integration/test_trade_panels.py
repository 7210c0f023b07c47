"""The panels of trades on the page of a running web worker: figures, totals, signs, and nothing unescaped."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import anyio
import httpx
import pytest
from coldharbour_plugins.trades import register_panels
from coldharbour_plugins.trades.closed_sheet import difference
from coldharbour_plugins.trades.store import ClosedTrade
from fakes.room import SLUG, Room, open_room

from coldharbour.db import notify

pytestmark = pytest.mark.anyio

AT = datetime(2026, 10, 8, 16, tzinfo=UTC)

LOT = """
    insert into accounts.open_trades (destination, parent_id, symbol, side, qty, entry_qty, avg_fill, avg_px_symbol,
        buy_value, entry_time, last_fill_time, sl_px, stop_order_id, mkt_px, mkt_value, profit_loss)
    values (%s, %s, %s, 'Long', 1250, 1250, 12.333333333, 12.3, 15416.67, '2026-10-08T16:00Z', '2026-10-08T16:00Z',
        11.5, %s, 12.5, 15625, %s)
"""
CLOSING = """
    insert into accounts.closed_trades (destination, entry_lot_id, exit_order_id, symbol, side, qty, entry_time,
        entry_price, exit_time, exit_price, exit_type, pnl_cash, pnl_cash_fifo, diff_pnl, return_pct, duration_sec)
    select %s, 'lot' || n, 'exit', 'KO', 'Short', 10, '2026-10-08T16:00Z', 60, '2026-10-08T16:01Z', 61, 'SL', -10.5,
        4, -14.5, -1.75, 60
    from generate_series(1, 310) as n
"""


async def until_page(room: Room, holds: Callable[[str], bool]) -> str:
    """Return the page once it is as expected."""
    async with httpx.AsyncClient() as http:
        with anyio.fail_after(15):
            while True:
                page = (await http.get(room.dashboard)).text
                if holds(page):
                    return page
                await anyio.sleep(0.1)


async def write(room: Room, query: str, *parameters: object) -> None:
    """Write rows, and tell as the workers do."""
    async with room.db.transaction() as conn:
        await conn.execute(query.encode(), parameters)
    for channel in ("pos_channel", "closed_channel"):
        await notify(room.db, f"{channel}_{SLUG}", "{}")


async def test_an_account_without_trades_says_so(database_url: str) -> None:
    async with open_room(database_url, panels=register_panels()) as room:
        page = await until_page(room, lambda page: "nothing was closed yet" in page)

        assert ">flat</p>" in page
        assert page.count('<p class="nothing"></p>') == 2


async def test_open_lots_show_their_figures_and_the_sum(database_url: str) -> None:
    async with open_room(database_url, panels=register_panels()) as room:
        await write(room, LOT, SLUG, "one", "KO", "stop", "250.005")
        await write(room, LOT, SLUG, "two", "PEP", None, "-1000.5")

        page = await until_page(room, lambda page: "PEP" in page)

        assert 'id="open-paper-one"' in page
        for text in ("1,250", "12.3333", "12.50", "15,625.00", "+250.00", "11.50", "−1,000.50", "2 lots"):
            assert text in page, text
        assert '<span class="state state-warn">1 without a stop</span>' in page
        assert "31,250.00" in page
        assert "−750.50" in page


async def test_the_sum_waits_for_the_last_price(database_url: str) -> None:
    async with open_room(database_url, panels=register_panels()) as room:
        await write(room, LOT, SLUG, "one", "KO", "stop", "250")
        await write(room, LOT, SLUG, "two", "PEP", "stop", None)

        page = await until_page(room, lambda page: "PEP" in page)

        assert page.count("+250.00") == 1  # in its own row, and no sum


async def test_the_newest_300_closings_and_the_sum_of_all(database_url: str) -> None:
    async with open_room(database_url, panels=register_panels()) as room:
        await write(room, CLOSING, SLUG)

        page = await until_page(room, lambda page: "310 closings" in page)

        assert page.count('id="closed-paper-') == 300
        assert "the newest 300 shown" in page
        assert "−3,255.00" in page
        assert "+1,240.00" in page
        assert "−1.75\xa0%" in page


async def test_every_closing_has_a_page_and_there_are_no_others(database_url: str) -> None:
    async with open_room(database_url, panels=register_panels()) as room, httpx.AsyncClient() as http:
        await write(room, CLOSING, SLUG)
        pages = [await http.get(f"{room.dashboard}panels/closed?page={number}") for number in (1, 2, 3)]
        none = ("panels/closed?page=0", f"panels/closed?page={10**20}", "panels/open")
        refused = [await http.get(f"{room.dashboard}{path}") for path in none]

    lots = [set(re.findall(r'id="closed-paper-(lot\d+)-exit"', page.text)) for page in pages]
    assert [len(found) for found in lots] == [300, 10, 0]
    assert lots[0] | lots[1] == {f"lot{n}" for n in range(1, 311)}
    assert [answer.status_code for answer in refused] == [404, 404, 404]


def test_two_results_that_differ_are_explained_by_the_cost_that_each_takes() -> None:
    # 100 bought at 10, then 100 at 12; the second lot's target sells 100 at 13: +100 for the lot, +300 by FIFO.
    trade = ClosedTrade(
        entry_lot_id="b", exit_order_id="x", symbol="KO", side="Long", qty=Decimal(100), entry_time=AT,
        entry_price=Decimal(12), exit_price=Decimal(13), exit_time=AT, exit_type="TP", pnl_cash=Decimal(100),
        pnl_cash_fifo=Decimal(300), diff_pnl=Decimal(-200), return_pct=Decimal("8.33"), r_multiple=None,
        duration_sec=60, initial_stop=None, high_px=None, low_px=None,
    )  # fmt: skip

    assert difference(trade) == (
        "This exit belongs to the lot entered at 12.00; first in, first out closes the oldest shares instead, which "
        "were entered at 10.00 on average."
    )
    assert difference(replace(trade, pnl_cash_fifo=Decimal(100), diff_pnl=Decimal(0))) == ""


async def test_drift_and_findings_appear_only_while_there_are_any(database_url: str) -> None:
    async with open_room(database_url, panels=register_panels()) as room:
        await write(
            room,
            "insert into accounts.position_drifts (destination, symbol, our_qty, broker_qty, seen_at, last_seen_at)"
            " values (%s, 'KO', 20, 25, now(), now())",
            SLUG,
        )
        await write(
            room,
            "insert into accounts.findings (destination, area, key, finding, found_at)"
            " values (%s, 'book', 'k', 'a fill without a time', now())",
            SLUG,
        )
        page = await until_page(room, lambda page: "a fill without a time" in page and "1 differ" in page)
        assert '<p class="nothing"></p>' not in page

        await write(room, "update accounts.position_drifts set resolved_at = now() where destination = %s", SLUG)
        await until_page(room, lambda page: "1 differ" not in page)


async def test_what_the_broker_calls_a_symbol_is_never_markup(database_url: str) -> None:
    async with open_room(database_url, panels=register_panels()) as room:
        await write(room, LOT, SLUG, "one", "<script>alert(1)</script>", "stop", "1")

        page = await until_page(room, lambda page: "alert(1)" in page)

        assert "<script>alert" not in page

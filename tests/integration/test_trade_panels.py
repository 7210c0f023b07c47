"""The panels of trades on the page of a running web worker: figures, totals, signs, and nothing unescaped."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import httpx
import pytest
from coldharbour_plugins.trades import register_panels
from fakes.room import SLUG, Room, open_room

from coldharbour.db import notify

pytestmark = pytest.mark.anyio

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
        4, 0, -1.75, 60
    from generate_series(1, 60) as n
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

        assert page.count("+250.00") == 1


async def test_the_newest_closings_and_the_sum_of_all(database_url: str) -> None:
    async with open_room(database_url, panels=register_panels()) as room:
        await write(room, CLOSING, SLUG)

        page = await until_page(room, lambda page: "60 closings" in page)

        assert page.count('id="closed-paper-') == 50
        assert "the newest 50 shown" in page
        assert "−630.00" in page
        assert "+240.00" in page
        assert "−1.75 %" in page


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

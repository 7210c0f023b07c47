"""The calendar of results on real pages: each closing on its New York day, sums of weeks and months by hand."""

from __future__ import annotations

import re

import anyio
import httpx
import pytest
from coldharbour_plugins.calendar import register_panels
from fakes.room import SLUG, open_room

from coldharbour.db import notify

pytestmark = pytest.mark.anyio

CLOSING = """
    insert into accounts.closed_trades (destination, entry_lot_id, exit_order_id, symbol, side, qty, entry_time,
        entry_price, exit_time, exit_price, exit_type, pnl_cash, pnl_cash_fifo, diff_pnl, return_pct, duration_sec)
    values (%s, %s, 'exit', 'KO', 'Long', 10, '2025-01-01T00:00Z', 60, %s, 61, 'SL', %s, 0, 0, 0, 60)
"""
# Friday evening in New York is Saturday in UTC; the 1st and 2nd of October are in one week with the 28th of September.
CLOSINGS = (
    ("2026-10-03T01:00Z", "100.50"), ("2026-10-01T15:00Z", "-1200.25"), ("2026-10-05T15:00Z", "40"),
    ("2026-10-05T16:00Z", "-10"), ("2026-09-28T15:00Z", "7"), ("2025-10-31T15:00Z", "999"),
)  # fmt: skip


async def test_each_day_has_its_result_and_weeks_and_months_their_sum(database_url: str) -> None:
    async with open_room(database_url, panels=register_panels()) as room, httpx.AsyncClient() as browser:
        async with room.db.transaction() as conn:
            for number, (at, result) in enumerate(CLOSINGS):
                await conn.execute(CLOSING, [SLUG, str(number), at, result])
        await notify(room.db, f"closed_channel_{SLUG}", "{}")

        page = ""
        with anyio.fail_after(20):
            while "October 2026" not in page:
                page = (await browser.get(f"{room.url}/{SLUG}/partials/calendar")).text

    october, september = re.findall(r"<table.*?</table>", page, re.DOTALL)
    assert "2026-10-02: +100.50, 1 closing, 1 with a gain" in october
    assert 'class="loss strength-3" title="2026-10-01: −1,200.25, 1 closing, 0 with a gain"' in october
    assert 'class="gain strength-1" title="2026-10-05: +30.00, 2 closings, 1 with a gain"' in october
    assert re.findall(r'week \w+">([^<]*)<', october) == ["−1,099.75", "+30.00", "", "", ""]
    assert '<span class="num loss">−1,069.75</span> <span class="soft">4 closings</span>' in october
    assert '<span class="num gain">+7.00</span>' in september


async def test_an_account_that_closed_nothing_says_so(database_url: str) -> None:
    async with open_room(database_url, panels=register_panels()) as room, httpx.AsyncClient() as browser:
        page = (await browser.get(f"{room.url}/{SLUG}/partials/calendar")).text

    assert "nothing was closed yet" in page

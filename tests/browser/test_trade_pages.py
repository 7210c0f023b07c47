"""From the dashboard to one trade and its calendar day, with the keyboard and within the page's policy."""

from __future__ import annotations

import pytest
from coldharbour_plugins import calendar, trades
from fakes.room import SLUG, open_room
from playwright.async_api import Browser, expect

from coldharbour.db import notify

pytestmark = pytest.mark.anyio

LONG_MS = 20_000
HOSTILE = "<img src=x onerror=alert(1)>"
CLOSING = """
    insert into accounts.closed_trades (destination, entry_lot_id, exit_order_id, symbol, side, qty, entry_time,
        entry_price, exit_time, exit_price, exit_type, pnl_cash, pnl_cash_fifo, diff_pnl, return_pct, duration_sec)
    values (%s, 'lot one', 'exit', %s, 'Long', 10, '2026-10-08T15:00Z', 60, '2026-10-08T16:00Z', 61, 'TP', 10,
        10, 0, 1, 9)
"""


async def test_a_closed_trade_leads_to_its_page_and_stands_in_the_calendar(
    database_url: str, chromium: Browser
) -> None:
    complaints: list[str] = []
    panels = [*trades.register_panels(), *calendar.register_panels()]
    async with open_room(database_url, panels=panels) as room:
        page = await chromium.new_page(viewport={"width": 390, "height": 900})
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        await page.goto(f"{room.url}/{SLUG}")

        async with room.db.transaction() as conn:
            await conn.execute(CLOSING, [SLUG, HOSTILE])
        await notify(room.db, f"closed_channel_{SLUG}", "{}")

        months = page.get_by_role("region", name="Results by day")
        await expect(months).to_contain_text("October 2026 +10.00", timeout=LONG_MS)
        await months.focus()
        assert await months.evaluate("element => element === document.activeElement")
        await months.get_by_role("link", name="8 +10").press("Enter")
        closed = page.locator(f"#panel-closed-{SLUG}")
        await expect(closed).to_contain_text("1 closing on Thursday, 2026-10-08, New York")
        await expect(closed.locator("tbody tr")).to_have_count(1)
        await page.goto(f"{room.url}/{SLUG}/panels/closed?day=2026-10-09")
        await expect(closed).to_contain_text("nothing was closed on Friday, 2026-10-09")
        await page.go_back()
        await page.go_back()
        link = page.locator(f"#panel-closed-{SLUG}").get_by_role("link", name=HOSTILE)
        await link.focus()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("list", name="What happened")).to_contain_text("closed 10 at 61.00 by TP: +10.00")
        await expect(page.get_by_role("heading", name=f"Trade in {HOSTILE}")).to_be_visible()
        assert await page.locator("img").count() == 0
        await page.close()
    assert complaints == []

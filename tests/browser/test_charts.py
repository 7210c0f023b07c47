"""The equity chart in a real browser: drawn from the API, in its windows, live, and within the page's policy."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from coldharbour_plugins.charts import register_panels
from fakes.room import SLUG, Room, open_room
from playwright.async_api import Browser, Page, expect

from coldharbour.db import notify

pytestmark = pytest.mark.anyio

FIRST = date(2026, 1, 1)
LONG_MS = 20_000
IN_WORDS = "Equity 1,990.00 on 2026-04-10, +99.00 % since 2026-01-01, 1.00 % below its peak, at the deepest 1.00 %"
MARKED = "1 day with entries, 2 days with closed trades, 3 days with blind times of the order stream"
DAY = """
    insert into accounts.equity_full (destination, session_date, cash, market_value, deposit, net_flows, daily_return,
        cumulative_return, drawdown, complete, provisional) values (%s, %s, 0, 0, %s, 0, 0, %s, -0.01, true, false)
"""
MINUTES = """
    insert into accounts.equity_intraday (destination, session_date, at, equity, profit, flows, cumulative_return,
        complete, source)
    select %s, '2026-10-08', timestamptz '2026-10-08T14:00Z' + n * interval '1 min', 1000 + n, n, 0, 0, true, 'live'
    from generate_series(1, 60) as n
"""
# One trade entered on 2026-03-20 in New York and closed on two days; one from before the month that is shown.
CLOSED = """
    insert into accounts.closed_trades (destination, entry_lot_id, exit_order_id, symbol, side, qty, entry_time,
        entry_price, exit_time, exit_price, exit_type, pnl_cash, pnl_cash_fifo, diff_pnl, return_pct, duration_sec)
    select %s, lot, exit, 'KO', 'Long', 10, entered::timestamptz, 60, closed::timestamptz, 61, 'TP', 10, 10, 0, 1, 9
    from (values ('one', 'a', '2026-03-20T15:00Z', '2026-03-23T15:00Z'),
                 ('one', 'b', '2026-03-20T15:00Z', '2026-03-26T01:00Z'),
                 ('two', 'c', '2026-02-02T15:00Z', '2026-02-03T15:00Z')) as trade (lot, exit, entered, closed)
"""
BLIND = """
    insert into account_activities.gaps (destination, blind_from, blind_to, reason, healed_at)
    values (%s, '2026-03-15T12:00Z', '2026-03-17T12:00Z', 'closed', now())
"""


async def save_day(room: Room, number: int) -> None:
    """Write the session of this number, which ends `number` percent above the first, and tell."""
    async with room.db.transaction() as conn:
        await conn.execute(DAY, [SLUG, FIRST + timedelta(days=number), 1000 + 10 * number, number / 100])
    await notify(room.db, f"equity_channel_{SLUG}", "{}")


async def painted(page: Page) -> int:
    """Return how many pixels of the first pane's canvas are not empty."""
    count: int = await page.evaluate(
        """() => {
            const size = (canvas) => canvas.width * canvas.height;
            const canvas = [...document.querySelectorAll(".chart-canvas canvas")].sort((a, b) => size(b) - size(a))[0];
            const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
            return pixels.filter((value, index) => index % 4 === 3 && value > 0).length;
        }"""
    )
    return count


async def test_the_curve_is_drawn_in_its_windows_and_grows_without_a_reload(
    database_url: str, chromium: Browser
) -> None:
    complaints: list[str] = []
    async with open_room(database_url, panels=register_panels()) as room:
        for number in range(100):
            await save_day(room, number)
        async with room.db.transaction() as conn:
            await conn.execute(MINUTES, [SLUG])
            await conn.execute(CLOSED, [SLUG])
            await conn.execute(BLIND, [SLUG])
        page = await chromium.new_page(viewport={"width": 1400, "height": 900}, color_scheme="dark")
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        await page.goto(f"{room.url}/{SLUG}")
        canvas, values = page.locator(".chart-canvas"), page.locator(".chart-values")

        await expect(canvas).to_have_attribute("data-points", "100", timeout=LONG_MS)
        assert await painted(page) > 1_000
        await expect(canvas).to_have_attribute("role", "img")
        await expect(canvas).to_have_attribute("aria-label", IN_WORDS)

        # 31 days: from 2026-03-11 on, measured from the session before, which stood at +68 %.
        await page.get_by_role("button", name="1M").click()
        await expect(canvas).to_have_attribute("data-points", "31", timeout=LONG_MS)
        await expect(values).to_contain_text("2026-04-10  ·  1,990.00  ·  +18.45 %  ·  drawdown −1.00 %")

        # The pointer shows an early day, the keys lead on from the newest one: 2026-04-10 is a Friday's close at +99 %.
        box = await canvas.bounding_box()
        assert box
        await page.mouse.move(box["x"] + 5, box["y"] + 100)
        await expect(values).to_contain_text("2026-03-1")
        await page.mouse.move(0, 0)
        await expect(values).to_contain_text("2026-04-10")
        await canvas.focus()
        await page.keyboard.press("ArrowLeft")
        await page.keyboard.press("ArrowLeft")
        await expect(values).to_contain_text("2026-04-09  ·  1,980.00  ·  +17.86 %")
        await page.keyboard.press("Control+Home")  # the browser's own, not the chart's
        await expect(values).to_contain_text("2026-04-09")
        await page.keyboard.press("Home")
        await expect(values).to_contain_text("2026-03-11  ·  1,690.00")
        await page.keyboard.press("Escape")
        await expect(values).to_contain_text("2026-04-10")
        await expect(canvas).to_have_attribute("aria-description", MARKED)

        await page.get_by_role("button", name="Day").click()
        await expect(canvas).to_have_attribute("data-points", "60", timeout=LONG_MS)
        await expect(values).to_contain_text("11:00 New York  ·  1,060.00  ·  +6.00 %")  # 60 gained on 1,000

        await page.get_by_role("button", name="All").click()
        await expect(canvas).to_have_attribute("data-points", "100", timeout=LONG_MS)
        await canvas.focus()
        await page.keyboard.press("Home")
        await save_day(room, 100)
        await expect(canvas).to_have_attribute("data-points", "101", timeout=LONG_MS)
        await expect(values).to_contain_text("2026-01-01")  # whoever reads by keys is not led away
        await page.get_by_text("Sessions as a table").click()
        newest = page.get_by_role("region", name="Newest sessions").locator("tbody tr")
        await expect(newest).to_have_count(25)
        await expect(newest.first).to_have_text("2026-04-112,000.00+10.000.00 %–−1.00 %")
        await page.get_by_role("button", name="Auto").click()
        await page.get_by_role("button", name="Dark").click()
        await expect(page.locator("html")).to_have_attribute("data-theme", "light")
        assert await painted(page) > 1_000
        every, one = [
            await (await page.request.get(f"{room.url}/{SLUG}/panels/equity{query}")).text()
            for query in ("", "?day=2026-04-10")
        ]
        assert (every.count('<tr id="session-'), "page 1 of 1" in every) == (101, True)
        assert (one.count('<tr id="session-'), "page 1 of 1" in one) == (1, False)
        await page.close()
    assert complaints == []

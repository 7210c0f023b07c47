"""The tables of trades in a real browser: prices change single cells, order and filter are kept, keys are enough."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest
from axe_playwright_python.async_playwright import Axe
from coldharbour_plugins import figures, trades
from fakes.room import SLUG, Room, healthy_workers, open_room
from playwright.async_api import Page, expect

from coldharbour.db import notify
from coldharbour.sections import WebSettings

pytestmark = pytest.mark.anyio

LOT = """
    insert into accounts.open_trades (destination, parent_id, symbol, side, qty, entry_qty, avg_fill, avg_px_symbol,
        buy_value, entry_time, last_fill_time, initial_stop, sl_px, stop_order_id, tp_px, mkt_px, mkt_at, mkt_value,
        profit_loss, profit_loss_lot, tp_sl_reach_pct, r_multiple)
    values (%s, %s, %s, 'Long', 100, 100, 50, 50, 5000, now() - interval '1 day', now(), 48, 48, 'stop', 56, 51, now(),
        5100, %s, 100, 16.6667, 0.5)
"""
CLOSE = """
    insert into accounts.closed_trades (destination, entry_lot_id, exit_order_id, symbol, side, qty, entry_time,
        entry_price, exit_time, exit_price, exit_type, pnl_cash, pnl_cash_fifo, diff_pnl, return_pct, duration_sec)
    values (%s, 'ko', 'exit', 'KO', 'Long', 100, now(), 50, now(), 56, 'TP', 600, 600, 0, 12, 60)
"""
PANELS = [*trades.register_panels(), *figures.register_panels()]
OPEN = f"#sheet-open-{SLUG}"

# Select a symbol, scroll to where it is, and from then on note the rows of which anything changed.
WATCH_ROWS = """(sheet) => {
    const table = document.querySelector(sheet), scroll = table.parentElement, touched = new Set();
    const symbol = [...table.querySelectorAll("tbody th a:first-child")].find((each) => each.textContent === "S30");
    scroll.scrollTop = 300;
    const place = () => symbol.getBoundingClientRect().top;
    const before = place();
    getSelection().selectAllChildren(symbol);
    const note = (node) => node.nodeType === 1 && node.closest("tr")?.id && touched.add(node.closest("tr").id);
    new MutationObserver((changes) => {
        for (const { target, addedNodes, removedNodes } of changes) {
            note(target.nodeType === 1 ? target : target.parentElement ?? table);
            for (const node of [...addedNodes, ...removedNodes]) note(node);
        }
    }).observe(table, { subtree: true, childList: true, characterData: true, attributeFilter: ["data-tone"] });
    window.seen = () => (window.found =
        { touched: [...touched].sort(), selected: getSelection().toString(), moved_px: place() - before });
}"""


@pytest.fixture
async def room(database_url: str) -> AsyncIterator[Room]:
    async with open_room(database_url, panels=PANELS) as opened:
        yield opened


async def hold(room: Room, *lots: tuple[str, str]) -> None:
    """Open lots (symbol, P/L) of 100 shares, entered at 50 with a stop at 48 and a target at 56."""
    async with room.db.transaction() as conn:
        for symbol, result in lots:
            await conn.execute(LOT, [SLUG, symbol.lower(), symbol, result])
    await notify(room.db, f"pos_channel_{SLUG}", '{"op":"resync"}')


def told(symbol: str, price: str, result: str, reach: str) -> str:
    """Return what the valuation tells of such a lot at a price."""
    row: dict[str, Any] = {
        "parent_id": symbol.lower(), "version": 1, "side": "Long", "avg_fill": "50", "initial_stop": "48",
        "mkt_px": price, "mkt_at": datetime.now(UTC).isoformat(), "mkt_value": "4900", "profit_loss": result,
        "profit_loss_lot": result, "tp_sl_reach_pct": reach, "r_multiple": "-0.5", "high_px": "52", "low_px": "49",
    }  # fmt: skip
    return json.dumps({"row": row})


async def connected(page: Page, room: Room) -> None:
    await page.goto(room.dashboard)
    await expect(page.locator("#connection")).to_have_text("live")


async def test_a_price_changes_its_cells_and_the_sums_and_nothing_else(
    page: Page, room: Room, complaints: list[str]
) -> None:
    await hold(room, ("KO", "100"), ("PEP", "250.5"))
    await connected(page, room)
    row = page.locator(f"#open-{SLUG}-ko")
    await expect(row.locator("[data-cell=pl]")).to_have_text("+100.00")
    await row.evaluate("row => { row.marked = true; }")

    await notify(room.db, f"pos_channel_{SLUG}", told("KO", "49", "-100", "-50"))

    await expect(row.locator("[data-cell=market]")).to_have_text("49.00")
    await expect(row.locator("[data-cell=pl]")).to_have_text("−100.00")
    await expect(row.locator("[data-cell=pl]")).to_have_attribute("data-tone", "loss")
    await expect(row.locator("[data-cell=reach]")).to_have_text("−50 %")
    await expect(row.locator("rect")).to_have_attribute("x", "-50")
    await expect(row.locator("[data-cell=excursion]")).to_have_text("−0.50 / +1.00")
    await expect(page.locator(f"#open-{SLUG}-all [data-cell=pl]")).to_have_text("+150.50")
    assert await row.evaluate("row => row.marked")  # the row is the one that it was
    assert complaints == []


async def test_a_new_lot_a_moved_stop_and_a_closed_trade_appear_without_a_reload(page: Page, room: Room) -> None:
    await connected(page, room)
    await expect(page.locator(f"#panel-open-{SLUG}")).to_contain_text("flat")

    await hold(room, ("KO", "100"))
    row = page.locator(f"#open-{SLUG}-ko")
    await expect(row.locator("[data-cell=stop]")).to_have_text("48.00")

    async with room.db.transaction() as conn:
        await conn.execute("update accounts.open_trades set sl_px = 49.99, version = 2")
    await notify(room.db, f"pos_channel_{SLUG}", '{"op":"lot","parent_id":"ko","version":2}')
    await expect(row.locator("[data-cell=stop]")).to_have_text("49.99")

    async with room.db.transaction() as conn:
        await conn.execute("delete from accounts.open_trades")
        await conn.execute(CLOSE, [SLUG])
    await notify(room.db, f"pos_channel_{SLUG}", '{"op":"delete","parent_id":"ko"}')
    await notify(room.db, f"closed_channel_{SLUG}", "{}")
    await expect(row).to_have_count(0)
    await expect(page.locator(f"#closed-{SLUG}-ko-exit")).to_contain_text("+600.00")


async def test_a_fill_changes_its_own_rows_and_leaves_focus_place_and_selection_alone(page: Page, room: Room) -> None:
    await hold(room, *((f"S{number:02}", str(number)) for number in range(60)))
    await connected(page, room)
    await page.locator(f"{OPEN} thead .c-pl button").click()  # the largest first: 59, 58, ...
    focused = page.locator(f"#open-{SLUG}-s20 a").first
    await focused.focus()
    await page.evaluate(WATCH_ROWS, OPEN)

    async with room.db.transaction() as conn:
        await conn.execute("update accounts.open_trades set qty = 40, version = 2 where symbol = 'S10'")
        await conn.execute("delete from accounts.open_trades where symbol = 'S11'")
    await hold(room, ("NEW", "12.5"))

    await expect(page.locator(f"#open-{SLUG}-s10 [data-cell=qty]")).to_have_text("40")
    await expect(page.locator(f"#open-{SLUG}-new [data-cell=qty]")).to_have_text("100")
    await expect(page.locator(f"#note-open-{SLUG}")).to_contain_text("60 lots")
    await expect(focused).to_be_focused()
    seen = await page.evaluate("window.seen(), window.found")
    assert seen["touched"] == [f"open-{SLUG}-all", f"open-{SLUG}-new", f"open-{SLUG}-s10", f"open-{SLUG}-s11"]
    assert seen["selected"] == "S30"
    assert seen["moved_px"] == 0
    shown = await page.locator(f"{OPEN} tbody tr th").all_inner_texts()
    assert shown[46:50] == ["S13", "NEW", "S12", "S10"]


async def test_order_filter_and_columns_outlive_updates_and_a_reload(page: Page, room: Room) -> None:
    await hold(room, ("AAA", "1"), ("BBB", "-20"), ("CCC", "300"), ("BCD", "5"))
    await connected(page, room)
    shown = page.locator(f"{OPEN} tbody tr:visible th")

    await page.locator(f"{OPEN} thead .c-pl button").click()
    await expect(shown).to_have_text(["CCC", "BCD", "AAA", "BBB"])
    await expect(page.locator(f"{OPEN} thead .c-pl")).to_have_attribute("aria-sort", "descending")
    await page.keyboard.press("/")
    await page.keyboard.type("b")
    await expect(shown).to_have_text(["BCD", "BBB"])
    await page.locator(f"#tools-open-{SLUG} summary").click()
    await page.get_by_label("Buy value").uncheck()

    await hold(room, ("BZZ", "7"))
    await expect(shown).to_have_text(["BZZ", "BCD", "BBB"])
    await expect(page.locator(f"{OPEN} thead .c-cost")).to_be_hidden()
    assert "open-sort=-pl&open-filter=b" in page.url

    await page.reload()
    await expect(shown).to_have_text(["BZZ", "BCD", "BBB"])
    await expect(page.locator(f"{OPEN} thead .c-cost")).to_be_hidden()
    await expect(page.locator(f"#filter-open-{SLUG}")).to_have_value("b")


async def test_keys_alone_lead_from_the_skip_link_to_a_figures_formula(page: Page, room: Room) -> None:
    await hold(room, ("KO", "100"))
    await connected(page, room)

    await page.keyboard.press("Tab")
    await expect(page.locator(".skip")).to_be_focused()
    await page.keyboard.press("Enter")
    await page.keyboard.press("/")
    await expect(page.locator(f"#filter-open-{SLUG}")).to_be_focused()
    await page.keyboard.type("nothing like it")
    await expect(page.locator(f"#open-{SLUG}-ko")).to_be_hidden()
    await page.keyboard.press("Escape")
    await expect(page.locator(f"#open-{SLUG}-ko")).to_be_visible()
    for _ in range(6):  # the columns, the download, the table's region, then its heads: symbol, state, side
        await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(page.locator(f"{OPEN} thead .c-side")).to_have_attribute("aria-sort", "ascending")


async def test_the_tab_and_the_card_say_how_the_day_goes(page: Page, room: Room) -> None:
    await hold(room, ("KO", "100"))
    async with room.db.transaction() as conn:
        await conn.execute(
            "insert into accounts.account_metrics (destination, document, updated_at) values (%s, %s, now())",
            [SLUG, json.dumps({"equity": 101.5, "day_pl": -12.345, "day_return_pct": -10.84, "updated_at": None})],
        )
    await page.goto(room.url)

    card = page.locator(f"#card-{SLUG}")
    await expect(card).to_contain_text("−12.34")
    await expect(card).to_contain_text("1.00 R")  # entered at 50, its stop still where it began
    await expect(page).to_have_title("−12.34 · Cold Harbour · 1 account")
    assert "favicon-loss" in (await page.locator("#favicon").get_attribute("href") or "")
    await card.get_by_role("link").click()
    await expect(page.locator("h1")).to_have_text("Paper account")


async def test_a_hidden_tab_holds_no_stream_and_catches_up_when_it_is_seen_again(page: Page, room: Room) -> None:
    await connected(page, room)
    hide = "state => { Object.defineProperty(document, 'hidden', {value: state === 'hidden', configurable: true});" \
        " Object.defineProperty(document, 'visibilityState', {value: state, configurable: true});" \
        " document.dispatchEvent(new Event('visibilitychange')); }"  # fmt: skip

    await page.evaluate(hide, "hidden")
    with anyio.fail_after(15):
        while "coldharbour_sse_clients 0.0" not in await (await page.request.get(f"{room.url}/metrics")).text():
            pass
    await hold(room, ("KO", "100"))
    await page.evaluate(hide, "visible")

    await expect(page.locator(f"#open-{SLUG}-ko")).to_be_visible(timeout=15_000)
    await expect(page.locator("#connection")).to_have_text("live")


async def test_without_streams_the_page_polls(page: Page, database_url: str, complaints: list[str]) -> None:
    async with open_room(database_url, panels=PANELS, web=WebSettings(disable_sse=True)) as room:
        await hold(room, ("KO", "100"))
        await connected(page, room)
        result = page.locator(f"#open-{SLUG}-ko [data-cell='pl']")
        await expect(result).to_have_text("+100.00", timeout=15_000)

        async with room.db.transaction() as conn:
            await conn.execute("update accounts.open_trades set mkt_px = 49, profit_loss = -100")
        await notify(room.db, f"pos_channel_{SLUG}", told("KO", "49", "-100", "-50"))

        await expect(result).to_have_text("−100.00", timeout=15_000)
        await expect(page.locator("#connection")).to_have_text("live")
        assert "coldharbour_sse_clients 0.0" in await (await page.request.get(f"{room.url}/metrics")).text()
    assert complaints == []


@pytest.mark.parametrize("scheme", ["dark", "light"])
async def test_nothing_serious_keeps_anybody_from_using_the_pages(page: Page, room: Room, scheme: Any) -> None:
    await room.report(healthy_workers())
    await room.hear(symbol="KO", event="fill")
    await hold(room, ("KO", "100"), ("PEP", "-100"))
    await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")

    for address in (room.dashboard, room.url):
        await page.goto(address)
        await expect(page.locator("#connection")).to_have_text("live")
        await expect(page.locator(f"#head-{SLUG}")).to_contain_text("all well")
        found = await Axe().run(page)
        assert [
            (violation["id"], [node["html"] for node in violation["nodes"]][:3])
            for violation in found.response["violations"]
            if violation["impact"] in {"serious", "critical"}
        ] == []

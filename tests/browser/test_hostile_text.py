"""Two hundred hostile strings wherever text from outside is shown: no script runs, and nothing is asked for."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from coldharbour_plugins import operator, trades
from fakes.hostile import HOSTILE
from fakes.room import SLUG, Room, healthy_workers, open_room
from playwright.async_api import Page, expect

from coldharbour import requests
from coldharbour.db import notify
from coldharbour.requests import Action
from coldharbour.sections import WebSettings

pytestmark = pytest.mark.anyio

WATCH = """
document.addEventListener("securitypolicyviolation", (event) =>
  (window.__reports ??= []).push(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
"""
STRUCK = "[window.__struck ?? 0, window.__reports ?? [], document.querySelectorAll('img, iframe, object, base').length]"
EVENTUALLY_MS = 15_000


def joined(texts: list[str], size: int) -> list[str]:
    """Return the texts, so many in one."""
    return [" ".join(texts[first : first + size]) for first in range(0, len(texts), size)]


async def told(room: Room, texts: list[str]) -> None:
    """Have the broker say every text, as symbols, ids and names of orders, positions and failures."""
    now = datetime.now(UTC)
    async with room.db.transaction() as conn:
        for text in joined(texts, 10):
            order_id = uuid.uuid4()
            await conn.execute(
                "insert into account_activities.raw_orders (destination, id, client_order_id, status, symbol, side,"
                " order_type, qty, filled_qty, updated_at, submitted_at, raw_json, source)"
                " values (%s, %s, %s, 'new', %s, 'buy', 'limit', 1, 0, %s, %s, '{}', 'stream')",
                [SLUG, order_id, text, text, now, now],
            )
            await conn.execute(
                "insert into account_activities.raw_events"
                " (destination, received_at, connection, event, order_id, frame) values (%s, %s, %s, %s, %s, '')",
                [SLUG, now, uuid.uuid4(), text, order_id],
            )
            await conn.execute(
                "insert into accounts.open_trades (destination, parent_id, symbol, side, qty, entry_qty, avg_fill,"
                " avg_px_symbol, buy_value, entry_time, last_fill_time, sl_px, stop_order_id)"
                " values (%s, %s, %s, 'Long', 1, 1, 50, 50, 50, %s, %s, 40, %s)",
                [SLUG, text, text, now, now, text],
            )
    for text in joined(texts, 50):
        await room.emit("MessageQuarantined", source="stream", reason=text)
    await notify(room.db, f"pos_channel_{SLUG}", '{"op":"resync"}')
    await room.report([_failing(row, " ".join(texts)) for row in healthy_workers()])


def _failing(row: Any, text: str) -> Any:
    return type(row)(**{name: getattr(row, name) for name in row.__slots__} | {"state": "retrying", "detail": text})


async def test_no_hostile_text_runs_a_script_or_breaks_the_policy(
    page: Page, complaints: list[str], database_url: str
) -> None:
    panels = [*trades.register_panels(), *operator.register_panels()]
    web, name = WebSettings(actions=True), " ".join(HOSTILE)
    await page.add_init_script(WATCH)
    async with open_room(database_url, name=name, panels=panels, web=web) as room:
        await told(room, HOSTILE[:100])
        async with room.db.transaction() as conn:
            asked = await requests.ask(
                conn, destination=SLUG, worker=HOSTILE[0], action=Action.CYCLE, asked_by=name,
                now=datetime.now(UTC), parameters={HOSTILE[1]: HOSTILE[2]},
            )  # fmt: skip
        await requests.announce(room.db, SLUG)

        await page.goto(room.dashboard)
        await expect(page.locator(f"#tape-{SLUG} tbody tr")).to_have_count(10, timeout=EVENTUALLY_MS)
        await told(room, HOSTILE[100:])  # and what comes while the page is open
        await expect(page.locator(f"#tape-{SLUG} tbody tr")).to_have_count(20, timeout=EVENTUALLY_MS)
        await expect(page.locator(f"#panel-open-{SLUG} tbody tr")).to_have_count(20, timeout=EVENTUALLY_MS)
        await expect(page.locator(f"#panel-requests-{SLUG}")).to_contain_text(HOSTILE[0], timeout=EVENTUALLY_MS)
        found = [await page.evaluate(STRUCK)]
        shown = await page.locator("body").inner_text()
        action = page.get_by_role("link", name="BE", exact=True).first
        alone = await action.get_attribute("href") or ""
        await action.click()
        await expect(page.get_by_role("dialog").get_by_role("heading")).to_contain_text("to break-even?")
        found.append(await page.evaluate(STRUCK))
        for path in (alone, "/", f"/{SLUG}/requests/{asked.id}", f"/{SLUG}/api/positions", f"/{SLUG}/api/audit"):
            await page.goto(room.url + path)
            found.append(await page.evaluate(STRUCK))

    assert len(HOSTILE) == len(set(HOSTILE)) == 200
    assert found == [[0, [], 0]] * 7
    assert "<script>" in shown
    assert [text for text in complaints if "Content Security Policy" in text or "Refused" in text] == []

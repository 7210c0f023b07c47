"""The page of one trade: every order, replacement, fill, decision and result of it, and nothing of any other."""

from __future__ import annotations

import re
import uuid
from html import unescape

import httpx
import pytest
from fakes.room import SLUG, Room, open_room

pytestmark = pytest.mark.anyio

HOSTILE = "<script>alert(1)</script>"
ENTRY, FIRST_STOP, STOP, TARGET, OTHER = (uuid.UUID(int=number) for number in range(1, 6))
ORDER = """
    insert into account_activities.raw_orders (destination, id, client_order_id, status, symbol, side, order_type, qty,
        filled_qty, limit_price, stop_price, replaces, parent_id, submitted_at, canceled_at, updated_at, raw_json,
        source)
    values (%s, %s, 'c', 'x', %s, %s, %s, 100, 0, %s, %s, %s, %s, %s, %s, now(), '{}', 'rest')
"""
FILL = """
    insert into account_activities.raw_activities (destination, id, execution_id, activity_type, transaction_time,
        symbol, side, qty, price, order_id, raw_json, source)
    values (%s, %s, %s, 'FILL', %s, 'KO', 'buy', %s, %s, %s, '{}', 'rest')
"""
CLOSING = """
    insert into accounts.closed_trades (destination, entry_lot_id, exit_order_id, symbol, side, qty, entry_time,
        entry_price, exit_time, exit_price, exit_type, pnl_cash, pnl_cash_fifo, diff_pnl, return_pct, duration_sec,
        r_multiple) values (%s, %s, %s, 'KO', 'Long', 100, '2026-10-08T14:00Z', 62.15, '2026-10-08T19:00Z', 62.14, 'SL',
        -1, -1, 0, 0, 60, -0.01)
"""
DECISION = """
    insert into accounts.log_breakeven (destination, "timestamp", last_at, parent_id, symbol, side, moved_flag, reason,
        detail, old_stop, new_stop, qty, entry_px, stop_order_id, is_action, evaluated_at, prices)
    values (%s, '2026-10-08T15:00Z', '2026-10-08T15:00Z', %s, 'KO', 'Long', 'OK', 'moved', 'moved to entry', 61, 62.14,
        100, 62.15, %s, true, '{"2026-10-08T15:00Z"}', '{63}')
"""


async def record(room: Room) -> None:
    """Write a bracket whose stop was moved and filled, its canceled target, and an order of another trade."""
    day = "2026-10-08T"
    orders = (
        (ENTRY, "KO", "buy", "limit", 62.2, None, None, None, f"{day}14:00Z", None),
        (FIRST_STOP, "KO", "sell", "stop", None, 61, None, ENTRY, f"{day}14:00:01Z", None),
        (TARGET, "KO", "sell", "limit", 65, None, None, ENTRY, f"{day}14:00:02Z", f"{day}19:00:01Z"),
        (STOP, "KO", "sell", "stop", None, 62.14, FIRST_STOP, ENTRY, f"{day}15:00:01Z", None),
        (OTHER, "PEP", "buy", "limit", 170, None, None, None, f"{day}14:00Z", None),
    )
    async with room.db.transaction() as conn:
        for order in orders:
            await conn.execute(ORDER, [SLUG, *order])
        entries = (("14:00:03", 60, 62.1, ENTRY), ("14:00:04", 40, 62.225, ENTRY))
        for at, qty, price, of_order in (*entries, ("19:00", 100, 62.14, STOP)):
            name = f"{of_order}{at}"
            await conn.execute(FILL, [SLUG, name, name, f"{day}{at}Z", qty, price, of_order])
        await conn.execute(DECISION, [SLUG, str(ENTRY), str(FIRST_STOP)])
        await conn.execute(CLOSING, [SLUG, str(ENTRY), str(STOP)])


def told(page: str) -> list[str]:
    """Return the moments of a page as text."""
    return [unescape(text) for text in re.findall(r'<span class="moment">(.*?)</span>', page)]


async def test_a_trade_is_told_from_its_entry_to_its_result(database_url: str) -> None:
    async with open_room(database_url) as room, httpx.AsyncClient() as browser:
        await record(room)

        page = (await browser.get(f"{room.url}/{SLUG}/trades/{ENTRY}")).text

    assert told(page) == [
        "entry placed: buy 100 KO limit 62.20",
        "stop placed: sell 100 KO stop 61.00",
        "target placed: sell 100 KO limit 65.00",
        "entry filled: 60 at 62.10",
        "entry filled: 40 at 62.225",
        "break-even: moved to entry",
        "stop replaced: stop 61.00 → 62.14",
        "stop filled: 100 at 62.14",
        "closed 100 at 62.14 by SL: −1.00, −0.01 R",
        "target canceled",
    ]
    assert "PEP" not in page


async def test_a_lot_that_no_order_opened_shows_its_result_and_what_is_unknown_is_a_404(database_url: str) -> None:
    async with open_room(database_url) as room, httpx.AsyncClient() as browser:
        async with room.db.transaction() as conn:
            await conn.execute(CLOSING, [SLUG, "20261008::transfer", "20261009::transfer"])

        page = await browser.get(f"{room.url}/{SLUG}/trades/20261008::transfer")
        unknown = await browser.get(f"{room.url}/{SLUG}/trades/{OTHER}")

    assert told(page.text) == ["closed 100 at 62.14 by SL: −1.00, −0.01 R"]
    assert unknown.status_code == 404


async def test_hostile_words_of_the_broker_stay_words(database_url: str) -> None:
    async with open_room(database_url) as room, httpx.AsyncClient() as browser:
        async with room.db.transaction() as conn:
            terms = (HOSTILE, HOSTILE, "limit", 1, None, None, None, "2026-10-08T14:00Z", None)
            await conn.execute(ORDER, [SLUG, ENTRY, *terms])

        page = (await browser.get(f"{room.url}/{SLUG}/trades/{ENTRY}")).text

    assert told(page) == [f"entry placed: {HOSTILE} 100 {HOSTILE} limit 1.00"]
    assert "<script>alert" not in page

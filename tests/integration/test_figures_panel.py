"""The panel of key figures, on real pages: each figure as the document has it, with its formula."""

from __future__ import annotations

from datetime import UTC, datetime

import httpx
import pytest
from coldharbour_plugins.figures import GROUPS, register_panels
from fakes.room import SLUG, Room, open_room

from coldharbour.db import notify
from coldharbour.metrics import store
from coldharbour.metrics.kpis import FORMULAS

pytestmark = pytest.mark.anyio


async def write(room: Room, **figures: float) -> None:
    """Write the document of key figures: these, and none of the others."""
    document = {**dict.fromkeys(FORMULAS), **figures}
    async with room.db.transaction() as conn:
        await store.save_document(conn, SLUG, "latest", document, datetime.now(UTC))
    await notify(room.db, f"metrics_channel_{SLUG}", '{"id":"latest"}')


async def page_with(room: Room, text: str) -> str:
    """Return the page once it shows a text; the test's own timeout decides how long that may take."""
    async with httpx.AsyncClient() as browser:
        while text not in (page := (await browser.get(room.dashboard)).text):
            await notify(room.db, f"metrics_channel_{SLUG}", "{}")
    return page


@pytest.mark.timeout(30)
async def test_each_figure_is_shown_with_its_sign_and_its_formula(database_url: str) -> None:
    async with open_room(database_url, panels=register_panels()) as room:
        await write(room, equity=74584.95, day_pl=-45.89, total_return_pct=11.834, risk_reward=1.0825)

        page = await page_with(room, "74,584.95")

    assert '<span>Day P/L</span> <span class="num" data-tone="loss">−45.89</span>' in page
    assert '<span>Total return, %</span> <span class="num" data-tone="gain">+11.83</span>' in page
    assert '<span>Reward / risk</span> <span class="num">1.08</span>' in page
    assert '<span>Win rate, %</span> <span class="num">–</span>' in page
    assert f'<p class="soft">{FORMULAS["risk_reward"]}</p>' in page


def test_every_key_figure_is_in_one_of_the_groups() -> None:
    shown = [key for _, figures in GROUPS for key, _, _ in figures]

    assert sorted([*shown, "updated_at"]) == sorted(FORMULAS)


@pytest.mark.timeout(30)
async def test_an_account_without_figures_says_when_they_come(database_url: str) -> None:
    async with open_room(database_url, panels=register_panels()) as room:
        page = await page_with(room, "no figures yet")

    assert "Key figures" in page

"""The overview in a real browser: live without a reload, honest when it is not, and fit for a phone."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlsplit

import anyio
import pytest
from coldharbour_plugins.simulator.proxy import byte_proxy
from fakes.room import SLUG, Room, healthy_workers, open_room
from playwright.async_api import Page, Route, expect
from psycopg.conninfo import conninfo_to_dict, make_conninfo

pytestmark = pytest.mark.anyio

CARD = f"#desk-{SLUG}"
TAPE = f"#tape-{SLUG} tbody tr"
AT_ONCE_MS = 1_000
EVENTUALLY_MS = 15_000


async def connected(page: Page, room: Room) -> None:
    await page.goto(room.dashboard)
    await expect(page.locator("#connection")).to_have_text("live")
    await expect(page.locator(CARD)).to_have_attribute("data-state", "live")


@pytest.mark.timed
async def test_an_order_event_appears_within_a_second_without_a_reload(
    page: Page, room: Room, complaints: list[str]
) -> None:
    await connected(page, room)

    await room.hear(symbol="NVDA", event="fill", qty="250.5", price="101.25")

    newest = page.locator(TAPE).first
    await expect(newest).to_contain_text("NVDA", timeout=AT_ONCE_MS)
    await expect(newest).to_contain_text("250.5")
    await expect(newest).to_contain_text("101.25")
    assert complaints == []


async def test_a_worker_that_fails_and_recovers_changes_on_the_open_page(page: Page, room: Room) -> None:
    await room.report(healthy_workers())
    await connected(page, room)
    workers = page.locator(f"#workers-{SLUG}")

    stream, healing = healthy_workers()
    await room.report([replace(stream, state="retrying", detail="connection reset"), healing])
    await expect(workers).to_contain_text("connection reset")
    await expect(page.locator(f"#head-{SLUG}")).to_contain_text("impaired")

    await room.report([stream, healing])
    await expect(page.locator(f"#head-{SLUG}")).to_contain_text("all well")
    await expect(workers).not_to_contain_text("connection reset")


async def test_focus_and_place_survive_an_update(page: Page, room: Room) -> None:
    await room.hear(symbol="FIRST")
    await connected(page, room)
    await page.locator(f"#tape-{SLUG}").focus()

    await room.hear(symbol="SECOND")

    await expect(page.locator(TAPE)).to_have_count(2)
    assert await page.evaluate("document.activeElement.id") == f"tape-{SLUG}"


async def test_what_the_broker_says_is_never_markup_in_an_update_either(
    page: Page, room: Room, complaints: list[str]
) -> None:
    await connected(page, room)

    await room.hear(symbol='<img src=x onerror="document.title=1"><hx-partial hx-target="body">gone</hx-partial>')

    await expect(page.locator(TAPE)).to_contain_text("<hx-partial")
    assert await page.locator("img").count() == 0
    assert complaints == []


async def test_a_server_that_ends_and_returns_is_shown_and_caught_up_with(page: Page, database_url: str) -> None:
    async with open_room(database_url) as first:
        await connected(page, first)
    await expect(page.locator("#connection")).to_have_text("disconnected", timeout=EVENTUALLY_MS)
    await expect(page.locator(CARD)).to_have_attribute("data-state", "disconnected")

    async with open_room(database_url, port=urlsplit(first.url).port or 0) as second:
        await second.hear(symbol="AGAIN")

        await expect(page.locator("#connection")).to_have_text("live", timeout=EVENTUALLY_MS)
        await expect(page.locator(TAPE).first).to_contain_text("AGAIN")


async def test_a_first_connection_that_is_refused_is_tried_again(page: Page, room: Room) -> None:
    refusals = 0

    async def refuse_twice(route: Route) -> None:
        nonlocal refusals
        refusals += 1
        if refusals > 2:
            await route.continue_()
        else:
            await route.fulfill(status=503, body="too many open pages")

    await page.route("**/stream/events", refuse_twice)
    await page.goto(room.dashboard)

    await expect(page.locator("#connection")).to_have_text("live", timeout=EVENTUALLY_MS)
    assert refusals == 3


async def test_a_slow_script_does_not_keep_the_page_from_its_stream(page: Page, room: Room) -> None:
    async def delay(route: Route) -> None:
        await anyio.sleep(0.5)
        await route.continue_()

    await page.route("**/hx-sse.min.js*", delay)

    await connected(page, room)


async def test_old_data_never_looks_live_when_the_database_is_gone(page: Page, database_url: str) -> None:
    parts = conninfo_to_dict(database_url)
    async with byte_proxy(f"{parts['host']}/.s.PGSQL.{parts.get('port', 5432)}") as proxy:
        through = make_conninfo(database_url, host="127.0.0.1", port=proxy.port)
        async with open_room(database_url, pages_conninfo=through) as room:
            await page.clock.install()
            await connected(page, room)

            proxy.add("down", name="gone")
            await expect(page.locator("#notice")).to_contain_text("has not answered", timeout=EVENTUALLY_MS)
            await page.clock.fast_forward(20_000)
            await expect(page.locator(CARD)).to_have_attribute("data-state", "stale")

            proxy.remove("gone")
            await expect(page.locator(CARD)).to_have_attribute("data-state", "live", timeout=EVENTUALLY_MS)
            await expect(page.locator("#notice")).to_be_empty()


async def test_a_paused_page_stands_still_and_says_so(page: Page, room: Room) -> None:
    await connected(page, room)
    await page.get_by_role("button", name="Pause").click()

    await room.hear(symbol="MISSED")
    await expect(page.locator("#connection")).to_have_text("paused")
    assert await page.locator(TAPE).count() == 0

    await page.get_by_role("button", name="Resume").click()
    await expect(page.locator(TAPE).first).to_contain_text("MISSED")


async def test_the_chosen_colours_are_kept(page: Page, room: Room) -> None:
    await connected(page, room)
    background = "getComputedStyle(document.body).backgroundColor"
    dark = await page.evaluate(background)
    theme = page.locator("#theme")

    await theme.click()
    await theme.click()
    await expect(theme).to_have_text("Light")
    light = await page.evaluate(background)
    await page.reload()

    assert dark != light
    assert await page.evaluate(background) == light


async def test_nothing_is_cut_off_on_a_phone(page: Page, room: Room) -> None:
    await room.hear(symbol="GOOGL", event="partial_fill", qty="1250.5", price="1234.5678")
    await room.gap(seconds=4000, healed=True, orders=1200, fills=900)
    await page.set_viewport_size({"width": 390, "height": 844})
    await connected(page, room)

    assert await page.evaluate("document.documentElement.scrollWidth") == 390
    for part in ("workers", "gaps", "counts", "tape"):
        overflow = await page.evaluate(
            f"(e => e.scrollWidth - e.clientWidth)(document.getElementById('{part}-{SLUG}'))"
        )
        assert overflow <= 0, part

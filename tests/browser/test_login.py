"""Logging in with a keyboard, on a phone and without scripts; and what a page does when its login ends."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from fakes.room import SLUG, Room, healthy_workers, open_room
from fakes.visitors import PASSWORD, hashes, with_passwords
from playwright.async_api import Browser, Page, expect

pytestmark = pytest.mark.anyio

EVENTUALLY_MS = 15_000


@pytest.fixture
async def closed(database_url: str) -> AsyncIterator[Room]:
    """Pages that ask for a password."""
    async with open_room(database_url, web=with_passwords(actions=True), hashes=hashes()) as opened:
        await opened.report(healthy_workers())
        yield opened


async def log_in(page: Page, room: Room) -> None:
    """Log in with the keyboard alone."""
    await page.goto(room.dashboard)
    await expect(page).to_have_title("Log in · Cold Harbour")
    await page.keyboard.type("anna")  # the first field has the focus
    await page.keyboard.press("Tab")
    await page.keyboard.type(PASSWORD)
    await page.keyboard.press("Enter")


async def test_a_page_goes_to_the_login_when_its_own_ends_and_back_after_it(
    page: Page, closed: Room, complaints: list[str]
) -> None:
    await log_in(page, closed)
    await expect(page.locator("#connection")).to_have_text("live", timeout=EVENTUALLY_MS)
    assert complaints == []
    other = await page.context.new_page()
    await other.goto(f"{closed.url}/logout")

    await other.get_by_role("button", name="Log out").click()

    await expect(page).to_have_title("Log in · Cold Harbour", timeout=EVENTUALLY_MS)
    await page.keyboard.type("anna")
    await page.keyboard.press("Tab")
    await page.keyboard.type(PASSWORD)
    await page.keyboard.press("Enter")
    await expect(page.locator(f"#desk-{SLUG}")).to_be_visible(timeout=EVENTUALLY_MS)


async def test_an_action_is_asked_and_confirmed_over_the_page_with_keys_alone(
    page: Page, closed: Room, complaints: list[str]
) -> None:
    await log_in(page, closed)
    await expect(page.locator("#connection")).to_have_text("live", timeout=EVENTUALLY_MS)
    pause = page.locator(f"#worker-{SLUG}-healing").get_by_role("link", name="Pause")
    dialog = page.get_by_role("dialog", name="Pause healing?")

    await pause.press("Enter")
    await expect(dialog.get_by_role("link", name="Do nothing")).to_be_focused(timeout=EVENTUALLY_MS)
    await page.keyboard.press("Escape")
    await expect(dialog).to_be_hidden()
    await expect(pause).to_be_focused()

    await page.keyboard.press("Enter")
    await expect(dialog.get_by_role("link", name="Do nothing")).to_be_focused(timeout=EVENTUALLY_MS)
    await page.keyboard.press("Shift+Tab")
    await page.keyboard.press("Enter")
    asked = page.get_by_role("dialog", name="Pause: asked")
    await expect(asked).to_contain_text("by anna", timeout=EVENTUALLY_MS)
    async with closed.db.transaction() as conn:
        await conn.execute("update accounts.operator_requests set taken_at = now(), done_at = now(), outcome = 'done'")
    done = page.get_by_role("dialog", name="Pause: done")
    await done.get_by_role("link", name="Back to").press("Enter")
    await expect(page.get_by_role("dialog")).to_be_hidden()
    await expect(page.locator("#connection")).to_have_text("live")  # it never was another page
    assert complaints == []


async def test_a_click_beside_the_question_leaves_it_and_one_within_it_does_not(page: Page, closed: Room) -> None:
    await log_in(page, closed)
    await page.locator(f"#worker-{SLUG}-healing").get_by_role("link", name="Pause").click()
    dialog = page.get_by_role("dialog", name="Pause healing?")
    await expect(dialog).to_be_visible(timeout=EVENTUALLY_MS)
    box = await dialog.bounding_box()
    assert box

    await page.mouse.click(box["x"] + 5, box["y"] + 50)  # in the margin beside its words
    await expect(dialog).to_be_visible()
    await page.mouse.click(box["x"] - 5, box["y"] + 50)

    await expect(dialog).to_be_hidden()


async def test_without_scripts_and_on_a_phone_it_works_from_the_login_to_a_confirmed_action(
    chromium: Browser, closed: Room
) -> None:
    context = await chromium.new_context(java_script_enabled=False, viewport={"width": 390, "height": 844})
    page = await context.new_page()
    await log_in(page, closed)
    await expect(page.locator(f"#workers-{SLUG}")).to_contain_text("Pause")

    await page.goto(f"{closed.url}/{SLUG}/actions/pause?worker=healing")
    box = await page.get_by_role("button", name="Pause healing").bounding_box()
    await page.get_by_role("button", name="Pause healing").click()

    await expect(page.get_by_role("heading", level=1)).to_have_text("Pause: asked")
    assert box is not None
    assert box["height"] >= 44
    assert box["x"] + box["width"] <= 390
    await context.close()

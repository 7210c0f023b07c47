"""A headless Chromium, a page that notes its complaints, and a running web worker to look at."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright

from fakes.room import Room, open_room


@pytest.fixture(scope="module")
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        yield browser
        await browser.close()


@pytest.fixture
def complaints() -> list[str]:
    """What the browser complained about: script errors, refused requests, broken policies."""
    return []


@pytest.fixture
async def page(chromium: Browser, complaints: list[str]) -> AsyncIterator[Page]:
    context = await chromium.new_context(viewport={"width": 1440, "height": 900}, color_scheme="dark")
    opened = await context.new_page()

    def listen(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            complaints.append(message.text)

    opened.on("console", listen)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    yield opened
    await context.close()


@pytest.fixture
async def room(database_url: str) -> AsyncIterator[Room]:
    async with open_room(database_url) as opened:
        yield opened

"""Operator actions on the pages: shown before they are done, asked once, and on record whatever becomes of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import anyio
import httpx
import pytest
from fakes.room import SLUG, Room, healthy_workers, open_room
from fakes.visitors import Visitor, hashes, token_of, with_passwords

from coldharbour import requests
from coldharbour.requests import Action
from coldharbour.requests.store import RequestRow, newest_requests
from coldharbour.risk.losses import store as losses
from coldharbour.risk.losses.model import Latch, Stage

pytestmark = pytest.mark.anyio

PAUSE = f"/{SLUG}/actions/pause?worker=stream"


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=20) as opened:
        yield opened


@pytest.fixture(scope="module")
async def pages(shared_database_url: str) -> AsyncIterator[Room]:
    async with open_room(shared_database_url, web=with_passwords(actions=True), hashes=hashes()) as opened:
        yield opened


@pytest.fixture
async def room(pages: Room) -> Room:
    """The pages with healthy workers, and nothing asked yet."""
    async with pages.db.transaction() as conn:
        await conn.execute("delete from accounts.operator_requests")
    await pages.report(healthy_workers())
    return pages


@pytest.fixture
async def anna(room: Room, client: httpx.AsyncClient) -> Visitor:
    visitor = Visitor(room.url, client)
    await visitor.log_in()
    return visitor


async def asked(room: Room) -> list[RequestRow]:
    async with room.db.transaction() as conn:
        return await newest_requests(conn, SLUG, 10)


async def confirm(visitor: Visitor, path: str) -> httpx.Response:
    """Open the preview of an action and press its button."""
    page = await visitor.get(path)
    assert page.status_code == 200, page.text
    return await visitor.post(path, {"token": token_of(page), "seen": page.text.split('name="seen" value="')[1][:16]})


async def shows(visitor: Visitor, text: str) -> str:
    """Return the account's page once it holds a text."""
    page = ""
    with anyio.fail_after(20):
        while text not in page:
            page = (await visitor.get(f"/{SLUG}")).text
            await anyio.sleep(0.05)
    return page


async def test_a_click_shows_what_would_happen_and_asks_nothing(room: Room, anna: Visitor) -> None:
    page = await anna.get(PAUSE)

    assert "Pause stream?" in page.text
    assert "no order event is recorded" in page.text
    assert await asked(room) == []


async def test_the_confirmed_request_is_on_record_with_who_asked(room: Room, anna: Visitor) -> None:
    answer = await confirm(anna, PAUSE)

    [request] = await asked(room)
    assert (request.worker, request.action, request.asked_by) == ("stream", "pause", "anna")
    assert answer.headers["location"] == f"/{SLUG}/requests/{request.id}"
    page = (await anna.get(answer.headers["location"])).text
    assert "Pause: asked" in page
    assert 'http-equiv="refresh"' in page


async def test_a_second_press_of_the_same_button_is_the_same_request(room: Room, anna: Visitor) -> None:
    first, second = await confirm(anna, PAUSE), await confirm(anna, PAUSE)

    assert first.headers["location"] == second.headers["location"]
    assert len(await asked(room)) == 1


async def test_its_outcome_is_shown(room: Room, anna: Visitor) -> None:
    answer = await confirm(anna, PAUSE)
    async with room.db.transaction() as conn:
        [taken] = await requests.take(conn, SLUG, "stream", [Action.PAUSE], datetime.now(UTC))
        await requests.settle(conn, taken, requests.Outcome.DONE, "paused until resumed", now=datetime.now(UTC))

    page = (await anna.get(answer.headers["location"])).text

    assert "Pause: done" in page
    assert "paused until resumed" in page
    assert 'http-equiv="refresh"' not in page


async def test_what_changed_since_it_was_seen_is_asked_again(room: Room, anna: Visitor) -> None:
    page = await anna.get(PAUSE)
    stream, healing = healthy_workers()
    await room.report([replace(stream, state="paused"), healing])

    form = {"token": token_of(page), "seen": page.text.split('name="seen" value="')[1][:16]}
    answer = await anna.post(PAUSE, form)

    assert answer.status_code == 409
    assert "changed since you looked" in answer.text
    assert await asked(room) == []


async def test_what_makes_no_sense_cannot_be_confirmed(room: Room, anna: Visitor) -> None:
    for path, why in (
        (f"/{SLUG}/actions/resume?worker=stream", "is not paused"),
        (f"/{SLUG}/actions/cycle?worker=stream", "has no cycles"),
        (f"/{SLUG}/actions/reset_latch", "No limit of this account is latched"),
    ):
        page = await anna.get(path)
        assert why in page.text, path
        assert "<form" not in page.text, path
    for path in ("actions/pause?worker=nobody", "actions/explode", "actions/breakeven?lot=none", "requests/99"):
        assert (await anna.get(f"/{SLUG}/{path}")).status_code == 404, path
    assert await asked(room) == []


async def test_a_loss_limit_is_reset_at_once_and_on_record(room: Room, anna: Visitor) -> None:
    now = datetime.now(UTC)
    reached = Latch(
        destination=SLUG, session_date=now.date(), stage=Stage.HALT, latched_at=now, day_pnl=Decimal("-512.50"),
        baseline=Decimal(10_000), note="",
    )  # fmt: skip
    async with room.db.transaction() as conn:
        await losses.latch(conn, reached)

    await confirm(anna, f"/{SLUG}/actions/reset_latch")

    async with room.db.transaction() as conn:
        assert not await losses.entries_halted(conn, SLUG)
    [request] = await asked(room)
    assert (request.outcome, request.detail, request.asked_by) == ("done", "1 limits were reset", "anna")


async def test_unless_they_are_on_there_are_no_buttons_and_nothing_can_be_asked(
    database_url: str, client: httpx.AsyncClient
) -> None:
    async with open_room(database_url) as room:
        local = Visitor(room.url, client, host="localhost")
        await room.report(healthy_workers())
        page = await shows(local, "all well")

        assert "/actions/" not in page
        assert (await local.get(PAUSE)).status_code == 403
        assert (await local.post(PAUSE, {})).status_code == 403
        assert await asked(room) == []


async def test_the_buttons_stand_beside_the_workers(room: Room, anna: Visitor) -> None:
    page = await shows(anna, PAUSE)

    assert f"/{SLUG}/actions/cycle" not in page  # these two have none to be called
    assert 'href="/logout"' in page

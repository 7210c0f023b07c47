"""When an announced corporate action keeps a symbol's stops where they are."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from random import Random

import httpx
import pytest
from pydantic import SecretStr

from coldharbour.broker import Broker, CorporateAction
from coldharbour.clock import VirtualClock
from coldharbour.risk.announced import Announcements, freezing

FRIDAY, MONDAY = date(2026, 10, 9), date(2026, 10, 12)
MORNING = datetime(2026, 10, 9, 15, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("day", "booked", "is_frozen"),
    [
        (date(2026, 10, 9), None, True),  # today
        (date(2026, 10, 12), None, True),  # the next session
        (date(2026, 10, 12), date(2026, 9, 1), True),
        (date(2026, 10, 13), None, False),  # later
        (date(2026, 10, 8), None, True),  # over, and the account does not show it
        (date(2026, 10, 8), date(2026, 10, 7), True),  # it shows an earlier one
        (date(2026, 10, 8), date(2026, 10, 8), False),
        (date(2026, 10, 2), None, True),
        (date(2026, 10, 1), None, False),  # more than a week ago
    ],
)
def test_it_freezes_from_the_session_before_until_the_account_shows_it(
    day: date, booked: date | None, is_frozen: bool
) -> None:
    action = CorporateAction(kind="forward_splits", symbol="KO", day=day)

    found = freezing([action], FRIDAY, MONDAY, booked)

    assert found == (f"forward_splits of KO announced for {day}" if is_frozen else "")


@pytest.mark.anyio
async def test_until_the_broker_answers_a_symbol_is_frozen_and_refused_it_goes_by_its_activities() -> None:
    clock, asked = VirtualClock(MORNING), list[str]()

    def refuse(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.params["symbols"])
        return httpx.Response(403, json={"message": "forbidden."})

    async with broker_of(refuse, clock) as broker:
        announced = Announcements(broker, clock)
        before = announced.frozen(["KO"], MONDAY, {})
        learned = [await announced.learn(["KO"]), await announced.learn(["KO"])]
        after = announced.frozen(["KO"], MONDAY, {})
        clock.advance(24 * 3600)

        assert before == {"KO": "the broker has not said yet whether shares of KO change"}
        assert (learned, after, asked) == ([True, False], {}, ["KO"])
        assert not announced.is_known(["KO"])


@pytest.mark.anyio
async def test_a_symbol_that_the_broker_will_not_be_asked_about_frees_no_other() -> None:
    split = {"symbol": "KO", "ex_date": "2026-10-12", "process_date": "2026-10-12"}

    def answer(request: httpx.Request) -> httpx.Response:
        symbols = request.url.params["symbols"].split(",")
        if "BTC/USD" in symbols:
            return httpx.Response(400, json={"message": "invalid symbol: BTC/USD"})
        found = {"forward_splits": [split]} if "KO" in symbols else {}
        return httpx.Response(200, json={"corporate_actions": found, "next_page_token": None})

    clock = VirtualClock(MORNING)
    async with broker_of(answer, clock) as broker:
        announced = Announcements(broker, clock)
        learned = await announced.learn(["BTC/USD", "KO", "PEP"])

    assert learned
    assert announced.frozen(["BTC/USD", "KO", "PEP"], MONDAY, {}) == {
        "KO": "forward_splits of KO announced for 2026-10-12"
    }


def broker_of(answer: Callable[[httpx.Request], httpx.Response], clock: VirtualClock) -> Broker:
    url = "https://data.alpaca.markets"
    return Broker(
        base_url=url, data_url=url, key_id="PKTEST", secret=SecretStr("secret"), clock=clock, random=Random(1),
        slug="paper", transport=httpx.MockTransport(answer),
    )  # fmt: skip

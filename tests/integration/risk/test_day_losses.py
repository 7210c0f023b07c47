"""A day's loss from equity's own rows: stages, deposits left out, wrong prices no evidence, latches kept."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from coldharbour_plugins.protection import ProtectionSettings, protect
from fakes.accounting import MONDAY, THURSDAY, TUESDAY, WEDNESDAY, WEEK, cash, fill
from fakes.counting_house import CountingHouse, new_york, open_counting_house
from fakes.installation import Installation

from coldharbour.db import open_database
from coldharbour.live.model import Side
from coldharbour.risk.flattening import store as flattens
from coldharbour.risk.flattening.model import Run, Target
from coldharbour.risk.losses.limits import LossLimit
from coldharbour.risk.losses.model import Blind, Stage
from coldharbour.risk.losses.store import entries_halted, latches
from coldharbour.risk.losses.watching import Rules, Verdict, look_at_account, look_at_all
from coldharbour.sessions import Phase

pytestmark = pytest.mark.anyio

HISTORY = (cash(MONDAY, "CSD", "10000"), fill(MONDAY, "buy", "100", "KO", "60"))
# Wednesday closes at 63: 10,300. So 103 are the warning's, 206 the halt's, 309 the flatten's.
RULES = Rules(
    limits=(LossLimit(Stage.WARN, 1.0), LossLimit(Stage.HALT, 2.0), LossLimit(Stage.FLATTEN, 3.0)),
    max_minute_age=timedelta(minutes=3),
    max_price_age=timedelta(minutes=15),
)
RUN = Run(
    destination="paper", latched_for="", session_date=THURSDAY, latched_at=new_york(THURSDAY, "12:00:30"),
    is_dry_run=False, begun_at=new_york(THURSDAY, "12:00:30"),
)  # fmt: skip
TARGET = Target(symbol="KO", side=Side.LONG, qty=Decimal(100), detail="held back", changed_at=RUN.begun_at)


def thursday(wall: str) -> datetime:
    return new_york(THURSDAY, wall)


@pytest.fixture
async def house(database_url: str) -> AsyncIterator[CountingHouse]:
    """An account on Thursday with 100 KO; Wednesday's close was 63."""
    async with open_counting_house(database_url, WEEK, thursday("12:00")) as house:
        await house.schedule(WEDNESDAY, THURSDAY)
        for day, price in zip((MONDAY, TUESDAY, WEDNESDAY), ("61", "62", "63"), strict=True):
            house.past.close(day, KO=price)
        await house.record(*HISTORY)
        yield house


async def look(house: CountingHouse, wall: str, price: str, *, traded: str = "", equity: bool = True) -> Verdict:
    """Have KO trade at a price, equity counted (or not), and the limits looked at; all at one time of Thursday."""
    await house.hold("KO", price, thursday(traded or wall), qty="100")
    if equity:
        await house.count_equity(thursday(wall))
    return await look_at_account(house.db, "paper", thursday(wall), RULES, is_open=True)


def told(verdict: Verdict) -> list[tuple[str, int]]:
    return [(event.stage, int(event.day_pnl)) for event in verdict.events]


async def test_each_stage_is_told_once_and_a_deposit_is_no_gain(house: CountingHouse) -> None:
    quiet = await look(house, "12:00:30", "62.50")

    await house.record(cash(THURSDAY, "CSD", "5000", booked=thursday("12:01:05").isoformat()))
    warned = await look(house, "12:01:30", "61.90")
    again = await look(house, "12:02:30", "61.80")
    halted = await look(house, "12:03:30", "60.94")
    recovered = await look(house, "12:04:30", "64")

    assert [told(verdict) for verdict in (quiet, warned, again, halted, recovered)] == [
        [], [("warn", -110)], [], [("halt", -206)], []
    ]  # fmt: skip
    assert (await house.select("select max(equity) as most from accounts.equity_intraday"))[0]["most"] > 15_000
    async with house.db.transaction() as conn:
        assert [latch.stage for latch in await latches(conn)] == [Stage.WARN, Stage.HALT]


async def test_a_price_that_is_stale_or_missing_reaches_no_limit(house: CountingHouse) -> None:
    stale = await look(house, "12:00:30", "50", traded="11:44:00")
    back = await look(house, "12:00:50", "50", equity=False)  # the minute was made of the stale price
    fresh = await look(house, "12:01:30", "50")

    assert stale.seen == Blind("the price of KO is older than 900 s", spoils=True)
    assert isinstance(back.seen, Blind)
    assert [told(verdict) for verdict in (stale, back, fresh)] == [
        [], [], [("warn", -1300), ("halt", -1300), ("flatten", -1300)]
    ]  # fmt: skip
    async with house.db.transaction() as conn:
        assert [latch.limit_pnl for latch in await latches(conn)] == [Decimal(-103), Decimal(-206), Decimal(-309)]


async def test_a_minute_that_is_stale_or_late_reaches_no_limit(house: CountingHouse) -> None:
    await house.hold("KO", "50", thursday("12:00"), qty="100")
    await house.count_equity(thursday("12:00:30"))
    await house.select("update accounts.equity_intraday set stale = true returning at")

    stale = await look_at_account(house.db, "paper", thursday("12:00:40"), RULES, is_open=True)
    late = await look_at_account(house.db, "paper", thursday("12:03:30"), RULES, is_open=True)
    closed = await look_at_account(house.db, "paper", thursday("12:03:30"), RULES, is_open=False)

    assert isinstance(stale.seen, Blind)
    assert isinstance(late.seen, Blind)
    assert (closed.seen, stale.events, late.events, closed.events) == (None, [], [], [])


async def test_all_together_have_limits_of_their_own(house: CountingHouse) -> None:
    await look(house, "12:00:30", "61")

    verdict = await look_at_all(house.db, ["paper"], thursday("12:00:31"), RULES)
    missing = await look_at_all(house.db, ["paper", "swing"], thursday("12:00:31"), RULES)

    assert told(verdict) == [("warn", -200)]
    assert isinstance(missing.seen, Blind)
    async with house.db.transaction() as conn:
        assert {latch.destination for latch in await latches(conn)} == {"", "paper"}


@pytest.mark.parametrize(
    ("phase", "expected"), [(Phase.REGULAR, ["LossLimitReached"]), (Phase.PRE, []), (Phase.CLOSED, [])]
)
async def test_the_worker_tells_in_regular_hours_alone(house: CountingHouse, phase: Phase, expected: list[str]) -> None:
    await house.hold("KO", "60", thursday("12:00"), qty="100")
    await house.count_equity(thursday("12:00:30"))
    ctx = replace(house.ctx, phase=lambda: phase)

    for _ in range(2):
        await protect(ctx, ProtectionSettings(halt_loss=Decimal(300)))

    assert [row["kind"] for row in await house.select("select kind from accounts.events")] == expected


async def test_a_latch_survives_a_restart_until_the_command_resets_it(
    house: CountingHouse, database_url: str, tmp_path: Path
) -> None:
    await look(house, "12:00:30", "60")
    installation = Installation(tmp_path, database_url)

    async with open_database(database_url, name="restarted") as db:
        restarted = await look_at_account(db, "paper", thursday("12:00:40"), RULES, is_open=True)
        async with db.transaction() as conn:
            await flattens.insert_run(conn, RUN, [TARGET])
    latched = installation.call("limits", "status")
    reset = installation.call("limits", "reset", "--destination", "paper")

    assert restarted.events == []
    assert (latched.returncode, reset.returncode) == (1, 0)
    assert "paper: -300.00 on 10,300.00" in latched.stdout
    assert "paper: halt since 2026-10-08 16:00:30: the day's loss was 300.00, the limit is 206.00" in latched.stdout
    assert "paper: flatten begun 2026-10-08 16:00:30 UTC, under way\npaper: KO: open: held back\n" in latched.stdout
    assert reset.stdout == "paper: warn, halt reset\n"
    async with house.db.transaction() as conn:
        assert not await entries_halted(conn, "paper")
    assert [row["kind"] for row in await house.select("select kind from accounts.events order by id")] == [
        "LossLimitReached", "LossLimitReached", "LossLimitReset",
    ]  # fmt: skip

    assert told(await look(house, "12:01:30", "58.95")) == [("warn", -405)]  # from -300 on

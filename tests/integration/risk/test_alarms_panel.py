"""The panel of alarms on a running page: shown while there is something to tell, escaped, hidden otherwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import anyio
import httpx
import pytest
from coldharbour_plugins.protection import register_panels
from fakes.room import HEALTHY, SLUG, Room, open_room

from coldharbour.db import notify
from coldharbour.live.model import Side
from coldharbour.risk.flattening import store as flattens
from coldharbour.risk.flattening.model import Run, Target, TargetState
from coldharbour.risk.losses import store as losses
from coldharbour.risk.losses.model import Latch, Stage, Watch
from coldharbour.risk.protection import store
from coldharbour.risk.protection.model import Episode, Exposure, Reason

pytestmark = pytest.mark.anyio

SNAPSHOT = replace(HEALTHY, kind="snapshot")
NOTHING = '<p class="nothing"></p>'


def bare(symbol: str, since: datetime) -> Exposure:
    return Exposure(
        key=symbol, symbol=symbol, parent_id=symbol, side=Side.LONG, qty=Decimal(1250), reason=Reason.STOP_CANCELED,
        since=since,
    )  # fmt: skip


async def until_panel(room: Room, holds: Callable[[str], bool]) -> str:
    """Return the panel once it is as expected."""
    async with httpx.AsyncClient() as http:
        with anyio.fail_after(15):
            while True:
                page = (await http.get(f"{room.url}/{SLUG}/")).text
                panel = page.partition('id="panel-alarms-paper"')[2].partition("</section>")[0]
                if panel and holds(panel):
                    return panel
                await anyio.sleep(0.1)


async def test_alarms_show_until_they_heal_and_broker_text_is_no_markup(database_url: str) -> None:
    now = datetime.now(UTC)
    alarm, markup = bare("KO", now - timedelta(minutes=3)), bare("<b>PEP</b>", now)
    async with open_room(database_url, panels=register_panels()) as room:
        await room.report([SNAPSHOT])
        await until_panel(room, lambda panel: NOTHING in panel)

        async with room.db.transaction() as conn:
            await store.save_episodes(
                conn, SLUG, [Episode(alarm, now, now), Episode(markup, now, now), Episode(bare("DAL", now), now)]
            )
        await notify(room.db, f"risk_channel_{SLUG}", "{}")
        panel = await until_panel(room, lambda panel: "KO" in panel)

        assert "2 without a live stop" in panel  # the third is bare for a moment so far
        assert "1,250" in panel
        assert "stop canceled" in panel
        assert "3 min" in panel
        assert "&lt;b&gt;PEP&lt;/b&gt;" in panel

        async with room.db.transaction() as conn:
            await store.end_episodes(conn, SLUG, [alarm.key, markup.key, "DAL"], now)
        await notify(room.db, f"risk_channel_{SLUG}", "{}")
        await room.report([SNAPSHOT])
        await until_panel(room, lambda panel: NOTHING in panel)


async def test_latched_limits_and_blindness_are_told(database_url: str) -> None:
    now = datetime.now(UTC)
    halt = Latch(
        destination="", session_date=now.date(), stage=Stage.HALT, latched_at=now, day_pnl=Decimal(-1),
        baseline=Decimal(9), note="the day's loss was 1.00",
    )  # fmt: skip
    blind = Watch(SLUG, blind="KO has no price", blind_since=now, is_limited=True)
    run = Run(
        destination=SLUG, latched_for="", session_date=now.date(), latched_at=now, is_dry_run=False, begun_at=now,
        ended_at=now,
    )  # fmt: skip
    left = Target(
        symbol="<b>F</b>", side=Side.SHORT, qty=Decimal(7), state=TargetState.LEFT, detail="4 are left", changed_at=now
    )
    async with open_room(database_url, panels=register_panels()) as room:
        async with room.db.transaction() as conn:
            await losses.latch(conn, halt)
            await losses.latch(conn, replace(halt, destination="swing", note="of another account"))
            await losses.save_watch(conn, blind)
            await losses.latch(conn, replace(halt, stage=Stage.FLATTEN))
            await flattens.insert_run(conn, run, [left])
        await notify(room.db, f"risk_channel_{SLUG}", "{}")

        panel = await until_panel(room, lambda panel: "KO has no price" in panel)

        assert "all accounts together" in panel
        assert "open nothing new" in panel
        assert "of another account" not in panel
        assert "for the limit of all accounts together" in panel
        assert "&lt;b&gt;F&lt;/b&gt;, 7 short then: 4 are left" in panel
        assert "the worker <code>snapshot</code> is not ready" in panel

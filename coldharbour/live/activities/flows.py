"""The table of cash flows of one account, kept in step with the lake's activities; decides nothing about a flow."""

from __future__ import annotations

from collections.abc import Sequence, Set
from datetime import datetime
from typing import Final

from psycopg import AsyncConnection

from coldharbour.activity_types import FILL
from coldharbour.db import Database
from coldharbour.live.activities import store
from coldharbour.live.cash import AccountActivity, cash_flow, is_canceled, problem_of
from coldharbour.live.findings import store as findings

READER: Final = "cash_flows"
AREA: Final = "activities"
LIMIT_S: Final = 120.0  # for a whole history at once


async def follow_flows(db: Database, slug: str, performance: Set[str], now: datetime) -> tuple[int, list[str]]:
    """Bring the cash flows to what the lake says now; return how many changed, and what cannot be counted and is new.

    performance: the activity types that change profit; with other ones than before, every flow is looked at again.
    One transaction: a crash leaves the table and how far it follows as they were. Source: domain.md 6.
    """
    basis = ",".join(sorted(performance))
    changed, news, kept = 0, [], set[str]()
    async with db.transaction(timeout_s=LIMIT_S) as conn:
        mark = await store.mark(conn, slug, READER, basis)
        if mark.since:
            await store.expect_few(conn)
        async for activities in store.changed_flows(conn, slug, mark.since):
            counted = [a for a in activities if a.activity_type != FILL and not is_canceled(a) and not problem_of(a)]
            kept |= {activity.id for activity in counted}
            changed += await store.save_flows(conn, slug, [cash_flow(activity, performance) for activity in counted])
            changed += await store.remove_flows(conn, slug, {activity.id for activity in activities} - kept)
            news += await _note(conn, slug, activities, now)
        if not mark.since:
            changed += await store.keep_flows(conn, slug, kept)
        await store.keep_mark(conn, slug, READER, basis, mark.floor)
    return changed, news


async def _note(conn: AsyncConnection, slug: str, activities: Sequence[AccountActivity], now: datetime) -> list[str]:
    found = {
        activity.id: f"activity {activity.id} ({activity.activity_type}) is not counted: {problem}"
        for activity in activities
        if not is_canceled(activity) and (problem := problem_of(activity))
    }
    await findings.resolve(conn, slug, AREA, {activity.id for activity in activities} - found.keys(), now)
    return await findings.note(conn, slug, AREA, found, now)

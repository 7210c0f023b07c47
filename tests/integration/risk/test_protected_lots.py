"""Whose stops may move: lots from the best source there is, their own stops, and no symbol whose shares change."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from coldharbour_plugins.simulator.announcements import Announcement
from fakes.ingest import WORKERS, becomes
from fakes.stops import ENTRY, MOVED, STOP, TOUCH, StopBench, Trade, stop_bench

from coldharbour.sessions import NEW_YORK

pytestmark = pytest.mark.anyio

SPLIT = """
    insert into account_activities.raw_activities (destination, id, activity_type, activity_date, symbol, qty, raw_json,
        source)
    values ('paper', 'split', 'SPLIT', (now() at time zone 'America/New_York')::date + 1, 'KO', 0, '{}', 'rest')
    returning id
"""


@pytest.mark.parametrize("kinds", [WORKERS, ()], ids=["lake", "broker"])
async def test_without_the_open_trades_lots_are_matched_from_what_is_known(
    database_url: str, tmp_path: Path, kinds: Sequence[str]
) -> None:
    async with stop_bench(database_url, tmp_path, kinds) as bench:
        parent_id = bench.place("AAPL")
        await becomes(bench.account, parent_id, "filled")
        trade = Trade("AAPL", parent_id, bench.account.blotter.book.by_id[parent_id].legs[1])
        if kinds:
            await bench.station.until_complete()
        async with bench.keeper():
            await bench.until_reason(trade, "not_armed")

            bench.pin(TOUCH, "AAPL")

            await bench.until_moved(trade)
        assert await bench.disagreements() == []


async def test_a_stray_stop_a_split_and_a_dry_run_keep_every_stop_where_it_is(
    database_url: str, tmp_path: Path
) -> None:
    async with stop_bench(database_url, tmp_path) as bench:
        plain, split = await bench.enter("AAPL", "KO")
        stray = await guarded_by_a_stray(bench)
        await bench.station.select(SPLIT)
        await bench.cycle()
        bench.pin(TOUCH, "AAPL", "KO", "WMT")
        await bench.station.until(
            lambda: bench.station.select("select from accounts.open_trades having min(high_px) >= %s", TOUCH)
        )

        await bench.cycle("dry_run = true")
        dry = [(await bench.audit(trade))[-1] for trade in (plain, split, stray)]
        assert await bench.intents(asked=False) == []
        await bench.cycle()

        assert [(row["reason"], row["new_stop"]) for row in dry] == [
            ("dry_run", MOVED), ("dry_run", MOVED), ("foreign_stop", None),
        ]  # fmt: skip
        assert [(await bench.audit(trade))[-1]["reason"] for trade in (split, stray)] == [
            "corporate_action", "foreign_stop",
        ]  # fmt: skip
        assert [row["lot_id"] for row in await bench.until_moved(plain)] == [plain.parent_id]
        assert len(await bench.intents(asked=False)) == 1
        assert bench.true_stop(split)[1] == bench.true_stop(stray)[1] == STOP
        assert await bench.disagreements() == []


async def test_an_announced_split_freezes_its_symbol_and_a_broker_that_has_not_answered_every_one(
    database_url: str, tmp_path: Path
) -> None:
    async with stop_bench(database_url, tmp_path) as bench:
        plain, later, split = await bench.enter("AAPL", "WMT", "KO")
        today = bench.clock.now().astimezone(NEW_YORK).date()
        for symbol, days in (("KO", 1), ("WMT", 8)):
            bench.broker.announced.append(Announcement(symbol=symbol, day=today + timedelta(days=days)))
        await bench.faults(rest_hold=True, rest_paths=["/v1/corporate-actions"])
        async with bench.keeper():
            await bench.until_reason(plain, "not_armed")

            bench.pin(TOUCH, "AAPL", "WMT", "KO")
            unknown = await bench.until_reason(plain, "corporate_action")
            await bench.faults()

            for trade in (plain, later):
                await bench.until_moved(trade)
            frozen = await bench.until_reason(split, "corporate_action")
        assert unknown["detail"].startswith("the broker has not said yet whether shares of AAPL change")
        assert frozen["detail"].startswith(f"forward_splits of KO announced for {today + timedelta(days=1)}")
        assert (await bench.intents(split), bench.true_stop(split)[1]) == ([], STOP)
        assert await bench.disagreements() == []


async def guarded_by_a_stray(bench: StopBench) -> Trade:
    """Buy at 100 without exits, and put a stop beside it that belongs to nothing."""
    order = {"symbol": "WMT", "qty": 10, "time_in_force": "gtc"}
    parent = str(bench.account.place({**order, "side": "buy", "type": "market"})["id"])
    await becomes(bench.account, parent, "filled")
    stop = str(bench.account.place({**order, "side": "sell", "type": "stop", "stop_price": str(STOP)})["id"])
    query = "select from accounts.open_trades where parent_id = %s and stop_order_id = %s and avg_fill = %s"
    await bench.station.until(lambda: bench.station.select(query, parent, stop, ENTRY))
    return Trade("WMT", parent, stop)

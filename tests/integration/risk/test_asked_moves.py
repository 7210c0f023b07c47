"""A stop that a person asks to move: at once and on record, unless any rule but the trigger forbids it."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from fakes.stops import MOVED, SLUG, STOP, StopBench, Trade, stop_bench

from coldharbour import requests
from coldharbour.requests import Action

pytestmark = pytest.mark.anyio


async def asked(bench: StopBench, trade: Trade) -> dict[str, Any]:
    """Ask for a trade's stop and return the request once it is settled."""
    async with bench.station.db.transaction() as conn:
        request = await requests.ask(
            conn, destination=SLUG, worker="breakeven", action=Action.BREAKEVEN, parameters={"lot": trade.parent_id},
            asked_by="anna", now=bench.clock.now(),
        )  # fmt: skip
    await requests.announce(bench.station.db, SLUG)
    rows = await bench.station.until(
        lambda: bench.station.select(
            "select * from accounts.operator_requests where id = %s and outcome is not null", request.id
        )
    )
    settled: dict[str, Any] = rows[0]
    return settled


async def test_it_moves_before_its_trigger_is_touched_and_never_against_a_rule(
    database_url: str, tmp_path: Path
) -> None:
    async with stop_bench(database_url, tmp_path) as bench:
        good, crossed = await bench.enter("AAPL", "KO")
        bench.pin(Decimal(101), "AAPL")
        bench.pin(Decimal(99), "KO")
        async with bench.keeper():
            await bench.until_reason(good, "not_armed")
            await bench.until_reason(crossed, "crossed_entry")

            done = await asked(bench, good)
            again = await asked(bench, good)
            refused = await asked(bench, crossed)
            unknown = await asked(bench, Trade("F", "no-such-lot", ""))

            assert (done["outcome"], bench.true_stop(good)[1]) == ("done", MOVED)
            assert (again["outcome"], again["detail"].startswith("the stop 99.99 is at the break-even")) == (
                "refused", True,
            )  # fmt: skip
            assert (refused["outcome"], bench.true_stop(crossed)[1]) == ("refused", STOP)
            assert "has crossed the entry" in refused["detail"]
            assert unknown["outcome"] == "refused"
        planned = [row for row in await bench.audit(good) if row["reason"] == "planned"]
        assert [row["detail"] for row in planned] == ["somebody asked: the stop moves from 98 to 99.99"]
        assert await bench.disagreements() == []

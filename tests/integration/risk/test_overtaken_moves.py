"""Requests that the market or the account's owner overtakes at the broker: each side of the race is proved and kept."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest
from fakes.ingest import becomes
from fakes.stops import MOVED, STOP, TOUCH, StopBench, Trade, stop_bench

pytestmark = pytest.mark.anyio


@pytest.fixture
async def bench(database_url: str, tmp_path: Path) -> AsyncIterator[StopBench]:
    async with stop_bench(database_url, tmp_path) as bench:
        yield bench


async def told_of(bench: StopBench, trade: Trade) -> list[tuple[str, str, str]]:
    """Return how each intent of a trade was answered, how it ended, and what the audit says of that end."""
    found = []
    for intent in await bench.intents(trade):
        rows = [row for row in await bench.audit(trade) if row["client_order_id"] == intent["client_order_id"]]
        [end] = [row["detail"] for row in rows if row["reason"] == intent["state"].lower()]
        found.append((intent["answer_state"], intent["state"], end))
    return found


async def test_what_reaches_the_broker_first_makes_it_refuse_and_the_stop_is_looked_at_anew(bench: StopBench) -> None:
    account = bench.account
    names = ("DAL", "F", "NKE", "MSFT", "WMT", "KO", "AAPL")
    editing, held, accepted, looser, tighter, canceled, filled = await bench.enter(*names)
    async with bench.keeper():
        await bench.until_reason(filled, "not_armed")

        async with bench.touched(editing, pending_replace_stuck=True):
            account.replace(editing.stop_id, {"stop_price": "98.50"})
        bench.finish_replace(editing.stop_id)
        await bench.until_moved(editing)
        async with bench.touched(held, held_not_replaceable=True):
            assert account.order(held.stop_id)["status"] == "held"
        async with bench.touched(accepted):
            leg = account.blotter.book.get(accepted.stop_id)
            leg.status = "accepted"
        assert "is accepted" in (await bench.until_reason(accepted, "abandoned"))["detail"]
        leg.status = "held"
        for trade, price in ((looser, "98.50"), (tighter, "100.50")):
            async with bench.touched(trade):
                account.replace(trade.stop_id, {"stop_price": price})
                await becomes(account, trade.stop_id, "replaced")
        async with bench.touched(canceled):
            account.cancel(canceled.stop_id)
            await becomes(account, canceled.stop_id, "canceled")
        async with bench.touched(filled):
            bench.pin(STOP, filled.symbol)
            await becomes(account, filled.stop_id, "filled")

        for trade in (held, accepted, looser):
            await bench.until_moved(trade)
        await bench.until_reason(tighter, "at_break_even")
    for trade, refusal, later in (
        (editing, "order already pending replacement", ["MOVED"]),
        (held, "cannot replace order in held status", ["MOVED"]),
        (accepted, "cannot replace order in accepted status", ["MOVED"]),
        (looser, "order already replaced", ["MOVED"]),
        (tighter, "order already replaced", []),
        (canceled, "order is not open, status: canceled", []),
        (filled, "order is not open, status: filled", []),
    ):
        (answer, state, said), *rest = await told_of(bench, trade)
        assert (answer, state, [end for _, end, _ in rest]) == ("REJECTED", "REJECTED", later)
        assert refusal in said
    stops = {trade.symbol: bench.true_stop(trade)[1] for trade in bench.trades}
    assert stops == dict.fromkeys(names, MOVED) | {"WMT": Decimal("100.50"), "KO": STOP, "AAPL": STOP}
    assert await bench.disagreements() == []


async def test_what_happens_after_the_broker_said_yes_decides_and_until_then_nothing_is_known(bench: StopBench) -> None:
    account, stuck = bench.account, {"pending_replace_stuck": True}
    pending, edited, canceled, filled = await bench.enter("MSFT", "WMT", "KO", "AAPL")
    async with bench.keeper():
        await bench.until_reason(filled, "not_armed")
        await bench.faults(**stuck)
        bench.pin(TOUCH, *(trade.symbol for trade in bench.trades))
        promised = {trade.symbol: (await bench.until_answered(trade))["new_order_id"] for trade in bench.trades}
        assert {account.order(trade.stop_id)["status"] for trade in bench.trades} == {"pending_replace"}

        account.cancel(canceled.stop_id)
        bench.pin(STOP, filled.symbol)
        await becomes(account, canceled.stop_id, "canceled")
        await becomes(account, filled.stop_id, "filled")
        await bench.faults(**stuck, rest_hold=True, rest_methods=["GET"], rest_paths=[edited.stop_id])
        bench.finish_replace(edited.stop_id)
        account.replace(promised["WMT"], {"stop_price": "100.10"})
        bench.finish_replace(promised["WMT"])
        await bench.faults(**stuck)

        await bench.until_reason(edited, "at_break_even")
        await bench.until_reason(pending, "unsettled")
        assert [row["state"] for row in await bench.intents(pending)] == ["ACCEPTED"]
        bench.finish_replace(pending.stop_id)
        await bench.until_moved(pending)
        for trade in (canceled, filled):
            await bench.station.until(partial(is_settled, bench, trade))
    for trade, state, said in (
        (canceled, "NOT_MOVED", f"{canceled.stop_id} is canceled and was not replaced"),
        (filled, "NOT_MOVED", f"the replacement {promised['AAPL']} was rejected"),
        (edited, "MOVED", f"{promised['WMT']} replaced the leg at 99.99"),
        (pending, "MOVED", f"{promised['MSFT']} replaced the leg at 99.99"),
    ):
        assert await told_of(bench, trade) == [("ACCEPTED", state, said)]
    assert {trade.symbol: bench.true_stop(trade)[1] for trade in bench.trades} == {
        "MSFT": MOVED, "WMT": Decimal("100.10"), "KO": STOP, "AAPL": STOP,
    }  # fmt: skip
    assert await bench.disagreements() == []


async def is_settled(bench: StopBench, trade: Trade) -> bool:
    return all(row["settled_at"] for row in await bench.intents(trade))

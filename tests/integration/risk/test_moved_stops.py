"""Stops that really move at a broker that may do its worst: each intent asks once, and ends as the truth says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from functools import partial
from pathlib import Path

import psycopg
import pytest
from fakes.ingest import becomes
from fakes.stops import MOVED, STOP, TOUCH, StopBench, stop_bench

pytestmark = pytest.mark.anyio

ONCE = {"rest_methods": ["PATCH"], "rest_fault_limit": 1}


@pytest.fixture
async def bench(database_url: str, tmp_path: Path) -> AsyncIterator[StopBench]:
    async with stop_bench(database_url, tmp_path) as bench:
        yield bench


async def test_the_touch_of_a_trigger_moves_the_stop_and_the_record_tells_all_of_it(bench: StopBench) -> None:
    [trade] = await bench.enter("AAPL")
    async with bench.keeper():
        await bench.until_reason(trade, "not_armed")

        bench.pin(TOUCH, "AAPL")

        [intent] = await bench.until_moved(trade)
        assert bench.true_stop(trade) == (intent["new_order_id"], MOVED)
        assert (intent["old_stop"], intent["new_stop"], intent["answer_state"]) == (STOP, MOVED, "ACCEPTED")
        await bench.until_reason(trade, "at_break_even")
    rows = [row for row in await bench.audit(trade) if row["reason"] != "unsettled"]  # a cycle came in between
    assert [(row["reason"], row["moved_flag"], row["is_action"]) for row in rows] == [
        ("not_armed", "—", False), ("planned", "—", True), ("moved", "OK", True), ("at_break_even", "Already", False),
    ]  # fmt: skip
    assert rows[2]["new_order_id"] == intent["new_order_id"]
    assert rows[2]["be_tp"] == Decimal(104)
    [lot] = await bench.station.select(
        "select moved_flag from accounts.open_trades where parent_id = %s", trade.parent_id
    )
    assert lot["moved_flag"] == "OK"
    [told] = await bench.station.select("select payload from accounts.events where kind = 'StopMoved'")
    assert (told["payload"]["lot_id"], told["payload"]["new_stop"]) == (trade.parent_id, "99.99")
    assert await bench.disagreements() == []


async def test_without_a_clear_answer_only_what_is_read_back_counts(bench: StopBench) -> None:
    """Several faults one after the other; each hits one request, and what it leaves open is proved meanwhile.

    The first two cannot be kept to one order: nobody else asks while they last.
    """
    faults: dict[str, dict[str, object]] = {
        "AMD": {"replace_error_though_done": True},
        "F": {"replace_then_reject": True},
        "AAPL": {"rest_error_after_effect_rate": 1},
        "MSFT": {"rest_error_rate": 1, "rest_error_status": 503},
        "KO": {"rest_429_rate": 1, "rest_retry_after_s": 1},
        "WMT": {"rest_late_effect_rate": 1, "rest_late_effect_s": 1.5},
        "DAL": {"rest_cut_rate": 1},
        "NKE": {"rest_wrong_json_rate": 1},
    }
    trades = {trade.symbol: trade for trade in await bench.enter(*faults)}
    async with bench.keeper():
        await bench.until_reason(trades["F"], "not_armed")

        for symbol, fault in faults.items():
            await bench.faults(**ONCE, rest_paths=[trades[symbol].stop_id], **fault)
            bench.pin(TOUCH, symbol)
            await bench.until_answered(trades[symbol])
            if symbol == "F":
                await bench.until_reason(trades["F"], "not_moved")
                await bench.faults()
                await bench.until_moved(trades["F"])
        await bench.faults()

        intents = {symbol: await bench.until_moved(trade) for symbol, trade in trades.items()}
    ends = {symbol: [(row["answer_state"], row["state"]) for row in rows] for symbol, rows in intents.items()}
    taken_back = ends.pop("F")  # as often as it was tried while the broker did that
    assert set(taken_back) == {("ACCEPTED", "NOT_MOVED"), ("ACCEPTED", "MOVED")}
    assert ends == {
        "AAPL": [("UNKNOWN", "MOVED")],
        "MSFT": [("UNKNOWN", "NOT_MOVED"), ("ACCEPTED", "MOVED")],
        "KO": [("UNKNOWN", "NOT_MOVED"), ("ACCEPTED", "MOVED")],
        "WMT": [("UNKNOWN", "MOVED")],
        "DAL": [("UNKNOWN", "MOVED")],
        "NKE": [("UNKNOWN", "MOVED")],
        "AMD": [("UNKNOWN", "MOVED")],
    }
    assert await bench.disagreements() == []
    assert {bench.true_stop(trade)[1] for trade in bench.trades} == {MOVED}
    assert bench.account.replaces.counts["tightened"] == len(faults) - 1 + len(taken_back)


async def test_with_the_stream_down_an_unchanged_stop_proves_nothing(bench: StopBench) -> None:
    [trade] = await bench.enter("AAPL")
    async with bench.keeper():
        await bench.until_reason(trade, "not_armed")
        await bench.faults(**ONCE, rest_error_rate=1, stream_drop_now=True, stream_refuse_s=5, stream_refuse_status=503)

        bench.pin(TOUCH, "AAPL")

        intent = await bench.until_answered(trade)
        await bench.clock.sleep(18)  # longer than a stop must stand still to prove anything
        [still] = await bench.intents(trade)
        assert (intent["state"], still["state"]) == ("UNKNOWN", "UNKNOWN")
        await bench.until_reason(trade, "unsettled")
        await bench.faults()
        first, second = await bench.until_moved(trade)
    assert (first["state"], second["state"]) == ("NOT_MOVED", "MOVED")
    assert await bench.disagreements() == []


async def test_what_happened_to_the_leg_meanwhile_is_noticed_before_anything_is_sent(bench: StopBench) -> None:
    edited, canceled, filled = await bench.enter("AAPL", "KO", "WMT")
    async with bench.keeper():
        await bench.until_reason(filled, "not_armed")
        await bench.faults(stream_mute=True)
        bench.account.replace(edited.stop_id, {"stop_price": "98.50"})
        bench.account.cancel(canceled.stop_id)
        bench.pin(STOP, "WMT")
        await becomes(bench.account, filled.stop_id, "filled")

        bench.pin(TOUCH, "AAPL", "KO", "WMT")

        for trade in (edited, canceled, filled):
            row = await bench.until_reason(trade, "abandoned")
            assert row["detail"].startswith("leg_not_replaceable")
        assert await bench.intents() == []
        await bench.faults()
        [intent] = await bench.until_moved(edited)
    assert (intent["old_stop"], bench.true_stop(edited)[1]) == (Decimal("98.50"), MOVED)
    assert await bench.disagreements() == []


async def test_what_a_dead_process_left_on_its_way_is_read_back_by_the_next_one(bench: StopBench) -> None:
    applied, lost = await bench.enter("AAPL", "KO")
    async with bench.keeper():
        await bench.until_reason(lost, "not_armed")
        await bench.faults(rest_methods=["PATCH"], rest_paths=[applied.stop_id], rest_hang_after_effect_rate=1)
        bench.pin(TOUCH, "AAPL")
        await bench.station.until(lambda: bench.hits("rest_hang_after_effect_rate"))
        await bench.faults(rest_methods=["PATCH"], rest_paths=[lost.stop_id], rest_hang_rate=1)
        bench.pin(TOUCH, "KO")
        await bench.station.until(lambda: bench.hits("rest_hang_rate"))
    left = await bench.intents()
    await bench.faults()

    async with bench.keeper():
        [first] = await bench.until_moved(applied)
        intents = await bench.until_moved(lost)

    assert [row["state"] for row in left] == ["UNKNOWN", "UNKNOWN"]  # said before it ended
    assert (first["state"], first["epoch"]) == ("MOVED", left[0]["epoch"])
    assert [(row["state"], row["epoch"] - left[0]["epoch"]) for row in intents] == [("NOT_MOVED", 0), ("MOVED", 1)]
    assert await bench.disagreements() == []


async def test_of_two_keepers_one_acts_and_the_other_takes_over(bench: StopBench, database_url: str) -> None:
    trades = await bench.enter("AAPL", "MSFT", "KO")
    async with bench.keeper(), bench.keeper():
        await bench.until_reason(trades[-1], "not_armed")
        for trade in trades:
            [before] = await bench.station.select("select epoch from accounts.worker_epochs where kind = 'breakeven'")

            bench.pin(TOUCH, trade.symbol)
            moved = await bench.until_moved(trade)

            assert {row["epoch"] for row in moved} == {before["epoch"]}
            await end_sessions(database_url, "coldharbour/risk/leases")
            await bench.station.until(partial(newer_epoch, bench, before["epoch"]))
    assert len(await bench.intents()) == len(trades)
    assert await bench.disagreements() == []


async def end_sessions(database_url: str, name: str) -> None:
    """End the sessions of whoever calls himself so."""
    async with await psycopg.AsyncConnection.connect(database_url) as conn:
        await conn.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = %s"
            " and pid in (select pid from pg_locks where locktype = 'advisory')", [name]
        )  # fmt: skip


async def newer_epoch(bench: StopBench, than: int) -> bool:
    [now] = await bench.station.select("select epoch from accounts.worker_epochs where kind = 'breakeven'")
    return bool(now["epoch"] > than)

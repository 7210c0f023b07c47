"""Positions that are really closed at a broker that may do its worst: each once, never beyond flat, all on record."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from fakes.ingest import becomes
from fakes.stops import SLUG, STOP, TOUCH, StopBench, Trade, stop_bench

from coldharbour.risk.losses import store as losses
from coldharbour.risk.losses.model import Latch, Stage, Watch
from coldharbour.sessions import NEW_YORK

pytestmark = pytest.mark.anyio

ROUND = "[workers.flatten]\ninterval_s = 1\nmax_minute_age_s = 3600\n"


@pytest.fixture
async def bench(database_url: str, tmp_path: Path) -> AsyncIterator[StopBench]:
    async with stop_bench(database_url, tmp_path) as bench:
        yield bench


async def see(bench: StopBench, slug: str = SLUG, blind: str = "") -> None:
    """Have the day's loss looked at now, as the worker that watches it would."""
    now = bench.clock.now()
    watch = Watch(
        slug, now.astimezone(NEW_YORK).date(), Decimal(-2000), Decimal(60_000), now, blind=blind, is_limited=True
    )
    async with bench.station.db.transaction() as conn:
        await losses.save_watch(conn, watch)


async def reach_limit(bench: StopBench, slug: str = SLUG, blind: str = "") -> None:
    """Have the limit reached at which positions are closed: the account's, or that of all together."""
    now = bench.clock.now()
    latch = Latch(
        destination=slug, session_date=now.astimezone(NEW_YORK).date(), stage=Stage.FLATTEN, latched_at=now,
        day_pnl=Decimal(-2000), baseline=Decimal(60_000), note="lost 2000", limit_pnl=Decimal(-1800),
    )  # fmt: skip
    await see(bench, slug, blind)
    async with bench.station.db.transaction() as conn:
        assert await losses.latch(conn, latch)


async def reset(bench: StopBench) -> None:
    async with bench.station.db.transaction() as conn:
        await losses.reset_latch(conn, SLUG, "kim", bench.clock.now())


async def targets(bench: StopBench) -> dict[str, tuple[str, str]]:
    rows = await bench.station.select("select symbol, state, detail from accounts.flatten_targets order by begun_at")
    return {row["symbol"]: (row["state"], row["detail"]) for row in rows}


async def requests(bench: StopBench, kind: str, symbol: str = "%") -> list[dict[str, Any]]:
    return await bench.station.select(
        "select * from accounts.flatten_requests where kind = %s and symbol like %s order by planned_at", kind, symbol
    )


async def until_ended(bench: StopBench) -> dict[str, str]:
    """Return the state of each symbol once the newest flatten is over."""

    async def is_over() -> bool:
        rows = await bench.station.select("select ended_at from accounts.flattenings order by begun_at desc limit 1")
        return bool(rows) and rows[0]["ended_at"] is not None

    await bench.station.until(is_over)
    return {symbol: state for symbol, (state, _) in (await targets(bench)).items()}


def held(bench: StopBench) -> dict[str, str]:
    return {str(row["symbol"]): str(row["qty"]) for row in bench.account.positions()}


def closings(bench: StopBench, symbol: str) -> list[tuple[str, str]]:
    """Return side and shares of all closing orders that the broker ever took for a symbol."""
    orders = bench.account.blotter.book.by_id.values()
    return [
        (each.side, str(each.qty))
        for each in orders
        if each.symbol == symbol and each.client_order_id.startswith("flat-")
    ]


async def enter(bench: StopBench, *symbols: str) -> list[Trade]:
    """Enter brackets, each filled whole."""
    trades = await bench.enter(*symbols)
    for trade in trades:
        await becomes(bench.account, trade.parent_id, "filled")
    return trades


async def plain_position(bench: StopBench, symbol: str, qty: str, side: str) -> None:
    placed = bench.account.place({"symbol": symbol, "qty": qty, "side": side, "type": "market", "time_in_force": "day"})
    await becomes(bench.account, placed["id"], "filled")


async def test_every_position_is_closed_once_whatever_the_broker_answers(bench: StopBench) -> None:
    await enter(bench, "AAPL", "KO", "WMT")
    await plain_position(bench, "F", "7", "sell")
    await plain_position(bench, "MSFT", "2.5", "buy")
    stop = {"symbol": "F", "qty": "7", "side": "buy", "type": "stop", "stop_price": "110", "time_in_force": "gtc"}
    bench.account.place(stop)
    before = held(bench)
    assert {"AAPL": "10", "F": "-7", "MSFT": "2.5"}.items() <= before.items()
    await bench.faults(
        rest_methods=["POST", "DELETE"], rest_fault_limit=8, rest_429_rate=0.2, rest_error_after_effect_rate=0.3,
        rest_late_effect_rate=0.3, rest_late_effect_s=0.5, rest_error_rate=0.1, rest_error_status=503,
        rest_retry_after_s=0.2,
    )  # fmt: skip

    async with bench.keeper("flatten", more=ROUND):
        await reach_limit(bench)
        states = await until_ended(bench)

    assert states == dict.fromkeys(before, "closed")
    assert held(bench) == {}
    assert {symbol: closings(bench, symbol) for symbol in states} == {
        symbol: [("buy" if qty[0] == "-" else "sell", qty.removeprefix("-"))] for symbol, qty in before.items()
    }
    asked = [*await requests(bench, "close"), *await requests(bench, "cancel")]
    assert "UNKNOWN" in {row["answer_state"] for row in asked}
    assert {row["state"] for row in asked} <= {"DONE", "REJECTED", "NOT_SENT", "NOT_DONE"}
    told = await bench.station.until(
        lambda: bench.station.select("select payload from accounts.events where kind = 'FlattenEnded'")
    )
    assert told[0]["payload"]["outcome"] == "done"
    audit = await bench.station.select("select reason from accounts.log_breakeven where symbol = 'KO' order by id")
    assert [row["reason"] for row in audit] == ["planned", "flattened"]


async def test_a_process_that_dies_in_the_middle_leaves_each_position_closed_once(bench: StopBench) -> None:
    await enter(bench, "AAPL", "KO")
    before = held(bench)
    await bench.faults(price_mute=True)
    async with bench.keeper("flatten", more=ROUND):
        await reach_limit(bench)
        await bench.station.until(lambda: has_detail(bench, "KO", "no price yet"))
        assert await requests(bench, "cancel") == []
        await bench.faults(rest_methods=["POST"], rest_hang_after_effect_rate=1, rest_fault_limit=1)
        await bench.station.until(lambda: bench.hits("rest_hang_after_effect_rate"))

    async with bench.keeper("flatten", more=ROUND), bench.keeper("flatten", more=ROUND):
        assert await until_ended(bench) == dict.fromkeys(before, "closed")
        assert held(bench) == {}
        await enter(bench, "AAPL")  # the trader, after it was over
        await until_looked(bench)

        assert held(bench) == {"AAPL": "10"}
        assert {symbol: len(closings(bench, symbol)) for symbol in before} == dict.fromkeys(before, 1)
        await reset(bench)
        await reach_limit(bench)
        await bench.station.until(lambda: bench.station.select(SECOND_RUN))
    assert held(bench) == {}
    assert closings(bench, "AAPL") == [("sell", "10")] * 2


SECOND_RUN = "select from accounts.flattenings where ended_at is not null offset 1"


async def until_looked(bench: StopBench) -> None:
    """Return once the worker has looked at its limits again, from now on."""
    since = bench.clock.now() + timedelta(seconds=1)
    query = "select from accounts.worker_status where kind = 'flatten' and last_success >= %s"
    await bench.station.until(lambda: bench.station.select(query, since))


async def test_what_stands_in_the_way_holds_a_position_back_and_is_told(bench: StopBench) -> None:
    filled, moving = await enter(bench, "AAPL", "WMT")
    before = held(bench)
    kill = bench.folder / "kill"
    kill.touch()
    more = f'{ROUND}alarm_after_s = 1\nkill_file = "{kill}"\n'
    async with bench.keeper("flatten", "breakeven", more=more):
        await bench.until_keeping()
        await reach_limit(bench, blind="KO has no price")
        await until_blocked(bench, "not begun: the day's loss cannot be seen: KO has no price")
        await see(bench)
        await bench.station.until(lambda: has_detail(bench, "WMT", "kill exists"))
        bench.pin(TOUCH, "WMT")
        assert "is being closed" in (await bench.until_reason(moving, "flattening"))["detail"]
        await until_blocked(bench, "kill exists")
        assert await requests(bench, "cancel") == []

        await bench.faults(rest_delay_s=0.1)
        kill.unlink()
        await bench.station.until(lambda: requests(bench, "cancel", "AAPL"))
        bench.pin(STOP, "AAPL")  # its stop and the cancel race
        await bench.faults()
        assert await until_ended(bench) == dict.fromkeys(before, "closed")
    assert held(bench) == {}
    assert await bench.intents(moving) == []
    assert {symbol for symbol in before if closings(bench, symbol)} | {filled.symbol} == before.keys()


async def until_blocked(bench: StopBench, text: str) -> None:
    query = "select from accounts.events where kind = 'FlattenBlocked' and strpos(payload ->> 'reason', %s) > 0"
    await bench.station.until(lambda: bench.station.select(query, text))


async def has_detail(bench: StopBench, symbol: str, text: str) -> bool:
    return text in (await targets(bench)).get(symbol, ("", ""))[1]


async def test_a_position_that_cannot_be_looked_at_keeps_no_other_from_being_closed(bench: StopBench) -> None:
    await enter(bench, "AAPL", "KO", "WMT")
    await bench.faults(rest_error_rate=1, rest_methods=["GET"], rest_paths=["/v2/positions"])

    async with bench.keeper("flatten", more=f"{ROUND}alarm_after_s = 3\n"):
        await reach_limit(bench)
        await until_blocked(bench, "not begun: no answer")
        await bench.faults(rest_error_rate=1, rest_methods=["GET"], rest_paths=["/v2/positions/KO"])
        await bench.station.until(lambda: bench.station.select(TOLD_OF_KO))
        await bench.station.until(lambda: are_closed(bench, "AAPL", "WMT"))
        assert held(bench).keys() & {"AAPL", "KO", "WMT"} == {"KO"}
        await bench.faults()
        states = await until_ended(bench)

    assert set(states.values()) == {"closed"}
    assert held(bench) == {}


TOLD_OF_KO = "select from accounts.events where kind = 'FlattenBlocked' and payload ->> 'symbol' = 'KO'"


async def are_closed(bench: StopBench, *symbols: str) -> bool:
    found = await targets(bench)
    return all(found.get(symbol, ("", ""))[0] == "closed" for symbol in symbols)


async def test_an_account_that_is_not_armed_is_told_what_would_be_closed(bench: StopBench) -> None:
    [trade] = await enter(bench, "KO")
    before = held(bench)
    bench.tables = bench.tables.replace("armed = true", "armed = false")
    async with bench.keeper("flatten", more=f"{ROUND}alarm_after_s = 600\n"):
        await reach_limit(bench, losses.TOGETHER)
        await until_ended(bench)

    said = await targets(bench)
    assert said["KO"] == ("would_close", "would cancel 1 order, then sell 10 at market")
    assert said.keys() == before.keys()
    assert (held(bench), bench.true_stop(trade)[1]) == (before, STOP)
    assert await requests(bench, "cancel") == []

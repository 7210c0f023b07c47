"""The document of key figures: made of the tables, written when it changes, and no dearer than what changed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import anyio
import pytest
from coldharbour_plugins.metrics import MetricsSettings, keep_metrics
from fakes.accounting import FRIDAY, MONDAY, THURSDAY, TUESDAY, WEEK, cash, fill
from fakes.counting_house import CountingHouse, new_york, open_counting_house
from psycopg.types.json import Jsonb

from coldharbour.live.activities.flows import follow_flows
from coldharbour.metrics.kpis import FORMULAS

pytestmark = pytest.mark.anyio

NIGHT = new_york(FRIDAY, "21:00")


@pytest.fixture
async def house(database_url: str) -> AsyncIterator[CountingHouse]:
    async with open_counting_house(database_url, WEEK, NIGHT) as house:
        await house.schedule(THURSDAY, FRIDAY)
        yield house


async def document(house: CountingHouse, document_id: str = "latest") -> dict[str, Any]:
    """Make the document and return it as it is stored."""
    await keep_metrics(house.ctx, MetricsSettings())
    [found] = await house.column("select document from accounts.account_metrics_paper where id = %s", document_id)
    return dict(found)


async def close_trade(house: CountingHouse, lot: str, exit_type: str, pnl: str) -> None:
    await house.execute(
        """
        insert into accounts.closed_trades (destination, entry_lot_id, exit_order_id, symbol, side, qty, entry_time,
            entry_price, exit_time, exit_price, exit_type, pnl_cash, pnl_cash_fifo, diff_pnl, return_pct, duration_sec)
        values ('paper', %(lot)s, 'exit', 'KO', 'Long', 100, %(at)s, 10, %(at)s + interval '2 days', 11, %(kind)s,
            %(pnl)s, %(pnl)s, 0, 0, 172800)
        """,
        {"lot": lot, "at": NIGHT, "kind": exit_type, "pnl": pnl},
    )


class TestTheDocument:
    async def test_it_has_every_key_although_nothing_is_there(self, house: CountingHouse) -> None:
        found = await document(house)

        assert set(found) == set(FORMULAS)
        assert (found["equity"], found["closed_trades"], found["updated_at"]) == (None, 0, NIGHT.isoformat())

    async def test_it_is_made_of_equity_trades_and_flows(self, house: CountingHouse) -> None:
        for number, day in enumerate(WEEK[:5]):
            house.past.close(day, KO=str(61 + number))
        await house.record(
            cash(MONDAY, "CSD", "10000"), fill(MONDAY, "buy", "100", "KO", "60"), cash(TUESDAY, "DIV", "50"),
            cash(FRIDAY, "FEE", "-2"),
        )  # fmt: skip
        await house.count_equity()
        await follow_flows(house.db, "paper", house.ctx.destination.performance_types, NIGHT)
        await house.hold("KO", "65", NIGHT, qty="100", mkt_value="6500", profit_loss="500")
        await house.hold("NEW", None, NIGHT)
        await close_trade(house, "a", "TP", "100")
        await close_trade(house, "b", "SL", "-40")

        found = await document(house)

        # 10000 - 6000 + 50 - 2 in cash, and 100 KO at 65 (no bars: the minutes still show Thursday's 64)
        assert (found["cash"], found["equity"]) == (4_048, 10_448)
        assert (found["day_pl"], found["buy_volume"], found["sell_volume"]) == (-2, 6_000, 0)
        assert (found["open_trades"], found["open_value"], found["unrealized_pl"]) == (2, 6_500, 500)
        assert (found["total_fees"], found["net_dividends"], found["realized_pl_fifo"]) == (-2, 50, 60)
        assert (found["net_realized_fifo"], found["win_rate_pct"], found["risk_reward"]) == (108, 50, 2.5)
        assert (found["hold_take_days"], found["max_drawdown_pct"]) == (2, 0)


class TestChange:
    async def test_it_is_written_and_told_only_when_a_figure_changes(self, house: CountingHouse) -> None:
        async with house.db.listener() as listener, listener.subscribe("metrics_channel_paper") as notes:
            await anext(notes)
            first = await document(house)
            house.clock.at = NIGHT + timedelta(seconds=5)
            same = await document(house)
            await house.hold("KO", "65", NIGHT)
            changed = await document(house)
            with anyio.fail_after(10):
                told = [(await anext(notes)).payload for _ in range(2)]

        assert same == first
        assert changed["updated_at"] == house.clock.at.isoformat()
        assert told == ['{"id":"latest"}'] * 2

    async def test_closed_trades_are_read_again_only_when_one_changed(self, house: CountingHouse) -> None:
        await close_trade(house, "a", "TP", "100")
        await document(house)
        kept = await document(house, "closed_trades")
        await house.execute(
            "update accounts.account_metrics set document = document || %s where id = 'closed_trades'",
            [Jsonb({"pnl_cash": "7"})],
        )

        untouched = await document(house)
        await close_trade(house, "b", "TP", "10")
        after_one_more = await document(house)
        await house.execute("update accounts.closed_trades set pnl_cash = 11 where entry_lot_id = 'b'")
        after_a_change = await document(house)
        await house.execute("delete from accounts.closed_trades where entry_lot_id = 'a'")
        after_a_removal = await document(house)

        assert kept["pnl_cash"] == "100"
        assert untouched["realized_pl_strategy"] == 7  # taken from what was kept
        figures = [found["realized_pl_strategy"] for found in (after_one_more, after_a_change, after_a_removal)]
        assert figures == [110, 111, 11]

    async def test_a_lot_that_was_closed_in_parts_counts_once_among_many(self, house: CountingHouse) -> None:
        await house.execute(
            """
            insert into accounts.closed_trades (destination, entry_lot_id, exit_order_id, symbol, side, qty, entry_time,
                entry_price, exit_time, exit_price, exit_type, pnl_cash, pnl_cash_fifo, diff_pnl, return_pct,
                duration_sec)
            select 'paper', 'lot ' || lot, 'exit ' || part, 'KO', 'Long', 1, now(), 10, now(), 11,
                case lot %% 2 when 0 then 'TP' else 'SL' end, case lot %% 2 when 0 then 2 else -1 end, 1, 0, 0, 60
            from generate_series(1, 800) as lot, generate_series(1, 3) as part
            """
        )

        found = await document(house)

        assert (found["closed_trades"], found["win_rate_pct"]) == (800, 50)
        assert (found["mean_take"], found["mean_stop"], found["realized_pl_fifo"]) == (6, 3, 2_400)

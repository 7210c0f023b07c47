"""The command `coldharbour lab breakeven`: from the tables of an account to the printed rows."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from subprocess import CompletedProcess

import anyio
import pytest
from fakes.ingest import configuration_of, simulated
from fakes.lake import SLUG, open_lake

pytestmark = pytest.mark.anyio

TRADES = """
    insert into accounts.closed_trades (destination, entry_lot_id, exit_order_id, symbol, side, qty, entry_time,
        entry_price, exit_time, exit_price, exit_type, pnl_cash, pnl_cash_fifo, diff_pnl, return_pct, duration_sec,
        initial_stop, closes_lot, splits)
    values
        ('paper', 'saved', 'e1', 'KO', 'Long', 100, '2026-10-08 14:00:20+00', 50, '2026-10-08 14:04:30+00', 48, 'SL',
            -200, -200, 0, -4, 250, 48, true, '[]'),
        ('paper', 'scratched', 'e2', 'PEP', 'Short', 10, '2026-10-08 14:00:20+00', 50, '2026-10-08 14:04:30+00', 44,
            'TP', 60, 60, 0, 12, 250, 52, true, '[]'),
        ('paper', 'stopless', 'e3', 'KO', 'Long', 1, '2026-10-08 14:00:20+00', 50, '2026-10-08 14:04:30+00', 51, 'TP',
            1, 1, 0, 2, 250, null, true, '[]'),
        ('paper', 'unknown', 'e4', 'GONE', 'Long', 1, '2026-10-08 14:00:20+00', 50, '2026-10-08 14:04:30+00', 51, 'TP',
            1, 1, 0, 2, 250, 48, true, '[]'),
        ('paper', 'earlier', 'e5', 'KO', 'Long', 1, '2026-10-06 14:00:20+00', 50, '2026-10-06 14:00:40+00', 51, 'TP',
            1, 1, 0, 2, 20, 48, true, '[]'),
        ('paper', 'divided', 'e6', 'XOM', 'Long', 400, '2026-10-07 19:58:20+00', 25, '2026-10-08 13:31:30+00', 24, 'SL',
            -400, -400, 0, -4, 63190, 24, true, '[{"at": "2026-10-08T04:00:00Z", "before": "100", "after": "400"}]')
"""
# The minute of the entry would arm at 3 R, were it looked at.
BARS = """
    create table public.alpaca_bars_1min (symbol text, timestamp timestamptz, open float, high float, low float);
    insert into public.alpaca_bars_1min values
        ('KO', '2026-10-08 14:00+00', 50, 57, 50), ('KO', '2026-10-08 14:01+00', 50, 51, 50),
        ('KO', '2026-10-08 14:02+00', 51, 52, 51), ('KO', '2026-10-08 14:03+00', 51, 51.5, 50.5),
        ('KO', '2026-10-08 14:04+00', 50.5, 60, 40),
        ('PEP', '2026-10-08 14:01+00', 50, 50, 46.9), ('PEP', '2026-10-08 14:02+00', 50.3, 50.4, 47),
        ('PEP', '2026-10-08 14:03+00', 47, 47, 45), ('PEP', '2026-10-08 14:04+00', 45, 45, 44),
        ('XOM', '2026-10-07 19:59+00', 102, 104, 100),
        ('XOM', '2026-10-08 13:30+00', 25.2, 25.4, 24.9), ('XOM', '2026-10-08 13:31+00', 24.9, 24.9, 24)
"""


@pytest.fixture
async def folder(database_url: str, tmp_path: Path) -> AsyncIterator[Path]:
    """A broker that is asked for the calendar, and an account with six closed trades, in a configuration."""
    async with simulated(SLUG, always_open=False) as (_, address), open_lake(database_url) as lake:
        configuration_of(tmp_path, {SLUG: address.port})
        async with lake.db.transaction() as conn:
            await conn.execute(TRADES)
            for statement in BARS.split(";"):
                await conn.execute(statement.encode())
        yield tmp_path


async def breakeven(folder: Path, database_url: str, *options: str) -> CompletedProcess[bytes]:
    environment = {
        **os.environ,
        "COLDHARBOUR_DATABASE__URL": database_url,
        f"ALPACA_API_KEY_{SLUG.upper()}": f"SIM-{SLUG}",
        f"ALPACA_SECRET_KEY_{SLUG.upper()}": "simulator",
    }
    command = [sys.executable, "-m", "coldharbour", "lab", "breakeven", "--destination", SLUG]
    where = ["--config", str(folder / "ingest.toml")]
    return await anyio.run_process([*command, *where, *options], env=environment, check=False)


async def test_it_prints_what_each_trigger_saves_and_costs_and_names_what_it_leaves_out(
    folder: Path, database_url: str
) -> None:
    as_csv = await breakeven(folder, database_url, "--format", "csv", "--since", "2026-10-07")
    as_table = await breakeven(folder, database_url)

    assert as_csv.returncode == 0, as_csv.stderr
    assert as_csv.stdout.decode().splitlines() == [
        "trigger_r,trades,armed,stopped,saved,scratched,pnl_cash,pnl_r",
        "none,3,0,0,0,0,-540.00,1.00",
        # KO ends at 49.99 in the minute of its exit, PEP at its open of 50.30; XOM, whose 104 were 26, at 24.99
        "1,3,3,3,2,1,-8.00,-0.16",
        "1.5,3,1,1,0,1,-603.00,-2.15",
        "2,3,1,0,0,0,-540.00,1.00",
        "2.5,3,1,0,0,0,-540.00,1.00",
        "3,3,1,0,0,0,-540.00,1.00",  # PEP reached 44 with its exit, the minute of KO's entry tells nothing
    ]
    said = as_csv.stderr.decode()
    assert "left out, no initial stop on the losing side of the entry: 1\n  KO lot stopless, exit e3\n" in said
    assert "left out, no minute bars of a session in which it was held: 1\n  GONE lot unknown, exit e4\n" in said
    lines = [line.split() for line in as_table.stdout.decode().splitlines()]
    assert lines[0] == ["trigger_r", "trades", "armed", "stopped", "saved", "scratched", "pnl_cash", "pnl_r"]
    assert lines[1] == ["none", "4", "0", "0", "0", "0", "-539.00", "1.50"]
    assert lines[2] == ["1", "4", "3", "3", "2", "1", "-7.00", "0.34"]

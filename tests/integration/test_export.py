"""Exports as another program reads them: whole, in order, and with every digit."""

from __future__ import annotations

import csv
import io
import json
import os
import shlex
import sys
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import anyio
import pytest
from arro3.io import read_parquet
from fakes.ingest import configuration_of
from fakes.lake import NOON, SLUG, activity, cash_json, fill_json, open_lake
from psycopg.rows import dict_row

from coldharbour.lake.writer import Lake

pytestmark = pytest.mark.anyio

ODD = Decimal("12.3333333333333333333333333")
TRADES = 12_345  # more than are fetched at once
SOME_TRADES = """
    insert into accounts.closed_trades (destination, entry_lot_id, exit_order_id, symbol, side, qty, entry_time,
        entry_price, exit_time, exit_price, exit_type, pnl_cash, pnl_cash_fifo, diff_pnl, return_pct, duration_sec,
        unprotected_s, closes_lot)
    select %(slug)s, 'lot ' || n, 'exit, "' || n || '"', 'KO', 'Long', 10, %(at)s, %(price)s,
        %(at)s + n * interval '1 s', 0.1 + n, 'TP', n * 0.1, -1e-9, 0, 0.5, n, 0.25, n %% 2 = 0
    from generate_series(1, %(count)s) as n
"""


@pytest.fixture
async def lake(database_url: str, tmp_path: Path) -> AsyncIterator[Lake]:
    """A lake with a thousand closed trades, and the configuration that leads to it."""
    configuration_of(tmp_path, {SLUG: 1})
    async with open_lake(database_url) as lake:
        async with lake.db.transaction() as conn:
            await conn.execute(SOME_TRADES, {"slug": SLUG, "at": NOON, "price": ODD, "count": TRADES})
        yield lake


class Exporter:
    """Runs the command on the configuration in a folder."""

    def __init__(self, folder: Path, database_url: str) -> None:
        self.folder = folder
        self.environment = {
            **os.environ,
            "COLDHARBOUR_DATABASE__URL": database_url,
            f"ALPACA_API_KEY_{SLUG.upper()}": f"SIM-{SLUG}",
            f"ALPACA_SECRET_KEY_{SLUG.upper()}": "simulator",
        }

    async def __call__(self, what: str, *options: str) -> CompletedProcess[bytes]:
        command = [sys.executable, "-m", "coldharbour", "export", what, "--destination", SLUG, *options]
        where = ["--config", str(self.folder / "ingest.toml")]
        return await anyio.run_process([*command, *where], env=self.environment, check=False)


@pytest.fixture
def export(lake: Lake, tmp_path: Path, database_url: str) -> Exporter:
    return Exporter(tmp_path, database_url)


async def stored(lake: Lake) -> list[dict[str, Any]]:
    """Return the closed trades as the table has them, by time of exit."""
    async with lake.db.transaction() as conn, conn.cursor(row_factory=dict_row) as cursor:
        await cursor.execute("select * from accounts.closed_trades order by exit_time")
        return await cursor.fetchall()


async def test_csv_holds_every_row_with_every_digit(lake: Lake, export: Exporter) -> None:
    done = await export("trades", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout.decode())))

    truth = await stored(lake)
    assert done.returncode == 0, done.stderr
    assert [row["exit_order_id"] for row in rows] == [row["exit_order_id"] for row in truth]
    assert {row["entry_price"] for row in rows} == {str(ODD)}
    assert {row["pnl_cash_fifo"] for row in rows} == {"-0.000000001"}
    assert [Decimal(row["pnl_cash"]) for row in rows] == [row["pnl_cash"] for row in truth]
    assert rows[0]["exit_time"] == "2026-10-08T16:00:01Z"
    assert rows[0]["high_px"] == ""
    assert "destination" not in rows[0]


async def test_json_is_one_array_whose_money_is_text(lake: Lake, export: Exporter) -> None:
    done = await export("trades", "--format", "json")
    rows = json.loads(done.stdout)

    truth = await stored(lake)
    assert len(rows) == TRADES
    assert [rows[0][name] for name in ("entry_price", "high_px", "duration_sec", "unprotected_s", "closes_lot")] == [
        str(ODD), None, 1, 0.25, False
    ]  # fmt: skip
    assert [Decimal(row["pnl_cash"]) for row in rows] == [row["pnl_cash"] for row in truth]


async def test_parquet_keeps_types_and_digits(lake: Lake, export: Exporter, tmp_path: Path) -> None:
    file = tmp_path / "trades.parquet"

    done = await export("trades", "--format", "parquet", "--output", str(file))

    table = read_parquet(file).read_all()
    columns = {name: table.column(name).to_pylist() for name in table.column_names}
    truth = await stored(lake)
    assert done.returncode == 0, done.stderr
    for name in ("entry_price", "pnl_cash", "pnl_cash_fifo", "exit_time", "duration_sec", "closes_lot", "high_px"):
        assert columns[name] == [row[name] for row in truth], name
    assert await anyio.Path(f"{file}.part").exists() is False


async def test_activities_come_in_order_without_their_raw_payload(lake: Lake, export: Exporter) -> None:
    dividend = cash_json("dividend", description='Müller, "Söhne"\n& Co')
    await lake.write_activities([activity(fill_json("late", at=9)), activity(dividend), activity(fill_json("one"))])

    rows = json.loads((await export("activities", "--format", "json")).stdout)

    assert [row["activity_type"] for row in rows] == ["FILL", "FILL", "DIV"]
    assert rows[0]["price"] == "62.10"
    assert rows[2]["activity_date"] == "2026-10-08"
    assert "raw_json" not in rows[0]


async def test_what_is_empty_yet_can_be_exported(export: Exporter) -> None:
    for what in ("positions", "equity", "audit"):
        done = await export(what, "--format", "json")

        assert (done.returncode, json.loads(done.stdout)) == (0, []), done.stderr


async def test_what_is_not_kept_is_refused_in_words(lake: Lake, export: Exporter) -> None:
    async with lake.db.transaction() as conn:
        await conn.execute("drop table accounts.equity_full")

    unknown = await export("secrets")
    missing = await export("equity")

    assert unknown.returncode == missing.returncode == 2
    assert b"trades" in unknown.stderr
    assert b"there is no equity to export" in missing.stderr
    assert missing.stdout == b""


async def test_parquet_without_its_library_names_the_remedy(export: Exporter, tmp_path: Path) -> None:
    (tmp_path / "arro3").mkdir()
    (tmp_path / "arro3" / "__init__.py").write_text('raise ImportError("not here")')
    export.environment["PYTHONPATH"] = str(tmp_path)

    done = await export("trades", "--format", "parquet", "--output", str(tmp_path / "never"))

    assert done.returncode == 2
    assert b"pip install 'coldharbour[parquet]'" in done.stderr
    assert not (tmp_path / "never").exists()


async def test_a_reader_that_has_seen_enough_ends_the_export_quietly(lake: Lake, export: Exporter) -> None:
    config = str(export.folder / "ingest.toml")
    command = [sys.executable, "-m", "coldharbour", "export", "trades", "--config", config, "--destination", SLUG]
    done = await anyio.run_process(f"{shlex.join(command)} | head -n 2", env=export.environment, check=False)

    assert done.stdout.count(b"\n") == 2
    assert b"Traceback" not in done.stderr
    assert b"error" not in done.stderr.lower()

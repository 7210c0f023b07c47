"""One seed of the soak, small enough for every run: ingest and database are killed, and nothing is lost or twice."""

from __future__ import annotations

import sys
from pathlib import Path

import anyio
import pytest

pytestmark = pytest.mark.anyio

SOAK = Path(__file__).parents[2] / "benchmarks" / "soak.py"


async def test_nothing_is_lost_and_nothing_twice_when_ingest_and_database_are_killed() -> None:
    command = [sys.executable, str(SOAK), "--events", "5000", "--kills", "6", "--database-kills", "1", "--seeds", "1"]

    done = await anyio.run_process(command, check=False)

    said = done.stdout.decode() + done.stderr.decode()
    assert done.returncode == 0, said
    assert "equal to the truth" in said

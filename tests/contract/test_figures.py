"""The document of figures names every key figure with its formula, every column and every area that there is."""

from __future__ import annotations

import re

import psycopg
from documents import ROOT, Document

from coldharbour.metrics.kpis import FORMULAS

PAGE = Document("docs/figures.md")
MIGRATION = (ROOT / "coldharbour/schema/migrations/0003_live.sql").read_text(encoding="utf-8")


def table(heading: str) -> dict[str, str]:
    """Return the first two columns of a section's table, the backticks of the first left out."""
    pairs = [tuple(row.values()) for row in PAGE.section(heading).rows]
    return {name.strip("`"): text for name, text in pairs}


def test_every_key_figure_has_the_formula_that_the_page_shows() -> None:
    assert table("Key figures") == dict(FORMULAS)


def test_every_column_that_is_explained_exists(database_url: str) -> None:
    with psycopg.connect(database_url) as conn:
        cursor = conn.execute(
            "select column_name from information_schema.columns where table_name = 'equity_full'"
            " and column_name not in ('destination', 'session_date', 'buy_volume', 'sell_volume')"
        )
        columns = {re.sub(r"_\d+$", "_W", name) for (name,) in cursor.fetchall()}

    assert set(table("Daily equity")) | {"missing_symbols"} == columns


def test_every_area_of_findings_is_explained() -> None:
    [areas] = re.findall(r"area in \(([^)]+)\)", MIGRATION)

    assert list(table("Findings")) == re.findall(r"'(\w+)'", areas)

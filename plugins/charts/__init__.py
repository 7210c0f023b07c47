"""The panel of the equity chart: what it shows at a glance, in words, and when to draw it again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from psycopg import AsyncConnection

from coldharbour.hookspecs import PanelSpec, hookimpl

from . import store

NEWEST, PAGE = 25, 250  # sessions behind the chart, and on a page of their own


async def equity(conn: AsyncConnection, slug: str) -> Mapping[str, Any]:
    """Read where the curve stands; the browser fetches its points from the API when this changed."""
    return await _read(conn, slug, NEWEST, 1, None)


async def sessions(conn: AsyncConnection, slug: str, page: int, day: date | None) -> Mapping[str, Any]:
    """Read one page of the sessions, or one session."""
    return {**await _read(conn, slug, PAGE, page, day), "page": page}


async def _read(conn: AsyncConnection, slug: str, rows: int, page: int, day: date | None) -> dict[str, Any]:
    found = await store.sessions(conn, slug, rows, rows * (page - 1), day)
    curve = await store.curve(conn, slug)
    return {"slug": slug, "curve": curve, "sessions": found, "page": 0, "rows": rows, "day": day}


@hookimpl
def register_panels() -> list[PanelSpec]:
    """Show the account's equity as a chart."""
    return [
        PanelSpec(
            key="equity", title="Equity", package=__name__, template="equity.html",
            topic="equity_channel", load=equity, place="main", rank=10,
            browse=sessions,
        )
    ]  # fmt: skip

"""The panels of trades: open positions, closed trades, and what does not add up."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from psycopg import AsyncConnection

from coldharbour.hookspecs import PanelSpec, hookimpl
from coldharbour.risk.model import Reason
from coldharbour.risk.store import audit_page, newest_decisions

from . import closed_sheet, open_sheet, store
from .live import OpenCells

CLOSED_ROWS = 300
UNSETTLED_ROWS = 20
AUDIT_ROWS = 100


async def open_trades(conn: AsyncConnection, slug: str) -> Mapping[str, Any]:
    """Read the open lots, what was decided about their stops, and their sums."""
    trades = await store.open_trades(conn, slug)
    return {
        "slug": slug,
        "columns": open_sheet.COLUMNS,
        "rows": open_sheet.open_rows(slug, trades, await newest_decisions(conn, slug)),
        "totals": open_sheet.sum_cells(open_sheet.sums(trades)),
        "orphans": sum(trade.is_orphan for trade in trades),
        "newest": max((trade.mkt_at for trade in trades if trade.mkt_at), default=None),
        "positions_at": await store.positions_at(conn, slug),
    }


async def closed_trades(conn: AsyncConnection, slug: str) -> Mapping[str, Any]:
    """Read the newest closed trades and the sums of all."""
    return await closed_page(conn, slug, 1, None)


async def closed_page(conn: AsyncConnection, slug: str, page: int, day: date | None) -> Mapping[str, Any]:
    """Read one page of the closed trades, all or those of one day, and the sums of them."""
    totals = await store.closed_totals(conn, slug, day)
    trades = await store.closed_trades(conn, slug, CLOSED_ROWS, CLOSED_ROWS * (page - 1), day)
    return {
        "slug": slug,
        "day": day,
        "columns": closed_sheet.COLUMNS,
        "rows": closed_sheet.closed_rows(slug, trades),
        "totals": totals,
        "page": page,
        "pages": -(-totals.trades // CLOSED_ROWS),
    }


async def drifts(conn: AsyncConnection, slug: str) -> Mapping[str, Any]:
    """Read where the broker's quantities and ours differ."""
    return {"slug": slug, "drifts": await store.drifts(conn, slug)}


async def unsettled(conn: AsyncConnection, slug: str) -> Mapping[str, Any]:
    """Read what the book could not use as it should."""
    return {"slug": slug, "findings": await store.unsettled(conn, slug, UNSETTLED_ROWS)}


async def audit(conn: AsyncConnection, slug: str) -> Mapping[str, Any]:
    """Read what was decided about stops, newest first."""
    entries = await audit_page(conn, slug, None, AUDIT_ROWS)
    return {"slug": slug, "entries": [(entry, open_sheet.STATES[Reason(entry.reason)]) for entry in entries]}


@hookimpl
def register_panels() -> list[PanelSpec]:
    """Show an account's trades; a panel without anything to tell hides itself."""
    return [
        PanelSpec(
            key=key,
            title=title,
            package=__name__,
            template=f"{key}.html",
            topic=topic,
            load=load,
            place="wide",
            rank=rank,
            live=live,
            browse=browse,
        )
        for key, title, topic, load, rank, live, browse in (
            ("drift", "Position drift", "pos_channel", drifts, 1, None, None),
            ("unsettled", "Unsettled", "pos_channel", unsettled, 2, None, None),
            ("open", "Open positions", "pos_channel", open_trades, 20, OpenCells, None),
            ("closed", "Closed trades", "closed_channel", closed_trades, 30, None, closed_page),
            ("audit", "Break-even decisions", "event_channel", audit, 40, None, None),
        )
    ]

"""The panels of trades: open positions, closed trades, and what does not add up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psycopg import AsyncConnection

from coldharbour.hookspecs import PanelSpec, hookimpl

from . import store

OPEN_ROWS = 200
CLOSED_ROWS = 50
UNSETTLED_ROWS = 20


async def open_trades(conn: AsyncConnection, slug: str) -> Mapping[str, Any]:
    """Read the open lots and their sums."""
    totals = await store.open_totals(conn, slug)
    return {"slug": slug, "trades": await store.open_trades(conn, slug, OPEN_ROWS), "totals": totals}


async def closed_trades(conn: AsyncConnection, slug: str) -> Mapping[str, Any]:
    """Read the newest closed trades and the sums of all."""
    totals = await store.closed_totals(conn, slug)
    return {"slug": slug, "trades": await store.closed_trades(conn, slug, CLOSED_ROWS), "totals": totals}


async def drifts(conn: AsyncConnection, slug: str) -> Mapping[str, Any]:
    """Read where the broker's quantities and ours differ."""
    return {"slug": slug, "drifts": await store.drifts(conn, slug)}


async def unsettled(conn: AsyncConnection, slug: str) -> Mapping[str, Any]:
    """Read what the book could not use as it should."""
    return {"slug": slug, "findings": await store.unsettled(conn, slug, UNSETTLED_ROWS)}


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
        )
        for key, title, topic, load, rank in (
            ("drift", "Position drift", "pos_channel", drifts, 1),
            ("unsettled", "Unsettled", "pos_channel", unsettled, 2),
            ("open", "Open positions", "pos_channel", open_trades, 20),
            ("closed", "Closed trades", "closed_channel", closed_trades, 30),
        )
    ]

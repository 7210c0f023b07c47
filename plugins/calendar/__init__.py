"""The panel of the calendar: what every day, week and month brought."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psycopg import AsyncConnection

from coldharbour.hookspecs import PanelSpec, hookimpl

from . import store
from .months import months

SHOWN = 12  # months


async def calendar(conn: AsyncConnection, slug: str) -> Mapping[str, Any]:
    """Read the results by day of the newest months."""
    return {"slug": slug, "months": months(await store.days(conn, slug, SHOWN))}


@hookimpl
def register_panels() -> list[PanelSpec]:
    """Show what was realised day by day."""
    return [
        PanelSpec(
            key="calendar", title="Realised by day", package=__name__, template="calendar.html",
            topic="closed_channel", load=calendar, place="wide", rank=40,
        )
    ]  # fmt: skip

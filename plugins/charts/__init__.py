"""The panel of the equity chart: what it shows at a glance, in words, and when to draw it again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psycopg import AsyncConnection

from coldharbour.hookspecs import PanelSpec, hookimpl

from . import store


async def equity(conn: AsyncConnection, slug: str) -> Mapping[str, Any]:
    """Read where the curve stands; the browser fetches its points from the API when this changed."""
    return {"slug": slug, "curve": await store.curve(conn, slug)}


@hookimpl
def register_panels() -> list[PanelSpec]:
    """Show the account's equity as a chart."""
    return [
        PanelSpec(
            key="equity", title="Equity", package=__name__, template="equity.html",
            topic="equity_channel", load=equity, place="main", rank=10,
        )
    ]  # fmt: skip

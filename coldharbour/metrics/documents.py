"""The document of key figures of one account, written when it changes; the rules are `kpis`'."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec

from coldharbour.db import Database
from coldharbour.metrics import store
from coldharbour.metrics.kpis import Document, kpis
from coldharbour.metrics.outcomes import ClosedFigures, OutcomeTally, lot_outcomes

LATEST: Final = "latest"
CLOSED: Final = "closed_trades"  # the part of it that takes long, with the version of the table it was made from
LIMIT_S: Final = 120.0


async def refresh_document(db: Database, slug: str, now: datetime) -> bool:
    """Make the key figures of what the tables say now; return whether anything but the time changed.

    The closed trades are read again only when they changed; everything else is a sum or a newest row.
    """
    closed, version = await _closed(db, slug)
    async with db.transaction(one_snapshot=True) as conn:
        made = kpis(
            equity=await store.equity_figures(conn, slug),
            open_lots=await store.open_figures(conn, slug),
            closed=closed,
            flows=await store.flow_sums(conn, slug),
            updated_at=now,
        )
        known = await store.document(conn, slug, LATEST)
        if version:
            await store.save_document(conn, slug, CLOSED, {"version": version, **msgspec.to_builtins(closed)}, now)
        if known is not None and _is_same(known, made):
            return False
        await store.save_document(conn, slug, LATEST, made, now)
    return True


async def _closed(db: Database, slug: str) -> tuple[ClosedFigures, str]:
    """Return what the closed trades add up to, and the table's version if that had to be worked out."""
    async with db.transaction(one_snapshot=True, timeout_s=LIMIT_S) as conn:
        version, kept = await store.closed_version(conn, slug), await store.document(conn, slug, CLOSED)
        if kept is not None and kept.pop("version") == version:
            return msgspec.convert(kept, ClosedFigures), ""
        tally = OutcomeTally()
        async for lots in store.closed_lots(conn, slug):
            tally.add(lot_outcomes(lots))
    return tally.figures(), version


def _is_same(known: dict[str, Any], made: Document) -> bool:
    return {**known, "updated_at": None} == {**made, "updated_at": None}

"""What is told of stops after the commit: on the account's channel of risk, and on that of its positions."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from coldharbour.db import Database, notify
from coldharbour.risk.store import FlaggedLot


async def tell_evaluated(db: Database, slug: str) -> None:
    """Tell that lots were evaluated: the newest decisions stand in the audit."""
    await notify(db, f"risk_channel_{slug}", '{"op":"evaluated"}')


async def tell_end(db: Database, slug: str, parent_id: str, *, has_moved: bool) -> None:
    """Tell that a move of a lot's stop came to its end."""
    await notify(
        db, f"risk_channel_{slug}", _json({"op": "moved" if has_moved else "not_moved", "parent_id": parent_id})
    )


async def tell_flags(db: Database, slug: str, lots: Iterable[FlaggedLot]) -> None:
    """Tell that open trades show another flag."""
    if notes := [_json({"op": "lot", "parent_id": lot.parent_id, "version": lot.version}) for lot in lots]:
        await notify(db, f"pos_channel_{slug}", *notes)


def _json(note: dict[str, object]) -> str:
    return msgspec.json.encode(note).decode()

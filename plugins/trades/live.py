"""The open positions between two loads: what a told price changes of a lot's cells, and of the sums below them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from coldharbour.hookspecs import Cells

from .open_sheet import OpenRow, Sums, market_cells, moment, row_id, sum_cells
from .sheet import Cell

SUMMED = ("mkt_value", "profit_loss", "profit_loss_lot")
TOTALS, AGE = "all", "age"  # the rows below the lots


class ToldLot(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a told lot that its cells are made of; the names are those of the table."""

    parent_id: str
    version: int
    side: str
    avg_fill: Decimal
    initial_stop: Decimal | None
    mkt_px: Decimal | None
    mkt_at: datetime | None
    mkt_value: Decimal | None
    profit_loss: Decimal | None
    profit_loss_lot: Decimal | None
    tp_sl_reach_pct: Decimal | None
    r_multiple: Decimal | None
    high_px: Decimal | None
    low_px: Decimal | None


class Note(msgspec.Struct, frozen=True):
    """What is told on pos_channel: a valued lot, or a change of structure."""

    row: ToldLot | None = None
    op: str = ""


decode = msgspec.json.Decoder(Note).decode


class OpenCells:
    """One account's open lots as their rows were last shown."""

    def __init__(self, slug: str) -> None:
        self._slug = slug
        self._rows: dict[str, OpenRow] = {}
        self._figures: dict[str, tuple[Decimal | None, ...]] = {}
        self._shown: dict[str, dict[str, Cell]] = {}
        self._sums = [Decimal(0)] * len(SUMMED)
        self._missing = [0] * len(SUMMED)
        self._newest: datetime | None = None

    def loaded(self, context: Mapping[str, Any]) -> frozenset[str]:
        """Take over the rows that are shown now, and return those that were shown like this before."""
        rows: list[OpenRow] = context["rows"]
        same = frozenset(row.id for row in rows if self._is_shown(row))
        self._rows = {row.trade.parent_id: row for row in rows}
        self._shown = {row.trade.parent_id: dict(row.cells) for row in rows}
        self._figures, self._newest = {}, context["newest"]
        self._sums, self._missing = [Decimal(0)] * len(SUMMED), [0] * len(SUMMED)
        for row in rows:
            self._count(row.trade.parent_id, tuple(getattr(row.trade, name) for name in SUMMED))
        return same

    def heard(self, payload: str) -> Cells | None:
        """Return the cells of a lot that a price changed, and the totals; None after a change of structure."""
        note = decode(payload)
        if note.row is None:
            return {} if note.op == "heartbeat" else None
        lot = note.row
        known = self._rows.get(lot.parent_id)
        if known is None or known.trade.version != lot.version:
            return None
        self._count(lot.parent_id, tuple(getattr(lot, name) for name in SUMMED))
        shown = self._shown[lot.parent_id]
        changed = {key: cell for key, cell in market_cells(lot).items() if shown.get(key) != cell}
        shown.update(changed)
        if lot.mkt_at is not None and (self._newest is None or lot.mkt_at > self._newest):
            self._newest = lot.mkt_at
        return {
            row_id(self._slug, lot.parent_id): changed,
            row_id(self._slug, TOTALS): sum_cells(self.sums()),
            row_id(self._slug, AGE): {"newest": Cell(moment(self._newest))},
        }

    def sums(self) -> Sums:
        """Return what the lots add up to."""
        return Sums(*(None if missing else total for total, missing in zip(self._sums, self._missing, strict=True)))

    def _is_shown(self, row: OpenRow) -> bool:
        """Say whether a row stands on the page as it was loaded."""
        lot, before = row.trade, self._rows.get(row.trade.parent_id)
        if before is None or self._shown[lot.parent_id] != row.cells:
            return False
        return (before.trade.is_old, before.trade.is_orphan) == (lot.is_old, lot.is_orphan)

    def _count(self, parent_id: str, figures: tuple[Decimal | None, ...]) -> None:
        """Replace a lot's share of the sums. Decimals add up exactly, however often."""
        before = self._figures.get(parent_id)
        self._figures[parent_id] = figures
        for place, figure in enumerate(figures):
            if before is not None:
                self._sums[place] -= before[place] or 0
                self._missing[place] -= before[place] is None
            self._sums[place] += figure or 0
            self._missing[place] += figure is None

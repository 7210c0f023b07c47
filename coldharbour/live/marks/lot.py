"""One open lot in memory and what the market makes of it: its value, its extremes, and whether it can wait."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from coldharbour.feed.model import LastPrice
from coldharbour.feed.watch import Move
from coldharbour.live.marks.model import Extremes, Mark, StoredLot
from coldharbour.live.valuation import Valuation, buy_value, days_to_expire, holding_days, value


@dataclass(frozen=True, slots=True)
class Hearing:
    """What ticks can vouch for. since: from when on none was missed, None while the stream is silent.

    through: when the newest one came, None before the first.
    """

    since: datetime | None = None
    through: datetime | None = None


class MarkedLot:
    """One lot. watched_since: from when on its ticks are counted.

    covered_since: the hearing under which its extremes have no hole left, None while they have one. written: what
    the table has of it by our own hand, None before the first time. is_news: its structure was not told yet.
    """

    __slots__ = ("covered_since", "extremes", "is_news", "last", "lot", "valuation", "watched_since", "written")

    def __init__(self, stored: StoredLot, now: datetime) -> None:
        self.lot = stored.lot
        self.extremes = _with_own_price(stored)
        self.watched_since = now
        self.covered_since: datetime | None = None
        self.is_news = True
        self.last: LastPrice | None = None
        self.valuation: Valuation | None = None
        self.written: Mark | None = None

    def restructure(self, stored: StoredLot) -> None:
        """Take over another structure. Extremes that somebody emptied in the table (after a split) begin anew."""
        if stored.extremes == Extremes() and self.written is not None:
            self.extremes, self.covered_since = _with_own_price(stored), None
        self.lot, self.is_news = stored.lot, True
        self._revalue()

    def move(self, move: Move) -> None:
        """Value it at a new price, and stretch its extremes by what was traded since it was entered."""
        self.last = move.last
        if move.since is not None and move.since >= self.lot.entry_time:
            self.stretch(move.high, move.low)
        self._revalue()

    def stretch(self, high: Decimal | None, low: Decimal | None) -> None:
        """Stretch the extremes by other bounds; None stands for no trades."""
        self.extremes = self.extremes.stretched(high, low)

    def is_due(self, threshold: Decimal) -> bool:
        """Say whether it cannot wait for the next flush. threshold: as a fraction of what was written last."""
        written, valuation, extremes = self.written, self.valuation, self.extremes
        if self.is_news or written is None or valuation is None:
            return True
        return (
            _differs(valuation.mkt_px, written.mkt_px, threshold)
            or _differs(extremes.high, written.high_px, threshold)
            or _differs(extremes.low, written.low_px, threshold)
        )

    def mark(self, hearing: Hearing) -> Mark | None:
        """Return what is to be written now, None while it has no price. Ticks vouch for what they covered."""
        valuation, last = self.valuation, self.last
        if valuation is None or last is None:
            return None
        self._vouch(hearing)
        return Mark(
            parent_id=self.lot.parent_id, version=self.lot.version, mkt_px=valuation.mkt_px, mkt_at=last.at,
            mkt_value=valuation.mkt_value, profit_loss=valuation.profit_loss,
            profit_loss_lot=valuation.profit_loss_lot, tp_sl_reach_pct=valuation.tp_sl_reach_pct,
            r_multiple=valuation.r_multiple, high_px=self.extremes.high, low_px=self.extremes.low,
            extremes_through=self.extremes.through,
        )  # fmt: skip

    def _vouch(self, hearing: Hearing) -> None:
        known = self.extremes.through
        if hearing.through is None or self.covered_since is None or self.covered_since != hearing.since:
            return
        if known is None or known < hearing.through:
            self.extremes = replace(self.extremes, through=hearing.through)

    def row(self, now: datetime) -> dict[str, Any]:
        """Return what is told of it on the channel: its structure and its value, money as text."""
        lot, valuation, last = self.lot, self.valuation, self.last
        return {
            "parent_id": lot.parent_id, "version": lot.version, "symbol": lot.symbol, "side": lot.side,
            "qty": lot.qty, "entry_qty": lot.entry_qty, "avg_fill": lot.avg_fill,
            "avg_px_symbol": lot.avg_px_symbol, "buy_value": buy_value(lot.qty, lot.avg_fill),
            "entry_time": lot.entry_time, "initial_stop": lot.initial_stop, "sl_px": lot.stop_price,
            "tp_px": lot.take_price, "expires_at": lot.expires_at, "is_orphan": lot.is_orphan,
            "unprotected_since": lot.unprotected_since, "moved_flag": lot.moved_flag,
            "holding_days": holding_days(lot.entry_time, now),
            "days_to_expire": days_to_expire(lot.expires_at, now),
            "mkt_px": valuation and valuation.mkt_px, "mkt_at": last and last.at,
            "mkt_value": valuation and valuation.mkt_value,
            "profit_loss": valuation and valuation.profit_loss,
            "profit_loss_lot": valuation and valuation.profit_loss_lot,
            "tp_sl_reach_pct": valuation and valuation.tp_sl_reach_pct,
            "r_multiple": valuation and valuation.r_multiple,
            "high_px": self.extremes.high, "low_px": self.extremes.low,
        }  # fmt: skip

    def _revalue(self) -> None:
        self.valuation = None if self.last is None else value(self.lot, self.last.price)


def _with_own_price(stored: StoredLot) -> Extremes:
    """Return the stored extremes with the entry in them: its fills were trades too."""
    return stored.extremes.stretched(stored.lot.avg_fill, stored.lot.avg_fill)


def _differs(now: Decimal | None, before: Decimal | None, threshold: Decimal) -> bool:
    if now is None or before is None:
        return now is not before
    return now != before and abs(now - before) >= threshold * before

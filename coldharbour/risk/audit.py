"""What is recorded of an evaluation: every value that led to it, in columns; decides nothing and writes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from coldharbour.risk.model import Decision, Flag, Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One evaluation of one lot at one moment; the names are those of the columns (domain.md 9).

    detail: the reason in words and numbers. extreme_px: how far the market went in the lot's favour. filled_at: the
    first entry fill. client_order_id: of the intent it led to. error: the broker's. is_action: kept for ever.
    """

    at: datetime
    parent_id: str
    symbol: str
    side: str
    moved_flag: Flag
    reason: Reason
    detail: str
    old_stop: Decimal | None
    new_stop: Decimal | None
    mkt_px: Decimal | None
    be_tp: Decimal | None
    extreme_px: Decimal | None
    filled_at: datetime | None
    qty: Decimal
    entry_px: Decimal
    stop_order_id: str
    new_order_id: str | None = None
    client_order_id: str | None = None
    error: str | None = None
    is_action: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRow:
    """A stored row: evaluations that found the same, from first_at to last_at; an action stands alone.

    mkt_px, extreme_px and detail are those of last_at.
    """

    id: int
    first_at: datetime
    last_at: datetime
    evaluations: int
    parent_id: str
    symbol: str
    side: str
    moved_flag: str
    reason: str
    detail: str
    old_stop: Decimal | None
    new_stop: Decimal | None
    mkt_px: Decimal | None
    be_tp: Decimal | None
    extreme_px: Decimal | None
    filled_at: datetime | None
    qty: Decimal
    entry_px: Decimal
    stop_order_id: str
    new_order_id: str | None
    client_order_id: str | None
    error: str | None
    is_action: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NewestDecision:
    """What the newest evaluation of a lot came to. at: when it was made; the rest is named as in `AuditRow`."""

    parent_id: str
    reason: str
    moved_flag: str
    detail: str
    new_stop: Decimal | None
    be_tp: Decimal | None
    at: datetime


def entry_of(
    decision: Decision,
    *,
    client_order_id: str | None = None,
    new_order_id: str | None = None,
    error: str | None = None,
    is_action: bool = False,
    at: datetime | None = None,
) -> AuditEntry:
    """Return what is recorded of a decision. at: when, if that is later than the market it was made for."""
    lot, market = decision.lot, decision.market
    return AuditEntry(
        at=at or market.as_of, parent_id=lot.parent_id, symbol=lot.symbol, side=lot.side,
        moved_flag=decision.flag, reason=decision.reason, detail=decision.detail, old_stop=decision.old_stop,
        new_stop=decision.new_stop, mkt_px=market.price, be_tp=decision.trigger, extreme_px=market.extreme(lot.side),
        filled_at=lot.entry_time, qty=lot.qty, entry_px=lot.entry_price, stop_order_id=lot.stop_order_id,
        new_order_id=new_order_id, client_order_id=client_order_id, error=error, is_action=is_action,
    )  # fmt: skip

"""What happened, as typed values that workers emit and observers receive; no behaviour, no I/O."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import msgspec


class Event(msgspec.Struct, frozen=True, tag_field="kind", tag=True, kw_only=True):
    """Base of all domain events. `at` is when it happened, UTC."""

    at: datetime


class FillRecorded(Event, frozen=True):
    """A fill entered the lake for the first time. qty in shares, price per share."""

    execution_id: str
    order_id: str
    symbol: str
    side: str
    qty: Decimal
    price: Decimal


class GapOpened(Event, frozen=True):
    """The order stream went blind; `reason` is one word (closed, mute, ping_timeout, restart, ...)."""

    gap_id: int
    reason: str


class GapHealed(Event, frozen=True):
    """What was missed while the stream was blind has been fetched from the broker."""

    gap_id: int
    blind_s: float
    orders: int
    fills: int


class MessageQuarantined(Event, frozen=True):
    """A message of the broker could not be read; it is kept raw."""

    source: str
    reason: str


class TradeClosed(Event, frozen=True):
    """Nothing of a lot is left. qty: shares closed in all; pnl_cash: the strategy's result; exit_type: the last one."""

    lot_id: str
    symbol: str
    side: str
    qty: Decimal
    pnl_cash: Decimal
    exit_type: str


class PositionDrift(Event, frozen=True):
    """The broker holds another quantity of a symbol than our lots; signed shares."""

    symbol: str
    our_qty: Decimal
    broker_qty: Decimal


class DriftResolved(Event, frozen=True):
    """Broker and lots hold the same of a symbol again."""

    symbol: str
    drifted_s: float


class StopMoved(Event, frozen=True):
    """A lot's stop was replaced, and the replacement read back. Prices per share."""

    lot_id: str
    symbol: str
    side: str
    old_stop: Decimal
    new_stop: Decimal
    new_order_id: str


class MovesDisarmed(Event, frozen=True):
    """Moves of stops failed too often and none is sent for a while; symbol is empty for the whole account."""

    symbol: str
    reason: str


class PositionUnprotected(Event, frozen=True):
    """Shares have no live stop. parent_id: the lot's, None for shares that none of our lots has. qty: how many.

    reason: one word of `coldharbour.risk.protection.model.Reason`. exposed_s: seconds so far.
    """

    symbol: str
    parent_id: str | None
    side: str
    qty: Decimal
    reason: str
    exposed_s: float


class PositionProtected(Event, frozen=True):
    """What was unprotected has a live stop for all its shares again, or is closed. exposed_s: seconds in all."""

    symbol: str
    parent_id: str | None
    exposed_s: float


class StopExpiring(Event, frozen=True):
    """A lot's earliest leg ends soon; told once a day. days_left: whole days."""

    symbol: str
    parent_id: str
    days_left: int
    expires_at: datetime


class LossLimitReached(Event, frozen=True):
    """A day's loss reached a limit, which is latched now. stage: warn, halt or flatten. limit: the loss that it allows.

    day_pnl, baseline: result since the previous close without cash flows, and equity then. Account currency.
    """

    stage: str
    day_pnl: Decimal
    baseline: Decimal
    limit: Decimal


class LossLimitReset(Event, frozen=True):
    """Somebody reset latched limits. stages: which, by commas. by: who."""

    stages: str
    by: str


class FlattenBegun(Event, frozen=True):
    """A limit of the day's loss has the account's positions closed, or says in a dry run which it would close.

    limit_of: the account whose limit it is, or all accounts. targets: the positions held, in words.
    """

    limit_of: str
    targets: str
    is_dry_run: bool


class FlattenBlocked(Event, frozen=True):
    """A position could not be closed, or not yet; told once. reason: why, and what is left, in words.

    symbol is empty for a flatten that does not begin although its limit was reached.
    """

    symbol: str
    reason: str


class FlattenEnded(Event, frozen=True):
    """Nothing more is closed by a flatten. outcome: done, left or dry run. detail: by symbol, what was left or done."""

    outcome: str
    detail: str


class WorkerFailed(Event, frozen=True):
    """A worker failed and will be tried again."""

    worker: str
    error: str


class WorkerParked(Event, frozen=True):
    """A worker waits for a person to act."""

    worker: str
    error: str


class WorkerGaveUp(Event, frozen=True):
    """A worker failed too often and was stopped."""

    worker: str
    error: str


class OperatorAsked(Event, frozen=True):
    """A person asked something of a worker; parameters as one line of text."""

    request_id: int
    worker: str
    action: str
    parameters: str
    asked_by: str


class OperatorAnswered(Event, frozen=True):
    """What became of a person's request: done, refused, failed, expired or lost, and why."""

    request_id: int
    worker: str
    action: str
    outcome: str
    detail: str


AnyEvent = (
    FillRecorded
    | GapOpened
    | GapHealed
    | MessageQuarantined
    | TradeClosed
    | PositionDrift
    | DriftResolved
    | StopMoved
    | MovesDisarmed
    | PositionUnprotected
    | PositionProtected
    | StopExpiring
    | LossLimitReached
    | LossLimitReset
    | FlattenBegun
    | FlattenBlocked
    | FlattenEnded
    | WorkerFailed
    | WorkerParked
    | WorkerGaveUp
    | OperatorAsked
    | OperatorAnswered
)

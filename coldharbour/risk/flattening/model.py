"""The nouns of a flatten as frozen values: the run, its targets, its requests, what the broker shows; no rule.

Shares are counted without a sign, but for `held`, which is negative for a short position. Times are aware UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from pathlib import Path

from coldharbour.broker.model import Order, Position
from coldharbour.live.model import Side
from coldharbour.risk.losses.model import Latch, Stage
from coldharbour.risk.model import BreakevenRule

ENDED = frozenset({"filled", "canceled", "expired", "replaced", "rejected"})  # an order that holds no shares any more


class TargetState(StrEnum):
    """Where a symbol stands. would_close: of a dry run. left: not flat, and nothing more is done by this run."""

    OPEN = "open"
    CLOSED = "closed"
    LEFT = "left"
    WOULD_CLOSE = "would_close"


class Kind(StrEnum):
    """What is asked of the broker."""

    CANCEL = "cancel"
    CLOSE = "close"


class RequestState(StrEnum):
    """Where a request stands, as `accounts.flatten_requests` records it.

    PLANNED: on record, not known to have been sent. ACCEPTED: the broker took it. UNKNOWN: perhaps it did. REJECTED:
    it refused, and changed nothing. NOT_SENT: nothing left. DONE, NOT_DONE: proved by what was read back.
    """

    PLANNED = "PLANNED"
    ACCEPTED = "ACCEPTED"
    REJECTED = "REJECTED"
    NOT_SENT = "NOT_SENT"
    UNKNOWN = "UNKNOWN"
    DONE = "DONE"
    NOT_DONE = "NOT_DONE"


INEFFECTIVE = frozenset({RequestState.REJECTED, RequestState.NOT_DONE})
FINAL = INEFFECTIVE | {RequestState.NOT_SENT, RequestState.DONE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How a flatten is carried out.

    is_dry_run: say what would be closed, and send nothing. kill_file: while it exists, nothing is sent. prices: what
    makes a price good. max_minute_age: of the look at the day's loss that lets it begin. alarm_after: how long a
    symbol may wait before somebody is told.
    """

    is_dry_run: bool
    kill_file: Path
    prices: BreakevenRule
    max_minute_age: timedelta
    alarm_after: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One flatten of one account, set going by one latched limit. latched_for: whose, "" for all accounts together."""

    destination: str
    latched_for: str
    session_date: date
    latched_at: datetime
    is_dry_run: bool
    begun_at: datetime
    ended_at: datetime | None = None

    def is_of(self, latch: Latch) -> bool:
        """Return whether this limit set it going."""
        return (
            latch.stage is Stage.FLATTEN
            and latch.destination == self.latched_for
            and (latch.latched_at == self.latched_at)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A symbol that was held when the run began. qty: shares then. detail: where it stands, in words."""

    symbol: str
    side: Side
    qty: Decimal
    state: TargetState = TargetState.OPEN
    detail: str = ""
    changed_at: datetime
    alarmed_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request to the broker, on record before it is sent.

    name: of an order to cancel its id; of a closing order its client_order_id, which is the same in every attempt.
    attempt: counts from 1. side, qty: of a closing order. unseen: readings since the answer that show no effect.
    """

    kind: Kind
    symbol: str
    name: str
    attempt: int
    epoch: int
    side: str = ""
    qty: Decimal | None = None
    state: RequestState = RequestState.PLANNED
    reason: str = ""
    order_id: str | None = None
    unseen: int = 0
    answered_at: datetime | None = None

    @property
    def is_final(self) -> bool:
        """Whether it is known what became of it."""
        return self.state in FINAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What the broker shows in one look.

    positions: by symbol; a symbol that is missing is flat by two answers. orders: those that hold shares or may, held
    legs among them, by id. ended: orders that were to be canceled and have ended. closings: our closing orders by
    name; None for one that the broker does not know.
    """

    positions: Mapping[str, Position]
    orders: Mapping[str, Order]
    ended: Mapping[str, Order]
    closings: Mapping[str, Order | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """All that is known of one target at one moment.

    held: shares now, below zero for a short, 0 when flat. available: of these, what no order reserves, None where the
    broker does not say. orders: of the symbol, live, without the closing one. closing:
    the closing order as the broker shows it, None if it knows none. stop_move: the stop move of the symbol whose
    outcome is not known, "" without one. price_problem: why nothing may be decided by its price, None if it is good.
    """

    target: Target
    held: Decimal
    available: Decimal | None
    orders: tuple[Order, ...]
    closing: Order | None
    requests: tuple[Request, ...]
    stop_move: str
    price_problem: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What is known of the account besides its symbols.

    stands: whether the limit is still latched. closes_in_s: seconds to the end of the limit's session, 0 outside it.
    kept_back: why nothing may be sent although it could: not armed, or the kill file; "" otherwise.
    """

    now: datetime
    stands: bool
    closes_in_s: float
    kept_back: str = ""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Ask for the cancel of an order."""

    symbol: str
    order_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Close:
    """Send the one closing order. side: buy or sell."""

    symbol: str
    side: str
    qty: Decimal
    reason: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing now."""

    symbol: str
    reason: str


@dataclass(frozen=True, slots=True)
class Finish:
    """Nothing more is to be done about a symbol."""

    symbol: str
    state: TargetState
    reason: str


Step = Cancel | Close | Wait | Finish

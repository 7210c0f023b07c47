"""The nouns of break-even as frozen values: a lot and its stop, a market, a rule, a decision; judges none of them.

Prices are per share; times are aware UTC. The one thing a value here refuses is to be a move that loosens a stop.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Self

from coldharbour.live.model import ZERO, Side
from coldharbour.risk.grid import is_on_grid, is_price

if TYPE_CHECKING:
    from coldharbour.broker.model import Order


RULE_NUMBERS = ("trigger_r", "min_gap", "max_silence_s", "max_price_age_s", "max_quiet_s", "max_jump_pct")


class Flag(StrEnum):
    """What the audit shows of an evaluation: moved, already there, or nothing done (domain.md 9)."""

    OK = "OK"
    ALREADY = "Already"
    NOTHING = "—"


class Reason(StrEnum):
    """Why a decision is what it is: the table of domain.md 9, dry run, and lots to which the table cannot apply.

    unusable_lot: its prices are no prices, or no stop above zero exists. trailing_stop: the broker moves it.
    no_trigger: neither an initial stop nor a target says when to move. foreign_stop: the stop is not the lot's own.
    What keeps a decided move back: unsettled (an earlier move's outcome is not known), perhaps_halted (the symbol does
    not trade), corporate_action (shares of the symbol change), move_too_wide, symbol_disarmed, account_disarmed (moves
    failed too often), abandoned (the last look found an obstacle), no_answer (the broker did not let us look),
    flattening (the position is being closed). What became of one: planned, rejected, not_moved, moved. Of a closing
    that was planned: flattened, not_flattened.
    """

    AT_BREAK_EVEN = "at_break_even"
    UNUSABLE_LOT = "unusable_lot"
    TRAILING_STOP = "trailing_stop"
    NO_PRICE = "no_price"
    CROSSED_ENTRY = "crossed_entry"
    NO_TRIGGER = "no_trigger"
    NOT_ARMED = "not_armed"
    FOREIGN_STOP = "foreign_stop"
    DRY_RUN = "dry_run"
    UNSETTLED = "unsettled"
    PERHAPS_HALTED = "perhaps_halted"
    CORPORATE_ACTION = "corporate_action"
    MOVE_TOO_WIDE = "move_too_wide"
    SYMBOL_DISARMED = "symbol_disarmed"
    ACCOUNT_DISARMED = "account_disarmed"
    ABANDONED = "abandoned"
    NO_ANSWER = "no_answer"
    FLATTENING = "flattening"
    PLANNED = "planned"
    REJECTED = "rejected"
    NOT_MOVED = "not_moved"
    MOVED = "moved"
    FLATTENED = "flattened"
    NOT_FLATTENED = "not_flattened"


class StopKind(StrEnum):
    """The order types that protect a position, by the broker's names."""

    STOP = "stop"
    STOP_LIMIT = "stop_limit"
    TRAILING_STOP = "trailing_stop"


class LoosensStop(ValueError):
    """A replacement that would not protect strictly more than the stop that stands; nobody may ask for one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtectedLot:
    """An open lot that a live stop protects.

    qty: shares that remain, negative for a short lot. entry_price: quantity-weighted price of its entry fills.
    entry_time: its first entry fill. stop_order_id, stop_kind, stop_price, limit_price: of the stop leg's latest
    successor; limit_price of a stop_limit alone. initial_stop: the stop leg's price when the parent was created.
    target: the trigger given by `alpaca_breakouts`, None without a row there.
    """

    parent_id: str
    symbol: str
    side: Side
    qty: Decimal
    entry_price: Decimal
    stop_order_id: str
    stop_price: Decimal | None
    stop_kind: StopKind = StopKind.STOP
    limit_price: Decimal | None = None
    initial_stop: Decimal | None = None
    target: Decimal | None = None
    entry_time: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketView:
    """What is known of a symbol's market at one moment.

    as_of: that moment. price: the market price, and traded_at: when it was made. last_trade: the trade that price is
    compared with. confirmed: whether a second source shows such a price. feed_silent_s: seconds since the feed
    brought any price of any symbol, None if it never did. high, low: extremes since the lot's first entry fill,
    eligible prints of regular hours alone, None if none is known.
    """

    as_of: datetime
    feed_silent_s: float | None
    price: Decimal | None = None
    traded_at: datetime | None = None
    last_trade: Decimal | None = None
    confirmed: bool = False
    high: Decimal | None = None
    low: Decimal | None = None

    @property
    def price_age_s(self) -> float | None:
        """Seconds since the symbol's last trade, negative for a stamp in the future, None without one."""
        return None if self.traded_at is None else (self.as_of - self.traded_at).total_seconds()

    def extreme(self, side: Side) -> Decimal | None:
        """Return how far the market went in a lot's favour: the high for a long lot, the low for a short one."""
        return self.high if side is Side.LONG else self.low


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakevenRule:
    """How break-even is decided (domain.md 9).

    trigger_r: profit in R at which the stop moves. min_gap: money per share between entry and stop, and between
    market and stop. max_silence_s: of the whole feed. max_price_age_s: of the symbol's last trade, to decide by it, and
    max_quiet_s to act on that. max_jump_pct: percent of the last trade by which an unconfirmed price may differ from
    it. dry_run: evaluate, and send nothing.
    Raises ValueError for a number that is not finite and positive; min_gap alone may be 0.
    """

    trigger_r: Decimal = Decimal(2)
    min_gap: Decimal = Decimal("0.01")
    max_silence_s: float = 15
    max_price_age_s: float = 900
    max_quiet_s: float = 120
    max_jump_pct: Decimal = Decimal(10)
    dry_run: bool = False

    def __post_init__(self) -> None:
        numbers = {name: Decimal(getattr(self, name)) for name in RULE_NUMBERS}
        for name, number in numbers.items():
            if not number.is_finite() or number < 0 or (number == 0 and name != "min_gap"):
                raise ValueError(f"{name} must be a finite number above 0 (min_gap also 0), not {number}")


@dataclass(frozen=True, slots=True, kw_only=True)
class StopMove:
    """A stop order and the prices that shall replace its own. Such a value protects strictly more than the old stop.

    order_id: the order to replace. old_limit, limit_price: of a stop_limit, else None. Raises LoosensStop for a stop
    that is not tighter, or cannot be compared; ValueError for prices off the grid. Source: domain.md 9.
    """

    order_id: str
    side: Side
    old_stop: Decimal
    stop_price: Decimal
    old_limit: Decimal | None = None
    limit_price: Decimal | None = None

    def __post_init__(self) -> None:
        if not is_price(self.old_stop) or not is_price(self.stop_price):
            raise LoosensStop(f"no stop can be compared with another: {self.old_stop} -> {self.stop_price}")
        if self.side.sign * (self.stop_price - self.old_stop) <= 0:
            raise LoosensStop(
                f"the stop of a {self.side.lower()} lot never moves away from the market: "
                f"{self.old_stop} -> {self.stop_price} is refused"
            )
        if is_price(self.old_limit) is not (self.limit_price is not None):
            raise ValueError(f"a stop keeps its kind: limit {self.old_limit} -> {self.limit_price}")
        if not is_on_grid(self.stop_price) or not (self.limit_price is None or is_on_grid(self.limit_price)):
            raise ValueError(f"off the price grid: stop {self.stop_price}, limit {self.limit_price}")

    @property
    def stop_kind(self) -> StopKind:
        """What kind of order is replaced, and stays so."""
        return StopKind.STOP if self.limit_price is None else StopKind.STOP_LIMIT


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do with a lot's stop, and every value that led to it.

    flag: OK is a proposal here; the audit shows it once the broker confirmed the move. detail: the reason in words
    and numbers. action: None unless something is to be sent. legal: the break-even stop, None if there is none.
    trigger: where the move is armed, None if nothing says where. new_stop: what the stop becomes, or, in a dry run,
    would become.
    """

    lot: ProtectedLot
    market: MarketView
    rule: BreakevenRule
    flag: Flag
    reason: Reason
    detail: str
    legal: Decimal | None
    trigger: Decimal | None
    new_stop: Decimal | None = None
    action: StopMove | None = None

    @property
    def old_stop(self) -> Decimal | None:
        """The stop that stands."""
        return self.lot.stop_price


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """A stop order as the broker showed it at one moment; stop_type is the broker's own word."""

    id: str
    status: str
    stop_type: str = StopKind.STOP
    stop_price: Decimal | None = None
    limit_price: Decimal | None = None
    filled_qty: Decimal = ZERO
    client_order_id: str = ""
    replaces: str | None = None
    replaced_by: str | None = None

    @classmethod
    def of(cls, order: Order) -> Self:
        """Return what matters of the broker's order."""
        return cls(
            id=order.id,
            status=order.status,
            stop_type=order.type,
            stop_price=order.stop_price,
            limit_price=order.limit_price,
            filled_qty=order.filled_qty or ZERO,
            client_order_id=order.client_order_id,
            replaces=order.replaces,
            replaced_by=order.replaced_by,
        )

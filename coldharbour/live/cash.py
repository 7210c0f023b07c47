"""What one account activity does to cash and inventory, when it counts, and what kind of flow it is; never a sum."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Final, NamedTuple, Protocol

from coldharbour.activity_types import CORPORATE_ACTIONS, FILL, PERFORMANCE, TRANSFERS
from coldharbour.broker.translate import to_utc
from coldharbour.lake.model import SELLS
from coldharbour.live.model import ZERO, MoveKind
from coldharbour.sessions import NEW_YORK

CANCELED: Final = "canceled"
FEES: Final = frozenset({"FEE", "CFEE", "PTC", "PTR", "DIVFEE"})


class Activity(Protocol):
    """What these rules read of an activity; the broker's own value and `AccountActivity` both have it.

    net_amount: signed account currency. qty: shares; signed unless it is a fill, whose `side` gives the sign.
    symbol, side, status: "" where there is none. created_at: when the broker booked it, UTC.
    """

    @property
    def id(self) -> str: ...
    @property
    def activity_type(self) -> str: ...
    @property
    def transaction_time(self) -> datetime | None: ...
    @property
    def date(self) -> date | None: ...
    @property
    def symbol(self) -> str: ...
    @property
    def side(self) -> str: ...
    @property
    def qty(self) -> Decimal | None: ...
    @property
    def price(self) -> Decimal | None: ...
    @property
    def net_amount(self) -> Decimal | None: ...
    @property
    def status(self) -> str: ...
    @property
    def created_at(self) -> datetime | None: ...


class AccountActivity(NamedTuple):
    """An activity as the lake has it; see `Activity`."""

    id: str
    activity_type: str
    transaction_time: datetime | None = None
    date: date | None = None
    symbol: str = ""
    side: str = ""
    qty: Decimal | None = None
    price: Decimal | None = None
    net_amount: Decimal | None = None
    status: str = ""
    description: str = ""
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class CashFlow:
    """An activity that is no fill, as the account's owner reads it.

    ts: UTC, midnight in New York where only the day is known. flow_date: the New York day on which it counts.
    amount: signed account currency. is_external: it moves the balance and never the return.
    """

    id: str
    ts: datetime
    flow_date: date
    amount: Decimal
    type: str
    is_external: bool
    symbol: str | None
    description: str


def is_canceled(activity: Activity) -> bool:
    """Return whether the broker took the activity back; then it does not count. Source: domain.md 6."""
    return activity.status == CANCELED


def day_of(activity: Activity) -> date | None:
    """Return the New York day on which an activity counts: its `date`, a fill's by its time; None if it has neither.

    Source: domain.md 6.
    """
    if activity.date is not None:
        return activity.date
    at = activity.transaction_time
    return None if at is None else at.astimezone(NEW_YORK).date()


def booked_at(text: str | None) -> datetime | None:
    """Return when the broker says that it booked an activity, UTC; None where it says nothing that can be read."""
    try:
        return None if text is None else to_utc(text)
    except ValueError:
        return None


def moment_of(activity: Activity) -> datetime | None:
    """Return when an activity counts within its day, UTC; None where only the day is known.

    That is its time, else when the broker booked it, if it did so on that New York day: what is booked later still
    counts on its day, and no moment of that day saw it. Source: domain.md 6, 7 Intraday.
    """
    if activity.transaction_time is not None or activity.created_at is None:
        return activity.transaction_time
    return activity.created_at if activity.created_at.astimezone(NEW_YORK).date() == activity.date else None


def problem_of(activity: Activity) -> str | None:
    """Return why an activity cannot be counted, None if it can; nothing that is missing is ever guessed."""
    if activity.date is None and activity.transaction_time is None:
        return "it has neither a date nor a time"
    if activity.activity_type == FILL:
        is_whole = activity.symbol and activity.side and activity.qty is not None and activity.price is not None
        return None if is_whole else "a fill without symbol, side, quantity or price"
    if move_kind(activity.activity_type) is None:
        return None if activity.net_amount is not None else "it has no amount"
    return None if activity.net_amount or (activity.symbol and activity.qty) else "shares without symbol or quantity"


def counted_day(activity: Activity) -> date | None:
    """Return the New York day on which an activity counts; None if it does not: canceled, or `problem_of` refuses it.

    Source: domain.md 6.
    """
    return None if is_canceled(activity) or problem_of(activity) else day_of(activity)


def move_kind(activity_type: str) -> MoveKind | None:
    """Return how shares move by activities of a type, None for fills and for all that moves cash only.

    Every corporate action counts as a split: the shares change, and with them nobody's money. Source: domain.md 6.
    """
    if activity_type in TRANSFERS:
        return MoveKind.TRANSFER
    return MoveKind.SPLIT if activity_type in CORPORATE_ACTIONS else None


def is_external(activity_type: str, performance: Set[str] = PERFORMANCE) -> bool:
    """Return whether the cash of a type moves the balance and never the return.

    performance: the types that change profit. Fills exchange cash for shares, and the cash of a corporate action
    replaces shares: neither is external. Source: domain.md 6.
    """
    return activity_type not in performance and activity_type != FILL and activity_type not in CORPORATE_ACTIONS


def cash_effect(activity: Activity) -> Decimal:
    """Return what an activity adds to the cash, in account currency; 0 where it says nothing.

    A fill without an amount costs `qty*price`. Source: domain.md 2, 6.
    """
    if activity.net_amount is not None:
        return activity.net_amount
    if activity.activity_type != FILL or activity.price is None:
        return ZERO
    return -share_effect(activity) * activity.price


def share_effect(activity: Activity) -> Decimal:
    """Return the shares of its symbol that an activity adds to the inventory, negative for those it takes away.

    The quantity of a dividend or a fee only says what it was paid for. Source: domain.md 6.
    """
    qty = activity.qty
    if qty is None:
        return ZERO
    if activity.activity_type == FILL:
        return -qty if activity.side in SELLS else qty
    return ZERO if move_kind(activity.activity_type) is None else qty


def cash_flow(activity: AccountActivity, performance: Set[str] = PERFORMANCE) -> CashFlow:
    """Return the cash flow of an activity that is no fill. Raises ValueError for one that `problem_of` refuses.

    Source: domain.md 6.
    """
    day, problem = day_of(activity), problem_of(activity)
    if day is None or problem:
        raise ValueError(f"activity {activity.id} cannot be counted: {problem}")
    return CashFlow(
        id=activity.id,
        ts=activity.transaction_time or datetime.combine(day, time(), NEW_YORK).astimezone(UTC),
        flow_date=day,
        amount=cash_effect(activity),
        type=activity.activity_type,
        is_external=is_external(activity.activity_type, performance),
        symbol=activity.symbol or None,
        description=activity.description,
    )


def is_fee(activity_type: str) -> bool:
    """Return whether a type belongs to the key figure `total_fees`. Source: domain.md 8."""
    return activity_type in FEES


def is_dividend(activity_type: str) -> bool:
    """Return whether a type belongs to `net_dividends`: the DIV types that are no fees. Source: domain.md 8."""
    return activity_type.startswith("DIV") and activity_type not in FEES


def is_interest(activity_type: str) -> bool:
    """Return whether a type belongs to `net_interest`. Source: domain.md 8."""
    return activity_type.startswith("INT")

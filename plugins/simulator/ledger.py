"""Cash, positions and activities of one account: owns what happened; never decides that it happens."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal

from .activities import MOVES, SPLIT, TRADE, Activity
from .digits import ZERO
from .index import SortedIndex
from .refusals import invalid
from .stamps import HOUR, activity_prefix, nanoseconds, new_york_day, new_york_ns

KNOWN_TYPES = frozenset(
    (
        TRADE,
        *("TRANS", "MISC", "ACATC", "ACATS", "CFEE", "CGD", "CIL", "CSD", "CSW", "FEE", "PTC", "PTR"),
        *("DIV", "DIVCGL", "DIVCGS", "DIVFEE", "DIVFT", "DIVNRA", "DIVROC", "DIVTW", "DIVTXEX", "DIVWH"),
        *("INT", "INTNRA", "INTPNL", "INTTW", "JNL", "JNLC", "JNLS", "MA", "MEM", "NC", "OCT", "OPASN"),
        *("OPCA", "OPCSH", "OPEXC", "OPEXP", "OPTRD", "REORG", "SC", "SPIN", "SPLIT", "SSO", "SSP", "SWP"),
        *("EXTRD", "FOPT", "FXTRD", "VOF", "WH"),
    )
)
PAGE_MAX = 100
LATEST_BOOKING = timedelta(days=40)  # how far a cash activity's date may lie before its booking


@dataclass(slots=True)
class Position:
    """An open position. qty: signed shares. average: currency per share, moved by adding only."""

    qty: Decimal
    average: Decimal


@dataclass(frozen=True, slots=True)
class DayEnd:
    """What an account held when a New York day ended. quantities: signed shares by symbol."""

    day: date
    cash: Decimal
    quantities: dict[str, Decimal]


class Ledger:
    """Activities in the order they happened, and the cash and positions that follow from them."""

    def __init__(self) -> None:
        self.cash = ZERO
        self.positions: dict[str, Position] = {}
        self.count = 0
        self.fill_count = 0
        self.unwritten: list[Activity] = []
        self.day_ends: list[DayEnd] = []
        self._day: date | None = None
        self._by_type: defaultdict[str, SortedIndex[Activity]] = defaultdict(SortedIndex)
        self._sales: dict[date, tuple[Decimal, Decimal]] = {}
        self._late: list[tuple[int, str, Activity]] = []

    def add(self, activity: Activity, *, now: int | None = None) -> None:
        """Book an activity: move cash and position, and show it in listings once it is visible.

        now: the present moment; None (history, a restart) shows it at once.
        """
        self._end_day(new_york_day(activity.at))
        self.cash += activity.net_amount
        self.count += 1
        self.unwritten.append(activity)
        if activity.type == TRADE:
            self.fill_count += 1
            self._trade(activity)
        elif activity.type in MOVES:
            self._move(activity)
        if now is not None and activity.visible > now:
            heapq.heappush(self._late, (activity.visible, activity.id, activity))
        else:
            self._show(activity)

    def quantity(self, symbol: str) -> Decimal:
        """Return the signed shares held."""
        position = self.positions.get(symbol)
        return ZERO if position is None else position.qty

    def day_end(self, day: date) -> DayEnd:
        """Return the account at the end of a day, today's included."""
        if self._day is not None and self._day <= day:
            return self._now(self._day)
        found = [end for end in self.day_ends if end.day <= day]
        return found[-1] if found else DayEnd(day, ZERO, {})

    def take_sales(self, day: date) -> tuple[Decimal, Decimal]:
        """Return the proceeds and shares sold up to a day that nobody has taken yet."""
        taken = [self._sales.pop(sold) for sold in sorted(self._sales) if sold <= day]
        return sum((money for money, _ in taken), ZERO), sum((shares for _, shares in taken), ZERO)

    def since(self, day: date) -> list[Activity]:
        """Return the activities booked on a New York day or later, in the order they happened."""
        start = new_york_ns(day, time.min)
        found = [activity for activity in self.everything() if activity.at >= start]
        return sorted(found, key=lambda activity: (activity.at, activity.id))

    def everything(self) -> Iterator[Activity]:
        """Yield every activity, the late ones too, in no order."""
        for index in self._by_type.values():
            yield from index.walk()
        yield from (activity for _, _, activity in self._late)

    def listing(
        self,
        *,
        now: int,
        types: Sequence[str],
        category: str | None,
        on: date | None,
        after: datetime | None,
        until: datetime | None,
        direction: str,
        page_size: int,
        page_token: str | None,
        order_id: str | None,
    ) -> list[Activity]:
        """Return a page of activities as GET /v2/account/activities does, sorted by id.

        Raises Refused for a parameter Alpaca would refuse.
        """
        self._show_due(now)
        descending = direction == "desc"
        rows = heapq.merge(
            *(
                self._window(kind, after, until, page_token, descending=descending)
                for kind in self._chosen_types(types, category, direction, page_size)
            ),
            key=lambda activity: activity.id,
            reverse=descending,
        )
        page: list[Activity] = []
        for activity in rows:
            if order_id is not None and activity.order_id != order_id:
                continue
            if _within(activity, on, after, until):
                page.append(activity)
                if len(page) >= min(page_size, PAGE_MAX):
                    break
        return page

    def _chosen_types(self, types: Sequence[str], category: str | None, direction: str, page_size: int) -> list[str]:
        unknown = sorted(set(types) - KNOWN_TYPES)
        if unknown:
            raise invalid(f"invalid activity type: {unknown[0]}")
        if types and category:
            raise invalid("only one of activity_types and category is accepted")
        if category not in {None, "trade_activity", "non_trade_activity"}:
            raise invalid(f"invalid category: {category}")
        if direction not in {"asc", "desc"} or page_size < 1:
            raise invalid("invalid direction or page_size")
        if category is not None:
            wants_trades = category == "trade_activity"
            return [kind for kind in self._by_type if (kind == TRADE) is wants_trades]
        return [kind for kind in self._by_type if not types or kind in types]

    def _window(
        self,
        kind: str,
        after: datetime | None,
        until: datetime | None,
        page_token: str | None,
        *,
        descending: bool,
    ) -> Iterator[Activity]:
        above = None if after is None else (_earliest_id(kind, nanoseconds(after)), -1)
        below = None if until is None else (_latest_id(nanoseconds(until)), -1)
        if page_token is not None and descending:
            below = min(below or (page_token, 0), (page_token, 0))
        elif page_token is not None:
            above = max(above or (page_token, 0), (page_token, 0))
        return self._by_type[kind].walk(above=above, below=below, descending=descending)

    def _show(self, activity: Activity) -> None:
        self._by_type[activity.type].add(activity.id, 0, activity)

    def _show_due(self, now: int) -> None:
        while self._late and self._late[0][0] <= now:
            self._show(heapq.heappop(self._late)[2])

    def _trade(self, fill: Activity) -> None:
        if fill.signed_qty < 0 and self._day is not None:
            money, shares = self._sales.get(self._day, (ZERO, ZERO))
            self._sales[self._day] = (money + fill.net_amount, shares - fill.signed_qty)
        self._change(fill.symbol or "", fill.signed_qty, fill.price or ZERO)

    def _move(self, move: Activity) -> None:
        held = self.positions.get(move.symbol or "")
        if move.type != SPLIT:
            self._change(move.symbol or "", move.signed_qty, move.price or ZERO)
        elif held is not None:  # other shares for the same money
            held.average *= held.qty / (held.qty + move.signed_qty)
            held.qty += move.signed_qty

    def _change(self, symbol: str, change: Decimal, price: Decimal) -> None:
        held = self.positions.get(symbol)
        if held is None:
            self.positions[symbol] = Position(change, price)
            return
        qty = held.qty + change
        if not qty:
            del self.positions[symbol]
            return
        if (held.qty > 0) == (change > 0):
            held.average = (held.qty * held.average + change * price) / qty
        elif (held.qty > 0) != (qty > 0):
            held.average = price
        held.qty = qty

    def _end_day(self, day: date) -> None:
        if self._day is not None and day > self._day:
            self.day_ends.append(self._now(self._day))
        self._day = max(day, self._day or day)

    def _now(self, day: date) -> DayEnd:
        quantities = {symbol: position.qty for symbol, position in self.positions.items()}
        return DayEnd(day, self.cash, quantities)


def _earliest_id(kind: str, after: int) -> str:
    """Return the smallest id an activity later than this moment can have.

    The following full hour counts too: in autumn New York's clock may fall back there.
    """
    if kind != TRADE:
        after -= LATEST_BOOKING // timedelta(microseconds=1) * 1000
    return min(activity_prefix(after), activity_prefix((after // HOUR + 1) * HOUR))


def _latest_id(until: int) -> str:
    """Return what sorts behind the ids of all activities before this moment, in the autumn night too."""
    return max(activity_prefix(until), activity_prefix(until // HOUR * HOUR - 1)) + "~"


def _within(activity: Activity, on: date | None, after: datetime | None, until: datetime | None) -> bool:
    if on is not None and new_york_day(activity.at) != on:
        return False
    if after is not None and activity.at <= nanoseconds(after):
        return False
    return until is None or activity.at < nanoseconds(until)

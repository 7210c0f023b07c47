"""What is really so, as counts and checksums: owns the canonical lines that the product is compared by.

A line is fields joined by `|`; decimals without trailing zeros and exponent, empty for null. The checksum of
a set of lines is the MD5 of the lines sorted as text and joined by newlines.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal

from .activities import Activity
from .blotter import Blotter
from .digits import plain
from .orders import OPEN, STOPS, Order

JSON = dict[str, object]


def order_line(order: Order) -> str:
    """Return `id|status|filled_qty|filled_avg_price|limit_price|stop_price|qty|replaces|replaced_by`."""
    numbers = (order.filled_avg_price, order.limit_price, order.stop_price, order.qty)
    return "|".join(
        (
            order.id,
            order.status,
            plain(order.filled_qty),
            *map(_number, numbers),
            order.replaces or "",
            order.replaced_by or "",
        )
    )


def activity_line(activity: Activity) -> str:
    """Return `id|activity_type|qty|price|net_amount|order_id|side`.

    A fill's net_amount is -qty*price for a buy and +qty*price for a sell.
    """
    return "|".join(
        (
            activity.id,
            activity.type,
            _number(activity.qty),
            _number(activity.price),
            plain(activity.net_amount),
            activity.order_id or "",
            activity.side or "",
        )
    )


def checksum(lines: Iterable[str]) -> str:
    """Return the MD5, in hexadecimal, of the sorted lines joined by newlines."""
    return hashlib.md5("\n".join(sorted(lines)).encode(), usedforsecurity=False).hexdigest()


@dataclass(slots=True)
class ReplaceJudge:
    """Judges every stop price that a client asked for, at the moment it asked.

    counts: how often each verdict was given. wrong: every replace that was not `tightened` or `unchanged`.
    """

    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[JSON] = field(default_factory=list)

    def judge(self, old: Order, new: Order, market_price: Decimal, at: str, *, is_open: bool) -> None:
        """Record whether a replaced stop was tightened, and on the right side of the market, in session."""
        if old.type not in STOPS or old.stop_price is None or new.stop_price is None:
            return
        verdict = _verdict(new.sign, old.stop_price, new.stop_price, market_price, is_open=is_open)
        self.counts[verdict] += 1
        if verdict not in {"tightened", "unchanged"}:
            self.wrong.append(
                {
                    "at": at,
                    "verdict": verdict,
                    "order_id": old.id,
                    "replaced_by": new.id,
                    "symbol": old.symbol,
                    "side": old.side,
                    "old_stop": plain(old.stop_price),
                    "new_stop": plain(new.stop_price),
                    "market_price": plain(market_price),
                }
            )


def truth_of(blotter: Blotter, replaces: ReplaceJudge) -> JSON:
    """Return counts, checksums and figures to compare a copy of an account with."""
    book, ledger = blotter.book, blotter.ledger
    return {
        "orders": len(book),
        "activities": ledger.count,
        "fills": ledger.fill_count,
        "orders_md5": checksum(map(order_line, book.by_id.values())),
        "activities_md5": checksum(map(activity_line, ledger.everything())),
        "cash": plain(ledger.cash),
        "positions": {symbol: plain(held.qty) for symbol, held in sorted(ledger.positions.items())},
        "open_orders": sum(order.status in OPEN for order in book.live_orders()),
        "held_orders": sum(order.status == "held" for order in book.live_orders()),
        "events": blotter.event_count,
        "replaces": {"verdicts": dict(replaces.counts), "wrong": replaces.wrong},
    }


def _verdict(sign: int, old_stop: Decimal, new_stop: Decimal, market_price: Decimal, *, is_open: bool) -> str:
    if not is_open:
        return "outside_session"
    if sign * (market_price - new_stop) >= 0:
        return "wrong_side"
    if sign * (new_stop - old_stop) > 0:
        return "loosened"
    return "unchanged" if new_stop == old_stop else "tightened"


def _number(value: Decimal | None) -> str:
    return "" if value is None else plain(value)

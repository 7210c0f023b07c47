"""What an account had at each minute: owns the record of the newest days; values nothing itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from .digits import cents, plain
from .stamps import MINUTE, rfc3339

JSON = dict[str, object]
KEPT = 3 * 24 * 60


@dataclass(frozen=True, slots=True)
class Holdings:
    """Cash and equity in currency, unrounded, and signed shares by symbol."""

    equity: Decimal
    cash: Decimal
    quantities: dict[str, Decimal]


class Minutes:
    """The account as it was at every full minute (ns) that a step of the broker crossed or hit."""

    def __init__(self, holdings: Callable[[], Holdings]) -> None:
        self._holdings = holdings
        self._rows: dict[int, Holdings] = {}
        self._newest = 0

    def __getitem__(self, minute: int) -> Holdings:
        """Return the account at a minute. Raises KeyError for one that no step crossed, or that is too old."""
        return self._rows[minute]

    def begin_step(self, now: int) -> None:
        """Note, before anything happens, what stood when the newest minute began."""
        minute = now - now % MINUTE
        if minute > self._newest:
            self._newest = minute
            self._rows[minute] = self._holdings()
            if len(self._rows) > KEPT:
                del self._rows[next(iter(self._rows))]

    def end_step(self, now: int) -> None:
        """Note what a step did at the full minute itself: it belongs to that minute."""
        if now == self._newest:
            self._rows[now] = self._holdings()

    def listing(self) -> list[JSON]:
        """Return every minute's row, oldest first; money in whole cents."""
        return [
            {
                "at": rfc3339(minute),
                "equity": plain(cents(row.equity)),
                "cash": plain(cents(row.cash)),
                "positions": {symbol: plain(qty) for symbol, qty in sorted(row.quantities.items())},
            }
            for minute, row in self._rows.items()
        ]

"""What an account had when each minute ended: owns the record of the newest days; values nothing itself."""

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
    """The account as it was when each minute ended; a minute is known by its start, in nanoseconds."""

    def __init__(self, holdings: Callable[[], Holdings]) -> None:
        self._holdings = holdings
        self._rows: dict[int, Holdings] = {}
        self._running = 0

    def __getitem__(self, minute: int) -> Holdings:
        """Return the account at a minute's end. Raises KeyError for one without a step, or that is too old."""
        return self._rows[minute]

    def begin_step(self, now: int) -> None:
        """Note, before anything happens now, what there was when the last minute in which something did ended."""
        minute = now - now % MINUTE
        if minute > self._running:
            if self._running:
                self._rows[self._running] = self._holdings()
            self._running = minute
            if len(self._rows) > KEPT:
                del self._rows[next(iter(self._rows))]

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

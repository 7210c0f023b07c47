"""Triggers that another program worked out, in the optional table `alpaca_breakouts`; never needed.

Source: domain.md 9.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal

import psycopg
import structlog

from coldharbour.connect import one_line
from coldharbour.db import Database
from coldharbour.errors import Transient
from coldharbour.risk.grid import plain
from coldharbour.risk.lots import store

BAR = timedelta(minutes=30)

log = structlog.get_logger(__name__)


def bar_before(entry_time: datetime) -> datetime:
    """Return the begin of the last whole half hour before an entry. Source: domain.md 9.

    >>> from datetime import UTC
    >>> [f"{bar_before(datetime(2026, 10, 8, *at, tzinfo=UTC)):%H:%M}" for at in ((18, 30, 35), (18, 5, 12))]
    ['18:00', '17:30']
    """
    into = timedelta(minutes=entry_time.minute % 30, seconds=entry_time.second, microseconds=entry_time.microsecond)
    return entry_time - into - BAR


class Breakouts:
    """Looks triggers up. market_db: where the table stands, if it does anywhere. trigger_r: which of its columns."""

    def __init__(self, market_db: Database, trigger_r: Decimal) -> None:
        self._market_db, self._column = market_db, f"takeprofit_{plain(trigger_r)}_1_price"
        self._found: dict[str, Decimal] = {}
        self._is_silent = False

    async def targets(self, entries: Sequence[tuple[str, str, datetime]]) -> dict[str, Decimal]:
        """Return the triggers of lots that have one, by their key. entries: (key, symbol, first entry fill) of all.

        What is wrong with the table is logged once.
        """
        keys = {key for key, _, _ in entries}
        self._found = {key: target for key, target in self._found.items() if key in keys}
        if wanted := [entry for entry in entries if entry[0] not in self._found]:
            bars = [(symbol, bar_before(entry_time)) for _, symbol, entry_time in wanted]
            try:
                async with self._market_db.transaction() as conn:
                    prices = await store.breakout_targets(conn, self._column, bars)
            except (Transient, psycopg.Error) as error:  # whatever is wrong with a table that need not be there
                self._note(error)
                return self._found
            self._found |= {key: price for (key, _, _), price in zip(wanted, prices, strict=True) if price is not None}
        return self._found

    def _note(self, error: Exception) -> None:
        if not self._is_silent:
            is_missing = isinstance(error, psycopg.errors.UndefinedTable)
            reason = "there is no table public.alpaca_breakouts" if is_missing else one_line(error)
            log.info("breakouts.left_out", column=self._column, reason=reason)
        self._is_silent = True

"""Where the broker's quantities and ours differ: a pure comparison; corrects nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from coldharbour.live.model import ZERO, Fill

CLOCKS_APART = timedelta(seconds=2)  # what our clock and the broker's may differ by


@dataclass(frozen=True, slots=True)
class Drift:
    """A symbol of which the broker and our lots do not hold the same; signed shares, average cost per share."""

    symbol: str
    our_qty: Decimal
    broker_qty: Decimal
    our_avg: Decimal | None = None
    broker_avg: Decimal | None = None


def differing(
    ours: Mapping[str, Decimal], brokers: Mapping[str, Decimal], recent: Iterable[Fill], asked_at: datetime
) -> list[str]:
    """Return the symbols whose quantities differ although no fill under way explains it.

    ours: signed shares of our lots, read after the broker had answered. brokers: the answer; a symbol that is
    missing is flat. recent: fills of the last while. Fills since the broker was asked may be missing in its answer,
    so each quantity that we had since then agrees.
    """
    newest_first = sorted(recent, key=lambda fill: (fill.at, fill.id), reverse=True)
    return [
        symbol
        for symbol in sorted(ours.keys() | brokers.keys())
        if brokers.get(symbol, ZERO) not in _held_since(symbol, ours.get(symbol, ZERO), newest_first, asked_at)
    ]


def _held_since(symbol: str, now: Decimal, newest_first: Iterable[Fill], asked_at: datetime) -> set[Decimal]:
    """Return every quantity of a symbol that we held since a moment."""
    held, quantities = now, {now}
    for fill in newest_first:
        if fill.symbol == symbol and fill.at > asked_at - CLOCKS_APART:
            held -= fill.signed_qty
            quantities.add(held)
    return quantities

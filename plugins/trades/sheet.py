"""A table of trades as the page writes it: its columns, each cell's text and tone; formats figures, computes none."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from coldharbour.live.model import Side
from coldharbour.live.valuation import r_multiple
from coldharbour.web import formats


class Cell(NamedTuple):
    """What stands in one cell. tone: "gain", "loss" or a state. x, width: of its bar, from -100 to 100."""

    text: str
    tone: str = ""
    x: str = ""
    width: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """One column. kind: "text", "num", "bar", "state" or "time". hint: what the figure means."""

    key: str
    label: str
    kind: str = "num"
    hint: str = ""


def result(value: Decimal | None) -> Cell:
    """Return a gain or a loss, in money, percent or R."""
    return Cell(formats.gain(value), formats.tone(value))


def excursion(
    side: Side, entry: Decimal, initial_stop: Decimal | None, high: Decimal | None, low: Decimal | None
) -> Cell:
    """Return how far prices went against and for a lot, in R. high, low: of all prices while it was open."""
    if high is None or low is None:
        return Cell(formats.NO_VALUE)
    for_it, against_it = (high, low) if side is Side.LONG else (low, high)
    worst, best = (r_multiple(side, entry, initial_stop, price) for price in (against_it, for_it))
    if worst is None or best is None:
        return Cell(formats.NO_VALUE)
    return Cell(f"{formats.gain(min(worst, Decimal(0)))} / {formats.gain(max(best, Decimal(0)))}")

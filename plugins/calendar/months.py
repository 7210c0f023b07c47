"""Days as months of weeks, with their sums and how strong each result is among its neighbours; pure, no I/O."""

from __future__ import annotations

from calendar import Calendar
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from coldharbour.web.formats import MINUS

from .store import Day

ZERO = Decimal(0)
STRENGTHS = 3


@dataclass(frozen=True, slots=True)
class Cell:
    """One day of a month; result and text are None and "" where nothing was closed. strength: 1 to 3."""

    day: date
    result: Decimal | None
    text: str
    closings: int
    wins: int
    strength: int


@dataclass(frozen=True, slots=True)
class Week:
    """The days of one week, Monday first; None where they belong to another month. result: of this month's days."""

    cells: tuple[Cell | None, ...]
    result: Decimal | None


@dataclass(frozen=True, slots=True)
class Month:
    """One month with its sum."""

    first: date
    weeks: tuple[Week, ...]
    result: Decimal
    closings: int


def months(days: Sequence[Day]) -> list[Month]:
    """Return every month in which something was closed, the newest first."""
    by_day = {day.day: day for day in days}
    largest = max((abs(day.pnl_cash) for day in days), default=ZERO)
    firsts = sorted({day.day.replace(day=1) for day in days}, reverse=True)
    return [_month(first, by_day, largest) for first in firsts]


def whole(value: Decimal) -> str:
    """Return a result without cents, with its sign.

    >>> whole(Decimal("1234.5")), whole(Decimal("-0.4")), whole(Decimal("-12.6"))
    ('+1,234', '0', '−13')
    """
    rounded = round(value)
    return f"{rounded:+,}".replace("-", MINUS) if rounded else "0"


def _month(first: date, by_day: dict[date, Day], largest: Decimal) -> Month:
    weeks = tuple(
        _week(tuple(_cell(day, by_day.get(day), largest) if day.month == first.month else None for day in week))
        for week in Calendar().monthdatescalendar(first.year, first.month)
    )
    cells = [cell for week in weeks for cell in week.cells if cell]
    return Month(first, weeks, sum((cell.result or ZERO for cell in cells), ZERO), sum(cell.closings for cell in cells))


def _week(cells: tuple[Cell | None, ...]) -> Week:
    results = [cell.result for cell in cells if cell and cell.result is not None]
    return Week(cells, sum(results, ZERO) if results else None)


def _cell(day: date, known: Day | None, largest: Decimal) -> Cell:
    if known is None:
        return Cell(day, None, "", 0, 0, 0)
    share = abs(known.pnl_cash) / largest if largest else ZERO
    strength = min(int(share * STRENGTHS) + 1, STRENGTHS)
    return Cell(day, known.pnl_cash, whole(known.pnl_cash), known.closings, known.wins, strength)

"""Announced corporate actions as the market data API lists them; nothing happens because of one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Decimal
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

JSON = dict[str, object]
Kind = Literal["forward_split", "reverse_split", "stock_dividend", "spin_off", "name_change", "cash_merger"]
NAMES: dict[str, tuple[str, str]] = {  # the fields for the symbol that is held, and for the one it becomes
    "spin_off": ("source_symbol", "new_symbol"),
    "name_change": ("old_symbol", "new_symbol"),
    "cash_merger": ("acquiree_symbol", "acquirer_symbol"),
}


class Announcement(BaseModel):
    """One action: on `day` the shares are others, or stand at another price."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    symbol: str = Field(description="Symbol that is held.")
    kind: Kind = Field("forward_split", description="What is announced.")
    day: date = Field(description="First day with the new shares or prices.")
    process_date: date | None = Field(None, description="Day on which the broker books it; null = the same.")
    ratio: Decimal = Field(Decimal(2), gt=0, description="New shares for one old.")
    new_symbol: str | None = Field(None, description="What the shares become, where they do.")

    @property
    def processed(self) -> date:
        """The day by which it is listed."""
        return self.process_date or self.day

    def row(self) -> JSON:
        """Return it as the API shows it."""
        held, new = NAMES.get(self.kind, ("symbol", "new_symbol"))
        day = "effective_date" if self.kind == "cash_merger" else "ex_date"
        row: JSON = {
            held: self.symbol,
            "new_rate": float(self.ratio),
            "old_rate": 1,
            "process_date": str(self.processed),
        }
        if self.kind != "name_change":
            row[day] = str(self.day)
        return row if self.new_symbol is None else {**row, new: self.new_symbol}


def listing(
    known: Iterable[Announcement], *, symbols: Sequence[str], types: Sequence[str], start: date, end: date
) -> list[Announcement]:
    """Return the announcements that a request asks for, by the day on which they are booked; both bounds count."""
    return sorted(
        (
            each
            for each in known
            if (not symbols or {each.symbol, each.new_symbol} & set(symbols))
            and (not types or each.kind in types)
            and start <= each.processed <= end
        ),
        key=lambda each: (each.processed, each.symbol, each.kind),
    )

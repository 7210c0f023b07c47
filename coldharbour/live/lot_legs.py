"""Which exits belong to which lot: its parent's legs, and the OCOs that were attached to it; closes nothing.

Source: domain.md 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from coldharbour.live.legs import Leg
from coldharbour.live.lineage import Lineage
from coldharbour.live.open_lot import OpenLot, Undo
from coldharbour.live.tape import Attachment


class LotLegs:
    """The exits of one symbol's lots. ties: by head of an OCO, its lot; None where there was none."""

    def __init__(self, lineage: Lineage) -> None:
        self.lineage = lineage
        self.ties: dict[str, OpenLot | None] = {}

    def of(self, lot: OpenLot) -> list[Leg]:
        """Return the exits of a lot: its parent's legs, then those of each OCO attached to it; each oldest first."""
        legs = [leg for home in (lot.key, *lot.ocos) for leg in self.lineage.legs(home)]
        return [leg for leg in legs if leg.first.is_buy != lot.is_long]

    def are_live(self, lot: OpenLot, at: datetime) -> bool:
        """Return whether a lot had a live leg at a moment."""
        guarded, by_buys = self.lineage.is_guarded, not lot.is_long
        if guarded(lot.key, at, by_buys=by_buys):
            return True
        return any(guarded(home, at, by_buys=by_buys) for home in lot.ocos)

    def owners(self, order_id: str, open_lots: Mapping[str, OpenLot]) -> list[OpenLot]:
        """Return the open lots whose leg an order is."""
        home = self.lineage.home(order_id)
        if home is None:
            return []
        if home in self.ties:
            lot = self.ties[home]
            return [lot] if lot is not None and lot.remaining else []
        return [lot for member in self.lineage.chain(home).path if (lot := open_lots.get(member)) is not None]

    def lots_of(self, homes: Iterable[str]) -> set[str]:
        """Return the lots of these parents and OCOs."""
        found = {member for home in homes for member in self.lineage.chain(home).path}
        return found | {lot.key for home in homes if (lot := self.ties.get(home)) is not None}

    def tie(self, oco: Attachment, lots: Sequence[OpenLot]) -> Undo:
        """Tie an OCO to one of the lots that it closes, given oldest first; return what unties it."""
        bare = [lot for lot in lots if not self.are_live(lot, oco.at)]
        same = [lot for lot in bare if lot.remaining == oco.qty]
        lot = self.ties[oco.id] = next(iter((*same, *bare, *lots)), None)
        if lot is not None:
            lot.ocos = (*lot.ocos, oco.id)
        return lambda: self._untie(oco.id)

    def _untie(self, head: str) -> None:
        lot = self.ties.pop(head)
        if lot is not None:
            lot.ocos = lot.ocos[:-1]

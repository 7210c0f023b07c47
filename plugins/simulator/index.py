"""A sorted list with cheap ranges; owns the order of its entries, knows nothing of what they are."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
MAX = 1 << 100


class SortedIndex(Generic[Item]):
    """Items under unique keys of the form (place, tie); ranges come in either direction.

    Adding at the end is constant time, elsewhere a block move; finding is a bisection.
    """

    def __init__(self) -> None:
        self._rows: list[tuple[Any, int, Item]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, place: object, tie: int, item: Item) -> None:
        """Insert an item; (place, tie) must be new, since items are never compared."""
        insort(self._rows, (place, tie, item), key=lambda row: row[:2])

    def remove(self, place: object, tie: int) -> None:
        """Remove the item under this key. Raises KeyError if there is none."""
        at = bisect_left(self._rows, (place, tie), key=lambda row: row[:2])
        if at == len(self._rows) or self._rows[at][:2] != (place, tie):
            raise KeyError((place, tie))
        del self._rows[at]

    def walk(
        self,
        *,
        above: tuple[object, int] | None = None,
        below: tuple[object, int] | None = None,
        descending: bool = False,
    ) -> Iterator[Item]:
        """Yield the items strictly between two keys, either end open for None."""
        low = 0 if above is None else bisect_right(self._rows, above, key=lambda row: row[:2])
        high = len(self._rows) if below is None else bisect_left(self._rows, below, key=lambda row: row[:2])
        span = range(high - 1, low - 1, -1) if descending else range(low, high)
        for at in span:
            yield self._rows[at][2]

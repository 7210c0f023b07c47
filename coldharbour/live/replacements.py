"""Which order replaced which: chains from links of either direction, as evidence arrives; knows no parents.

Source: domain.md 3. Links may contradict each other, lead to orders that nobody knows, or run in circles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from coldharbour.live import liveness
from coldharbour.live.model import OrderFact


@dataclass(frozen=True, slots=True)
class Chain:
    """Orders that replaced each other. path: those that are known, from first to last; others: attempts beside it."""

    path: tuple[str, ...]
    others: tuple[str, ...] = ()

    @property
    def first(self) -> str:
        """The order that began it."""
        return self.path[0]

    @property
    def last(self) -> str:
        """The latest successor."""
        return self.path[-1]

    @property
    def members(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.path, *self.others)


class Replacements:
    """The links between the orders of an account. orders: all that are known, by id; whoever lends them keeps them.

    linked: the orders that a link may tie to others.
    """

    def __init__(self, orders: Mapping[str, OrderFact]) -> None:
        self.linked: set[str] = set()
        self._orders = orders
        self._replacing: dict[str, list[str]] = {}  # by order: those that say they replace it
        self._replaced: dict[str, list[str]] = {}  # by order: those that say it replaced them
        self._chains: dict[str, Chain] = {}

    def tie(self, order: OrderFact) -> None:
        """Take in what an order says of others."""
        if order.replaces is not None:
            self._replacing.setdefault(order.replaces, []).append(order.id)
            self.linked |= {order.id, order.replaces}
        if order.replaced_by is not None:
            self._replaced.setdefault(order.replaced_by, []).append(order.id)
            self.linked |= {order.id, order.replaced_by}

    def untie(self, order: OrderFact) -> None:
        """Take back what an order said."""
        if order.replaces is not None:
            self._replacing[order.replaces].remove(order.id)
        if order.replaced_by is not None:
            self._replaced[order.replaced_by].remove(order.id)

    def forget(self, order_ids: Iterable[str]) -> None:
        """Find the chains of these orders anew."""
        for order_id in order_ids:
            self._chains.pop(order_id, None)

    def chain(self, order_id: str) -> Chain:
        """Return the chain that an order is in, of itself alone where it stands alone."""
        if order_id not in self.linked:
            return Chain((order_id,))
        chain = self._chains.get(order_id)
        if chain is None:
            chain = self._find_chain(order_id)
            self._chains.update(dict.fromkeys(chain.members, chain))
        return chain

    def successor(self, order_id: str) -> str | None:
        """Return what replaced an order: what it names itself before others, and what is known before what is not."""
        order = self._orders.get(order_id)
        named = None if order is None else order.replaced_by
        candidates = {
            other for other in self._successors(order_id) if other != order_id and self._succeeds(other, order)
        }
        return max(
            candidates, key=lambda other: (other in self._orders, other == named, self._age(other)), default=None
        )

    def neighbours(self, order_id: str) -> Iterator[str]:
        """Yield the orders that a link ties to one, in either direction."""
        yield from self._successors(order_id)
        yield from self._predecessors(order_id)

    def _find_chain(self, order_id: str) -> Chain:
        component = everything_from(order_id, self.neighbours)
        next_of = {member: self.successor(member) for member in component}
        # Of several beginnings the oldest; a circle has none.
        roots = [member for member in component if all(other == member for other in self._predecessors(member))]
        start = min(roots, key=self._age) if roots else min(component)
        path: list[str] = []
        member: str | None = start
        while member is not None and member not in path:
            path.append(member)
            member = next_of[member]
        if member is not None:  # a circle, which has no last: as the lake decides it
            circle = path[path.index(member) :]
            path = [*path[: path.index(member)], *sorted(circle, reverse=True)]
        known = [member for member in path if member in self._orders] or [order_id]
        return Chain(tuple(known), tuple(sorted(component - set(path))))

    def _successors(self, order_id: str) -> Iterator[str]:
        order = self._orders.get(order_id)
        if order is not None and order.replaced_by is not None:
            yield order.replaced_by
        yield from self._replacing.get(order_id, ())

    def _predecessors(self, order_id: str) -> Iterator[str]:
        order = self._orders.get(order_id)
        if order is not None and order.replaces is not None:
            yield order.replaces
        yield from self._replaced.get(order_id, ())

    def _succeeds(self, candidate: str, order: OrderFact | None) -> bool:
        """Return whether a replacement took the place of an order: one that was rejected did not, while that lives."""
        found = self._orders.get(candidate)
        return found is None or found.status != "rejected" or (order is not None and order.status == "replaced")

    def _age(self, order_id: str) -> tuple[datetime, datetime, str]:
        order = self._orders.get(order_id)
        if order is None:
            return liveness.ALWAYS, liveness.ALWAYS, order_id
        return liveness.began(order), order.submitted_at or liveness.ALWAYS, order_id


def everything_from(order_id: str, neighbours: Callable[[str], Iterable[str]]) -> set[str]:
    """Return an order and all that one comes to by way of neighbours."""
    found: set[str] = set()
    waiting = [order_id]
    while waiting:
        member = waiting.pop()
        if member not in found:
            found.add(member)
            waiting += neighbours(member)
    return found

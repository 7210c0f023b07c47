"""Families of orders: which leg belongs to which parent, judged from links and nestings; pure, no SQL.

Source: domain.md 3. The evidence comes in any order and from either end of a link; what it proves is the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Member:
    """An order as far as its ties go, all of them ids: what it replaces, what replaced it, its parent, its legs."""

    id: str
    replaces: str | None
    replaced_by: str | None
    parent_id: str | None
    legs: tuple[str, ...]


def misplaced(members: Iterable[Member], nestings: Iterable[tuple[str, str]]) -> list[Member]:
    """Return those members whose parent or legs should be others, as they should be.

    nestings: (parent, leg) as payloads showed them. A leg's whole chain of replacements belongs to one parent: the
    last member of the chain of whatever parent any of them was seen under (or is under already). Members must hold
    every order that is connected with any of them. Of parents that contradict each other the smallest id is taken.
    """
    by_id = {member.id: member for member in members}
    chains = _Chains(by_id.values())
    claimed: defaultdict[str, set[str]] = defaultdict(set)
    for parent, leg in nestings:
        claimed[chains.name(leg)].add(parent)
    for member in by_id.values():
        if member.parent_id is not None:
            claimed[chains.name(member.id)].add(member.parent_id)
    heads = {name: min(last_heir(parent, by_id) for parent in found) for name, found in claimed.items()}
    parents = {order_id: heads.get(chains.name(order_id)) for order_id in by_id}
    legs: defaultdict[str | None, list[str]] = defaultdict(list)
    for order_id, parent_id in parents.items():
        if parent_id != order_id:
            legs[parent_id].append(order_id)
    true = (_placed(member, parents[member.id], legs[member.id]) for member in by_id.values())
    return [member for member in true if member is not by_id[member.id]]


def _placed(member: Member, parent_id: str | None, legs: Iterable[str]) -> Member:
    place = (None if parent_id == member.id else parent_id, tuple(sorted(legs)))
    if place == (member.parent_id, member.legs):
        return member
    return Member(member.id, member.replaces, member.replaced_by, *place)


def last_heir(order_id: str, by_id: Mapping[str, Member]) -> str:
    """Return the last known order of those that replaced this one; of a circle, which has no last, the smallest."""
    seen: list[str] = []
    while order_id not in seen:
        seen.append(order_id)
        successor = by_id[order_id].replaced_by if order_id in by_id else None
        if successor is None or successor not in by_id:
            return order_id
        order_id = successor
    return min(seen[seen.index(order_id) :])


class _Chains:
    """Orders joined by replacement, each chain under one name; a member that is unknown still joins its neighbours."""

    def __init__(self, members: Iterable[Member]) -> None:
        self._above: dict[str, str] = {}
        for member in members:
            for other in (member.replaces, member.replaced_by):
                if other is not None:
                    self._join(member.id, other)

    def name(self, order_id: str) -> str:
        """Return the name of the chain that an order is in: its own id where it stands alone."""
        if order_id not in self._above:
            return order_id
        way: list[str] = []
        while (above := self._above.get(order_id)) is not None:
            way.append(order_id)
            order_id = above
        self._above.update(dict.fromkeys(way, order_id))  # a long chain is walked once, not once for each member
        return order_id

    def _join(self, one: str, other: str) -> None:
        name, other_name = self.name(one), self.name(other)
        if name != other_name:
            self._above[name] = other_name

"""What a harvest changes in a lake that holds something already; pure rules, no SQL.

The caller has the account's turn to write: what is held stays so until the changes are written.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

import msgspec

from coldharbour.lake.families import Member, misplaced
from coldharbour.lake.model import ActivityRow, Harvest, HeldActivity, HeldOrder, OrderRow, version

Links = Sequence[tuple[str, str]]

PROGRESS = {"correct": 1, "canceled": 2}  # of an activity that is no fill; every other status is 0


@dataclass(frozen=True, slots=True)
class Held:
    """What the lake holds of a harvest already: orders by id, activities by their keys.

    awaited: orders that it does not hold, but whose replacements or predecessors it does.
    """

    orders: Mapping[str, HeldOrder]
    activities: Mapping[str, HeldActivity]
    awaited: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a write changed.

    order_ids, activity_ids: rows that are new, newer, or completed by REST. order_news: (status, updated_at)
    of the orders that moved on, not merely came again from another source. new_fills: seen for the first time.
    """

    order_ids: tuple[str, ...] = ()
    order_news: tuple[tuple[str, datetime], ...] = ()
    activity_ids: tuple[str, ...] = ()
    new_fills: tuple[ActivityRow, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.order_ids or self.activity_ids)

    def __add__(self, other: Recorded) -> Recorded:
        return Recorded(
            self.order_ids + other.order_ids,
            self.order_news + other.order_news,
            self.activity_ids + other.activity_ids,
            self.new_fills + other.new_fills,
        )


@dataclass(frozen=True, slots=True)
class Changes:
    """The rows to write, and what writing them means.

    orders, activities: whole rows. unsettled: orders of whose ties something new is told; their families decide.
    strangers: orders that are new, and that no order in the lake points to. moved: orders of which nothing changes
    but the ties. disputed: activities that REST tells again with other content; the first telling counts.
    """

    orders: Sequence[OrderRow]
    activities: Sequence[ActivityRow]
    unsettled: frozenset[str]
    strangers: frozenset[str]
    disputed: Sequence[ActivityRow]
    recorded: Recorded
    moved: Sequence[Member] = ()


def compare(harvest: Harvest, held: Held) -> Changes:
    """Return what a combined harvest changes in a lake that holds this of it."""
    orders = [row for row in harvest.orders if _is_newer(row, held.orders.get(row.id))]
    activities = [row for row in harvest.activities if _is_better(row, held.activities.get(row.key))]
    return Changes(
        orders=[_with_held_ties(row, held.orders.get(row.id)) for row in orders],
        activities=activities,
        unsettled=frozenset(_unsettled(orders, harvest.links, held)),
        strangers=frozenset(row.id for row in orders) - held.orders.keys() - held.awaited,
        disputed=[row for row in harvest.activities if _is_disputed(row, held.activities.get(row.key))],
        recorded=_recorded(orders, activities, held),
    )


def settle(changes: Changes, family: Mapping[str, Member | None], links: Iterable[tuple[str, str]]) -> Changes:
    """Return the changes with every order tied to its true parent.

    family: everyone who is connected with the unsettled orders; None for those the lake does not hold.
    """
    members = {member.id: member for member in family.values() if member is not None}
    members |= {
        row.id: Member(row.id, row.replaces, row.replaced_by, row.parent_id, row.legs)
        for row in changes.orders
        if row.id in family
    }
    moved = {member.id: member for member in misplaced(members.values(), links)}
    orders = [_tied(row, moved.pop(row.id, row)) for row in changes.orders]
    return replace(changes, orders=orders, moved=[*moved.values()])


def _is_newer(row: OrderRow, known: HeldOrder | None) -> bool:
    return known is None or version(row) > version(known)


def _is_better(row: ActivityRow, known: HeldActivity | None) -> bool:
    """Whether an activity is new, completes what the stream told of a fill, or corrects or cancels another one."""
    if known is None:
        return True
    if row.execution_id is not None:
        return (known.source, row.source) == ("stream", "rest")
    return PROGRESS.get(row.status or "", 0) > PROGRESS.get(known.status or "", 0)


def _is_disputed(row: ActivityRow, known: HeldActivity | None) -> bool:
    return (
        known is not None
        and (known.id, known.source, known.status) == (row.id, "rest", row.status)
        and row.source == "rest"
        and known.raw_json != row.raw_json
        and _content(known.raw_json) != _content(row.raw_json)
    )


def _content(raw: bytes) -> object:
    """Return what a payload says, whatever its spaces, the order of its fields, and the zeros behind its numbers."""
    return json.loads(raw, parse_int=_number, parse_float=_number)


def _number(text: str) -> tuple[str, Decimal]:
    return "number", Decimal(text)  # named, since to Python 1 is true


def _with_held_ties(row: OrderRow, known: HeldOrder | None) -> OrderRow:
    return row if known is None else _tied(row, known)


def _tied(row: OrderRow, like: OrderRow | HeldOrder | Member) -> OrderRow:
    if (row.parent_id, row.legs) == (like.parent_id, like.legs):
        return row
    return msgspec.structs.replace(row, parent_id=like.parent_id, legs=like.legs)


def _unsettled(orders: Iterable[OrderRow], links: Links, held: Held) -> Iterator[str]:
    """Yield the orders of whose ties something new is told, and those they point to."""
    for row in orders:
        known = held.orders.get(row.id)
        before = (known.replaces, known.replaced_by) if known else (None, None)
        told = (row.replaces, row.replaced_by)
        if told != before or row.id in held.awaited:
            yield row.id
            yield from filter(None, told)
    for parent, leg in links:
        known = held.orders.get(leg)
        if known is None or known.parent_id != parent:
            yield from (parent, leg)


def _recorded(orders: Sequence[OrderRow], activities: Sequence[ActivityRow], held: Held) -> Recorded:
    return Recorded(
        order_ids=tuple(row.id for row in orders),
        order_news=tuple((row.status, row.updated_at) for row in orders if _moved_on(row, held.orders.get(row.id))),
        activity_ids=tuple(row.id for row in activities),
        new_fills=tuple(row for row in activities if row.execution_id and row.key not in held.activities),
    )


def _moved_on(row: OrderRow, known: HeldOrder | None) -> bool:
    return known is None or known.updated_at < row.updated_at

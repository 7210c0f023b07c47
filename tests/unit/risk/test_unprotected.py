"""Which shares no live stop covers: hand-worked tables, and what holds for any lots and stops."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldharbour.live.model import Side
from coldharbour.risk.protection.episodes import changes
from coldharbour.risk.protection.model import Episode, Exposure, GuardedLot, OrderState, Reason, Stray
from coldharbour.risk.protection.unprotected import unprotected

T0 = datetime(2026, 10, 8, 14, tzinfo=UTC)
LATER = T0 + timedelta(minutes=5)
GRACE = timedelta(seconds=5)


def lot(parent_id: str = "A", qty: int = 100, **facts: Any) -> GuardedLot:
    usual: dict[str, Any] = {
        "symbol": "KO", "side": Side.LONG, "entry_time": T0, "last_fill_time": T0, "stop_order_id": f"{parent_id}-stop",
        "take_order_id": f"{parent_id}-take",
    }  # fmt: skip
    return GuardedLot(parent_id=parent_id, qty=Decimal(qty), **(usual | facts))


def bare(parent_id: str = "A", qty: int = 100, **facts: Any) -> GuardedLot:
    return lot(parent_id, qty, **({"stop_order_id": None, "take_order_id": None, "bare_since": LATER} | facts))


def order(order_id: str, remaining: int = 100, **facts: Any) -> OrderState:
    usual: dict[str, Any] = {
        "symbol": "KO", "is_buy": False, "order_type": "stop", "order_class": "bracket", "status": "new",
        "updated_at": T0,
    }  # fmt: skip
    return OrderState(id=order_id, remaining=Decimal(remaining), **(usual | facts))


def family(parent_id: str = "A", entry: str = "filled", stop: str = "held", take: str = "new", **facts: Any) -> Any:
    return [
        order(parent_id, 0, status=entry, is_buy=True, order_type="market"),
        order(f"{parent_id}-stop", status=stop, parent_id=parent_id, **facts),
        order(f"{parent_id}-take", status=take, parent_id=parent_id, order_type="limit"),
    ]


def loose(order_id: str, remaining: int, **facts: Any) -> OrderState:
    return order(order_id, remaining, **({"order_class": "simple"} | facts))


def summary(found: list[Exposure]) -> list[tuple[str, int, str]]:
    return [(each.key, int(each.qty), each.reason) for each in found]


@pytest.mark.parametrize(
    ("lots", "orders", "expected"),
    [
        ([lot()], family(), []),  # held beside a working target is the broker's usual way
        ([lot()], family(entry="partially_filled", take="held"), [("A", 100, "legs_held")]),
        ([lot()], family(entry="canceled", take="new"), []),  # canceled in part: the legs went out
        ([lot()], family(entry="canceled", take="held"), [("A", 100, "legs_held")]),
        ([lot(take_order_id=None)], family(entry="partially_filled", take="canceled"), [("A", 100, "legs_held")]),
        ([lot()], family(entry="replaced", stop="held", take="held"), [("A", 100, "legs_held")]),
        ([lot()], [], []),  # the stop's order is not known: nothing contradicts the lot
        ([bare()], family(stop="canceled", take="canceled"), [("A", 100, "stop_canceled")]),
        ([bare()], family(stop="expired", take="expired"), [("A", 100, "stop_expired")]),
        ([bare()], family(stop="rejected", take="new"), [("A", 100, "stop_rejected")]),
        ([bare()], family(stop="replaced", take="new"), [("A", 100, "no_stop")]),
        ([bare()], [], [("A", 100, "no_stop")]),
        ([bare()], [loose("L", 100, status="expired", ended_at=LATER)], [("A", 100, "stop_expired")]),
        ([bare()], [loose("L", 100, status="expired", ended_at=T0)], [("A", 100, "no_stop")]),  # another's end
        ([lot()], family(stop="canceled", take="canceled"), [("A", 100, "stop_canceled")]),  # the row is behind
        ([lot()], family(stop="filled", take="canceled"), []),  # likewise: the lot is about to go
        ([lot(qty=150)], family(), [("A", 50, "stop_too_small")]),
        ([bare(qty=80)], [loose("L", 80)], []),
        ([bare(qty=80)], [loose("L", 50)], [("A", 30, "stop_too_small")]),
        ([bare(qty=80)], [loose("L", 80, is_buy=True)], [("A", 80, "no_stop")]),  # it would add to the position
        ([bare(qty=80)], [loose("L", 80, symbol="PEP")], [("A", 80, "no_stop")]),
        ([bare(qty=80)], [loose("L", 80, status="canceled")], [("A", 80, "no_stop")]),
        ([bare("A", 60), bare("B", 60)], [loose("L", 80)], [("B", 40, "stop_too_small")]),  # the oldest first
        ([bare("A", 60), bare("B", 60)], [loose("L", 80), loose("M", 40)], []),
        ([lot("A", 100), bare("B", 30)], [*family("A"), loose("L", 30)], []),
        ([lot("A", 60, stop_order_id="O", take_order_id=None), lot("B", 60, stop_order_id="O", take_order_id=None)],
         [order("O", 120, order_class="oco", status="held", parent_id="H")], []),
        ([bare(qty=80, side=Side.SHORT)], [loose("L", 80, is_buy=True)], []),
    ],
)  # fmt: skip
def test_what_no_live_stop_covers(
    lots: list[GuardedLot], orders: list[OrderState], expected: list[tuple[str, int, str]]
) -> None:
    assert summary(unprotected(lots, orders)) == expected


@pytest.mark.parametrize(
    ("ours", "brokers", "stop", "expected"),
    [
        (100, 150, 0, [("symbol:KO", 50, "no_lot")]),
        (0, -30, 0, [("symbol:KO", 30, "no_lot")]),
        (100, -30, 0, [("symbol:KO", 30, "no_lot")]),
        (100, 40, 0, []),  # fewer than our lots: nothing is bare
        (100, 150, 50, []),
        (100, 150, 20, [("symbol:KO", 30, "no_lot")]),
    ],
)
def test_what_the_broker_holds_beyond_our_lots(ours: int, brokers: int, stop: int, expected: list[Any]) -> None:
    strays = [Stray("KO", Decimal(ours), Decimal(brokers), T0)]

    assert summary(unprotected([], [loose("L", stop)] if stop else [], strays)) == expected


def test_since_when_it_is_bare() -> None:
    partial = family(entry="partially_filled", take="held")
    small = family(submitted_at=LATER)

    since = [
        unprotected(lots, orders)[0].since
        for lots, orders in (([bare()], []), ([lot(last_fill_time=LATER)], partial), ([lot(qty=150)], small))
    ]

    assert since == [LATER, T0, LATER]


@given(
    lots=st.lists(st.tuples(st.integers(1, 9), st.integers(0, 12)), max_size=6),
    stops=st.lists(st.integers(1, 9), max_size=4),
)
def test_bare_shares_and_the_stops_shares_add_up(lots: list[tuple[int, int]], stops: list[int]) -> None:
    held = [lot(f"{n}", qty) if own else bare(f"{n}", qty) for n, (qty, own) in enumerate(lots)]
    orders = [each for n, (_, own) in enumerate(lots) if own for each in family(f"{n}")]
    orders = [replace(each, remaining=Decimal(lots[int(each.parent_id)][1])) if each.parent_id else each
              for each in orders] + [loose(f"loose {n}", shares) for n, shares in enumerate(stops)]  # fmt: skip

    found = unprotected(held, orders)

    own_rest = sum(max(qty - own, 0) for qty, own in lots)
    assert sum(each.qty for each in found) == max(own_rest - sum(stops), 0)
    assert all(Decimal(0) < each.qty <= lots[int(each.key)][0] for each in found)


EXPOSED = Exposure(
    key="A", symbol="KO", parent_id="A", side=Side.LONG, qty=Decimal(10), reason=Reason.NO_STOP, since=T0
)


def test_an_episode_becomes_an_alarm_once_and_heals_once() -> None:
    first = changes([], [EXPOSED], LATER, GRACE)
    [episode] = first.saved
    assert (episode, first.raised, first.due_at) == (Episode(EXPOSED, LATER), (), LATER + GRACE)

    due = changes([episode], [EXPOSED], LATER + GRACE, GRACE)
    [alarm] = due.saved
    assert (due.raised, due.due_at) == ((EXPOSED,), None)

    assert not changes([alarm], [EXPOSED], LATER + 2 * GRACE, GRACE)
    healed = changes([alarm], [], LATER + 3 * GRACE, GRACE)
    assert (healed.healed, healed.gone) == ((EXPOSED,), ())


def test_what_is_bare_for_a_moment_leaves_no_trace() -> None:
    [episode] = changes([], [EXPOSED], LATER, GRACE).saved

    gone = changes([episode], [], LATER + GRACE, GRACE)

    assert (gone.gone, gone.healed, gone.raised) == ((EXPOSED,), (), ())


def test_an_open_alarm_keeps_its_begin_and_is_not_told_anew() -> None:
    alarm = Episode(EXPOSED, T0, T0)
    worse = replace(EXPOSED, qty=Decimal(20), reason=Reason.STOP_CANCELED, since=LATER)

    found = changes([alarm], [worse], LATER, GRACE)

    assert found.saved == (Episode(replace(worse, since=T0), T0, T0),)
    assert (found.raised, found.healed) == ((), ())


@given(st.lists(st.booleans(), max_size=30), st.integers(0, 4))
def test_however_it_flickers_alarms_and_healings_take_turns(seen: list[bool], grace: int) -> None:
    known: list[Episode] = []
    told = []
    for step, is_bare in enumerate(seen):
        now = T0 + timedelta(seconds=step)
        found = changes(known, [EXPOSED] if is_bare else [], now, timedelta(seconds=grace))
        told += ["raised"] * len(found.raised) + ["healed"] * len(found.healed)
        known = list(found.saved) or ([] if found.gone or found.healed else known)

    assert told == ["raised", "healed"] * (len(told) // 2) + ["raised"] * (len(told) % 2)
    longest = max(map(len, "".join("x" if is_bare else " " for is_bare in seen).split()), default=0)
    assert bool(told) is (longest > grace)

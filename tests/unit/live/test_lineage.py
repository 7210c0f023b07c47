"""Which exit belongs to which entry, whatever the broker leaves out: every rule of domain.md 3 by an example."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from itertools import permutations
from typing import Any

import pytest
from fakes.told import at, oco, order, replaced, stop, take

from coldharbour.live.lineage import Lineage
from coldharbour.live.model import ExitType, OrderFact

PARENT = order("P", order_class="bracket", status="filled", filled_at=at(1))


def chain_of(length: int) -> list[OrderFact]:
    """Return a stop that was moved a number of times, one up each time; only the first knows its parent."""
    orders = [stop("S0", "P", "10")]
    for number in range(1, length + 1):
        last = orders.pop()
        moved = {"stop_price": Decimal(10 + number), "parent_id": None}
        orders += replaced(last, f"S{number}", number, **moved)
    return orders


def test_a_leg_belongs_to_its_parent_and_an_entry_to_nobody() -> None:
    lineage = Lineage([PARENT, take("T", "P", "13"), stop("S", "P", "9")])

    assert [lineage.parent(order_id) for order_id in ("T", "S", "P", "unheard of")] == ["P", "P", None, None]


def test_after_five_edits_the_fifth_price_counts_and_the_first_is_the_initial_stop() -> None:
    lineage = Lineage([PARENT, *chain_of(5)])

    (leg,) = lineage.legs("P")

    assert lineage.latest("S0") == lineage.latest("S3") == "S5"
    assert leg.working is not None
    assert leg.working.stop_price == Decimal(15)
    assert lineage.initial_stop("P") == Decimal(10)
    assert lineage.first("S5") == "S0"


def test_a_descendant_belongs_to_the_original_parent_however_deep() -> None:
    lineage = Lineage([PARENT, *chain_of(5)])

    assert {lineage.parent(f"S{number}") for number in range(6)} == {"P"}


@pytest.mark.parametrize("forgotten", ["replaces", "replaced_by"])
def test_one_end_of_a_link_is_enough(forgotten: str) -> None:
    unsaid: dict[str, Any] = {forgotten: None}

    lineage = Lineage([PARENT, *(replace(member, **unsaid) for member in chain_of(3))])

    assert (lineage.parent("S3"), lineage.latest("S0"), lineage.first("S3")) == ("P", "S3", "S0")


def test_the_order_in_which_orders_become_known_changes_nothing() -> None:
    told = [PARENT, *chain_of(2)]
    found = set()

    for orders in permutations(told):
        lineage = Lineage(orders)
        found.add((lineage.parent("S2"), lineage.latest("S0"), lineage.initial_stop("P"), lineage.problems()))

    assert found == {("P", "S2", Decimal(10), ())}


def test_a_stop_that_comes_back_under_another_id_and_type_is_still_the_stop() -> None:
    fired, back = replaced(stop("S", "P", "9"), "again", 5, order_type="market", parent_id=None)
    lineage = Lineage([PARENT, fired, back])

    assert (lineage.parent("again"), lineage.kind("again")) == ("P", ExitType.STOP_LOSS)


def test_a_take_profit_shown_as_replaced_by_nothing_is_a_finished_leg() -> None:
    lineage = Lineage([PARENT, take("T", "P", "13", status="replaced", replaced_at=at(5))])

    assert (lineage.parent("T"), lineage.kind("T")) == ("P", ExitType.TAKE_PROFIT)
    assert (lineage.is_live("T", at(4)), lineage.is_live("T", at(5))) == (True, False)


def test_an_exit_is_tied_when_the_evidence_arrives() -> None:
    lineage = Lineage([PARENT, stop("S2", None, "10", replaces="S1")])
    before = lineage.parent("S2")

    touched = lineage.add(stop("S1", "P", "9", status="replaced", replaced_at=at(3), replaced_by="S2"))

    assert (before, lineage.parent("S2")) == (None, "P")
    assert touched >= {"S1", "S2"}


def test_a_leg_that_is_shown_under_a_leg_belongs_to_the_entry() -> None:
    lineage = Lineage([PARENT, take("T", "P", "13"), stop("S", "T", "9")])

    assert lineage.parent("S") == "P"
    assert [leg.first.id for leg in lineage.legs("P")] == ["S", "T"]


def test_a_replaced_entry_takes_its_legs_along() -> None:
    lineage = Lineage([*replaced(order("P1"), "P2", 2), stop("S", "P1", "9")])

    assert lineage.parent("S") == "P2"
    assert [leg.first.id for leg in lineage.legs("P2")] == ["S"]


def test_of_parents_that_contradict_each_other_the_smallest_counts_and_both_are_reported() -> None:
    lineage = Lineage([order("A"), order("B"), *replaced(stop("S1", "B", "9"), "S2", 2, parent_id="A")])

    assert lineage.parent("S2") == "A"
    assert lineage.problems() == (("S1", "order S1 belongs to several parents: A, B"),)


def test_a_rejected_replacement_succeeds_nothing_while_the_old_order_lives() -> None:
    old = stop("S1", "P", "9")
    vain = replace(old, id="S2", replaces="S1", status="rejected", failed_at=at(3), submitted_at=at(3))

    lineage = Lineage([PARENT, old, vain])

    assert lineage.latest("S1") == "S1"
    assert lineage.parent("S2") == "P"
    assert lineage.is_live("S1", at(9))


def test_a_circle_is_reported_and_never_loops() -> None:
    first = stop("S1", "P", "9", replaces="S2", replaced_by="S2", status="replaced", replaced_at=at(2))
    second = stop("S2", None, "9", replaces="S1", replaced_by="S1", status="replaced", replaced_at=at(3))

    lineage = Lineage([PARENT, first, second])

    assert (lineage.latest("S1"), lineage.latest("S2"), lineage.parent("S2")) == ("S1", "S1", "P")
    assert [key for key, _ in lineage.problems()] == ["S1"]
    assert "circle" in lineage.problems()[0][1]


def test_an_order_that_replaces_itself_is_reported_and_stands_alone() -> None:
    lineage = Lineage([PARENT, stop("S", "P", "9", replaces="S", replaced_by="S")])

    assert (lineage.latest("S"), lineage.parent("S")) == ("S", "P")
    assert lineage.problems() == (("S", "order S is said to replace itself"),)


def test_a_missing_middle_is_reported_until_it_comes() -> None:
    first = stop("S1", "P", "9", status="replaced", replaced_at=at(2), replaced_by="S2")
    last = stop("S3", None, "11", replaces="S2")
    lineage = Lineage([PARENT, first, last])
    tied, problems = (lineage.parent("S3"), lineage.latest("S1")), lineage.problems()

    lineage.add(stop("S2", None, "10", replaces="S1", replaced_by="S3", status="replaced", replaced_at=at(3)))

    assert tied == ("P", "S3")
    assert problems == (
        ("S1", "order S1 was replaced by S2, which is unknown"),
        ("S3", "order S3 replaces S2, which is unknown"),
    )
    assert lineage.problems() == ()


def test_parents_in_a_circle_never_loop() -> None:
    lineage = Lineage([stop("A", "B", "9"), stop("B", "A", "9")])

    assert lineage.parent("A") in {None, "A", "B"}
    assert lineage.legs("A") is not None


def test_an_oco_is_a_group_of_its_own_until_a_lot_is_found_for_it() -> None:
    lineage = Lineage(oco("T", "S", ("13", "9"), 5, "100"))

    assert (lineage.parent("S"), lineage.home("S"), lineage.home("T"), lineage.is_oco("T")) == (None, "T", "T", True)
    assert [leg.first.id for leg in lineage.legs("T")] == ["S", "T"]


def test_live_is_read_from_the_stamps_and_ends_just_before_the_last_one() -> None:
    canceled = stop("S", "P", "9", 2, status="canceled", canceled_at=at(7), submitted_at=at(3))
    lineage = Lineage([PARENT, canceled])

    assert [lineage.is_live("S", at(minute)) for minute in (1, 2, 6.9, 7)] == [False, True, True, False]


@pytest.mark.parametrize(
    ("status", "stamp"),
    [
        ("filled", "filled_at"), ("canceled", "canceled_at"), ("expired", "expired_at"), ("replaced", "replaced_at"),
        ("rejected", "failed_at"), ("canceled", "expired_at"),
    ],
)  # fmt: skip
def test_a_finished_order_was_live_until_its_stamp(status: str, stamp: str) -> None:
    ended: dict[str, Any] = {stamp: at(5)}

    lineage = Lineage([stop("S", "P", "9", status=status, **ended)])

    assert (lineage.is_live("S", at(4)), lineage.is_live("S", at(5))) == (True, False)


@pytest.mark.parametrize("status", ["held", "new", "partially_filled", "pending_cancel", "pending_replace", "stopped"])
def test_an_unfinished_order_is_live(status: str) -> None:
    assert Lineage([stop("S", "P", "9", status=status)]).is_live("S", at(1000))


def test_an_order_that_is_done_for_the_day_lives_on_only_if_it_is_good_till_canceled() -> None:
    gtc = stop("gtc", "P", "9", status="done_for_day")
    day = stop("day", "P", "9", status="done_for_day", time_in_force="day", expires_at=at(360))
    lineage = Lineage([gtc, day])

    assert (lineage.is_live("gtc", at(500)), lineage.is_live("day", at(300)), lineage.is_live("day", at(500))) == (
        True, True, False,
    )  # fmt: skip


def test_a_chain_is_live_while_any_member_is() -> None:
    lineage = Lineage([PARENT, *replaced(stop("S1", "P", "9"), "S2", 5)])

    assert [lineage.is_live("S1", at(minute)) for minute in (4, 5, 50)] == [True, True, True]


def test_the_earliest_expiry_of_the_live_legs_counts() -> None:
    told = stop("S", "P", "9", expires_at=datetime(2026, 12, 1, 21, 0, tzinfo=UTC))
    quiet = take("T", "P", "13")  # 90 days after 8 October
    over = stop("gone", "P", "8", status="canceled", canceled_at=at(1), expires_at=at(2))

    assert Lineage([PARENT, quiet]).expiry("P") == datetime(2027, 1, 6, 14, 0, tzinfo=UTC)
    assert Lineage([PARENT, told, quiet, over]).expiry("P") == datetime(2026, 12, 1, 21, 0, tzinfo=UTC)
    assert Lineage([PARENT, stop("day", "P", "9", time_in_force="day")]).expiry("P") is None


def test_a_replaced_leg_expires_90_days_after_the_original_was_created() -> None:
    lineage = Lineage([PARENT, *replaced(stop("S1", "P", "9"), "S2", 60 * 24 * 30)])

    assert lineage.expiry("P") == datetime(2027, 1, 6, 14, 0, tzinfo=UTC)


def test_the_same_statement_twice_touches_nothing() -> None:
    lineage = Lineage([PARENT, stop("S", "P", "9")])

    assert lineage.add(stop("S", "P", "9")) == frozenset()
    assert [leg.first.id for leg in lineage.legs("P")] == ["S"]

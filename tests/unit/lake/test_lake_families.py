"""A leg belongs to the last heir of any parent that any member of its chain was seen under."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldharbour.lake.families import Member, last_heir, misplaced


def member(
    name: str, *, of: str | None = None, by: str | None = None, under: str | None = None, legs: str = ""
) -> Member:
    """An order named by a letter: it replaces `of`, was replaced `by`, is `under` a parent, and has `legs`."""
    return Member(name, of, by, under, tuple(legs))


def placed(members: list[Member], *nestings: str) -> dict[str, tuple[str | None, str]]:
    """Return (parent, legs) of everyone in the end; a nesting is written parent first."""
    moved = {found.id: found for found in misplaced(members, [(pair[0], pair[1]) for pair in nestings])}
    return {m.id: (moved.get(m.id, m).parent_id, "".join(moved.get(m.id, m).legs)) for m in members}


def test_what_was_seen_nested_belongs_there_and_is_listed() -> None:
    assert placed([member("P"), member("t"), member("s")], "Pt", "Ps") == {
        "P": (None, "st"),
        "t": ("P", ""),
        "s": ("P", ""),
    }


@pytest.mark.parametrize("nested", "abc")
def test_a_whole_chain_follows_the_one_that_was_nested(nested: str) -> None:
    chain = [member("a", by="b"), member("b", of="a", by="c"), member("c", of="b")]

    found = placed([member("P"), *chain], f"P{nested}")

    assert found == {"P": (None, "abc"), "a": ("P", ""), "b": ("P", ""), "c": ("P", "")}


@pytest.mark.parametrize(
    "chain",
    [
        [member("a", by="b"), member("b")],
        [member("a"), member("b", of="a")],
        [member("a", by="x"), member("b", of="x")],
    ],
    ids=["known from the old one", "known from the new one", "a stranger between them"],
)
def test_one_end_of_a_link_is_enough(chain: list[Member]) -> None:
    assert placed([member("P"), *chain], "Pa")["b"] == ("P", "")


def test_what_is_already_in_place_stays_untouched() -> None:
    assert misplaced([member("P", legs="t"), member("t", under="P")], [("P", "t")]) == []


def test_legs_follow_a_replaced_parent_and_leave_nothing_behind() -> None:
    found = placed([member("P", by="Q", legs="t"), member("Q", of="P"), member("t", under="P")])

    assert found == {"P": (None, ""), "Q": (None, "t"), "t": ("Q", "")}


def test_a_replacement_that_was_refused_inherits_nothing() -> None:
    found = placed([member("P"), member("Q", of="P"), member("t")], "Pt")

    assert found == {"P": (None, "t"), "Q": (None, ""), "t": ("P", "")}


def test_parents_that_contradict_each_other_end_the_same_whoever_came_first() -> None:
    members = [member("P"), member("Q"), member("t")]

    assert placed(members, "Pt", "Qt") == placed(members, "Qt", "Pt")
    assert placed([*members[:2], replace(members[2], parent_id="Q")], "Pt")["t"] == ("P", "")


def test_a_circle_has_one_end_wherever_one_begins() -> None:
    circle = {name: member(name, by=by) for name, by in ("ab", "bc", "ca")}

    assert {last_heir(name, circle) for name in circle} == {"a"}


def test_nobody_is_their_own_parent() -> None:
    found = placed([member("P", by="Q"), member("Q", of="P")], "PQ")

    assert found == {"P": ("Q", ""), "Q": (None, "P")}


LINKS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12)


@given(replaced=LINKS, nestings=LINKS, seed=st.integers())
def test_the_verdict_depends_neither_on_order_nor_on_repetition(
    replaced: list[tuple[int, int]], nestings: list[tuple[int, int]], seed: int
) -> None:
    by, of = {str(old): str(new) for old, new in replaced}, {str(new): str(old) for old, new in replaced}
    members = [member(str(n), of=of.get(str(n)), by=by.get(str(n))) for n in range(10)]
    seen = [(str(parent), str(leg)) for parent, leg in nestings if parent != leg]
    shuffled, seen_again = list(members), [*seen, *seen]
    Random(seed).shuffle(shuffled)
    Random(seed).shuffle(seen_again)

    first = {m.id: m for m in members} | {m.id: m for m in misplaced(members, seen)}

    assert {m.id: m for m in shuffled} | {m.id: m for m in misplaced(shuffled, seen_again)} == first
    assert misplaced(first.values(), seen) == []

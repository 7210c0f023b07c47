"""Which trades may set the last price: the exchange's table, code by code."""

from __future__ import annotations

import pytest

from coldharbour.feed.conditions import MAX_KNOWN, ConditionRule, may_set_price, needs
from coldharbour.feed.model import Conditions
from coldharbour.sections import FeedSettings

# (codes, tape, in regular hours, outside them), word by word from alpaca-api.md 6.3.
TABLE = [
    *((code, "A", True, True) for code in (" ", "F", "E", "O", "5", "6", "X", "K", "L", "A", "D")),
    *((code, "C", True, True) for code in ("@", "F", "O", "5", "6", "X", "K", "L", "A", "D", "Y", "B")),
    *((code, "A", False, False) for code in "BIMQ9CNRPZ4HUV7"),
    *((code, "B", False, False) for code in "BIMQ9CNRPZ4HUV7"),
    *((code, "C", False, False) for code in "WIMQ9CNRGPZ4HUV7"),
    ("T", "A", False, True),
    ("T", "C", False, True),
    ("S", "A", True, True),
    ("1", "C", True, True),
    ("8", "C", True, True),
]


def verdict(conditions: Conditions, tape: str, *, regular_hours: bool, excluded: tuple[str, ...] = ()) -> bool:
    return may_set_price(needs(conditions, excluded), tape=tape, regular_hours=regular_hours)


@pytest.mark.parametrize(("code", "tape", "in_hours", "outside"), TABLE)
def test_each_code_sets_the_last_price_as_the_exchange_says(
    code: str, tape: str, in_hours: bool, outside: bool
) -> None:
    found = [verdict((code,), tape, regular_hours=True), verdict((code,), tape, regular_hours=False)]

    assert found == [in_hours, outside]


@pytest.mark.parametrize("strict", ["I", "M", "W", "U", "7"])
def test_the_strictest_of_four_codes_decides_wherever_it_stands(strict: str) -> None:
    for place in range(4):
        codes = ["@", "F", "T", "X"]
        codes[place] = strict
        assert not verdict(tuple(codes), "C", regular_hours=False)


def test_a_bunched_trade_outside_regular_hours_needs_both_its_tape_and_its_hour() -> None:
    assert verdict(("B", "T"), "C", regular_hours=False)
    assert not verdict(("B", "T"), "C", regular_hours=True)
    assert not verdict(("B", "T"), "A", regular_hours=False)


def test_code_b_without_a_tape_sets_no_price() -> None:
    assert not verdict(("@", "B"), "", regular_hours=True)


def test_a_code_that_nobody_knows_sets_no_price() -> None:
    assert not verdict(("@", "?"), "C", regular_hours=True)


@pytest.mark.parametrize("conditions", [None, "", (), ("",)])
def test_a_trade_without_a_code_counts_unless_the_operator_rules_it_out(conditions: Conditions) -> None:
    assert verdict(conditions, "C", regular_hours=True)
    assert not verdict(conditions, "C", regular_hours=True, excluded=("",))


def test_codes_written_as_one_text_are_read_letter_by_letter() -> None:
    assert verdict("@F", "C", regular_hours=True)
    assert not verdict("@TI", "C", regular_hours=False)


def test_the_operators_default_rules_out_what_the_exchange_would_take() -> None:
    excluded = FeedSettings().exclude_conditions

    ruled_out = [code for code in ("", "D", "M", "E", "@", " ") if not verdict((code,), "C", regular_hours=True,
                                                                                excluded=excluded)]  # fmt: skip

    assert ruled_out == ["", "D", "M", "E"]


def test_a_publisher_that_makes_codes_up_does_not_grow_the_memory() -> None:
    rule = ConditionRule([])

    for number in range(3 * MAX_KNOWN):
        rule.needs((f"code {number}",))

    assert len(rule.known) <= MAX_KNOWN

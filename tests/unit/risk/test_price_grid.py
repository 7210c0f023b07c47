"""The grid of prices, and the break-even stop on it: worked by hand, and legal for any entry."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from risk_values import D

from coldharbour import legal_stop
from coldharbour.live.model import Side
from coldharbour.risk.breakeven import NoLegalStop
from coldharbour.risk.grid import is_on_grid, is_price, plain, tick_at

LONG, SHORT = Side.LONG, Side.SHORT
entries = st.one_of(
    st.decimals("0.02", "3", places=4),
    st.decimals("0.02", "3", places=9),
    st.decimals("3", "900000", places=6),
)
gaps = st.sampled_from([D("0"), D("0.0001"), D("0.0004"), D("0.005"), D("0.01"), D("0.013"), D("0.015")])


@pytest.mark.parametrize(
    ("entry", "side", "legal"),
    [
        ("13.58", LONG, "13.57"),
        ("13.58", SHORT, "13.59"),
        ("3.6199", LONG, "3.61"),  # 3.6099 to the nearest cent
        ("3.6199", SHORT, "3.63"),  # 3.6299
        ("7.945", LONG, "7.94"),  # 7.935: the half goes up
        ("7.945", SHORT, "7.96"),  # 7.955
        ("0.8", LONG, "0.79"),
        ("0.8", SHORT, "0.81"),
        ("0.35555", LONG, "0.3456"),  # 0.34555
        ("0.35555", SHORT, "0.3656"),  # 0.36555
        ("1", LONG, "0.99"),
        ("1", SHORT, "1.01"),
        ("1.0049", LONG, "0.9949"),  # 0.99 with a cent's tick is below 1, so once more with the fine one
        ("1.005", LONG, "1.00"),  # 0.995 to the nearest cent is not below 1
        ("0.995", SHORT, "1.01"),  # 1.0050 is above 1, so once more with a cent: 1.005 goes up
        ("0.9949", SHORT, "1.00"),  # 1.0049
        ("0.99", SHORT, "1.00"),
        ("0.9899", SHORT, "0.9999"),
        ("0.989955", SHORT, "1.00"),  # 0.999955 to the nearest fine tick is 1, where a cent's tick counts
        ("612345.678", LONG, "612345.67"),
    ],
)
def test_the_legal_stop_is_one_gap_to_the_losing_side_on_the_grid(entry: str, side: Side, legal: str) -> None:
    assert legal_stop(D(entry), side) == D(legal)


@pytest.mark.parametrize(
    ("entry", "side", "min_gap", "legal"),
    [
        ("13.58", LONG, "0.05", "13.53"),
        ("13.58", LONG, "0.0001", "13.57"),  # a gap is a tick at least
        ("13.58", LONG, "0", "13.57"),
        ("0.8", LONG, "0.0001", "0.7999"),
        ("0.8", SHORT, "0", "0.8001"),
        ("0.9999", SHORT, "0.0001", "1.01"),  # at 1.0000 the gap is a cent: 1.0099
        ("1.002", LONG, "0.0001", "0.99"),  # with the fine gap 1.0019, which is no price above 1: the cent's stands
        ("1.0001", LONG, "0.0004", "0.9997"),
    ],
)
def test_another_gap_is_kept_where_the_tick_allows_it(entry: str, side: Side, min_gap: str, legal: str) -> None:
    assert legal_stop(D(entry), side, D(min_gap)) == D(legal)


@pytest.mark.parametrize("entry", ["0.01", "0.005", "0.0001"])
def test_a_stop_at_or_below_zero_does_not_exist(entry: str) -> None:
    with pytest.raises(NoLegalStop, match="no stop above zero"):
        legal_stop(D(entry), LONG)

    assert legal_stop(D(entry), SHORT) > D("0.01")


@pytest.mark.parametrize("entry", ["0", "-5", "NaN", "sNaN", "Infinity", "1E+9"])
def test_an_entry_that_is_no_price_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match="an entry is a price"):
        legal_stop(D(entry), LONG)


@pytest.mark.parametrize("min_gap", ["-0.01", "NaN", "Infinity"])
def test_a_gap_that_is_none_is_refused(min_gap: str) -> None:
    with pytest.raises(ValueError, match="a gap is 0 or above"):
        legal_stop(D("10"), LONG, D(min_gap))


@given(entries, st.sampled_from(Side), gaps)
@example(D("1.002"), LONG, D("0.0001"))
@example(D("0.98995"), SHORT, D("0.01"))
def test_any_legal_stop_is_on_the_grid_and_on_the_losing_side(entry: Decimal, side: Side, min_gap: Decimal) -> None:
    legal = legal_stop(entry, side, min_gap)

    assert (legal * (100 if legal >= 1 else 10_000)) % 1 == 0
    assert legal < entry if side is LONG else legal > entry


@given(entries, st.sampled_from(Side))
def test_any_legal_stop_is_within_a_tick_of_the_gap(entry: Decimal, side: Side) -> None:
    distance = abs(entry - legal_stop(entry, side))

    assert D("0.005") <= distance <= D("0.015")


def test_the_tick_is_that_of_the_price_itself() -> None:
    assert [tick_at(D(price)) for price in ("250", "1", "0.9999", "0.01")] == [
        D("0.01"), D("0.01"), D("0.0001"), D("0.0001"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("price", "is_valid"),
    [
        ("1.01", True), ("1.010", True), ("1.001", False), ("0.9999", True), ("0.99995", False), ("0", False),
        ("-1", False), ("NaN", False), ("Infinity", False), ("1.0000000000000000000000000000000001", False),
    ],
)  # fmt: skip
def test_only_prices_on_the_grid_can_be_sent(price: str, is_valid: bool) -> None:
    assert is_on_grid(D(price)) is is_valid


def test_nothing_is_no_price() -> None:
    assert not is_price(None)
    assert not is_on_grid(None)


@pytest.mark.parametrize(("price", "text"), [("49.990", "49.99"), ("100", "100"), ("1E+2", "100"), ("5.00", "5")])
def test_equal_prices_are_written_alike(price: str, text: str) -> None:
    assert plain(D(price)) == text

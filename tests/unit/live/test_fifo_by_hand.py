"""What the broker's first in, first out makes of fills: long, short, flips and moves, by numbers worked by hand."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from fakes.told import bought, sold, split, transfer

from coldharbour import match_fifo
from coldharbour.live.fifo import FifoResult


# What comes back is not typed, so that decimals may stand beside plain numbers in what is expected.
def held(result: FifoResult) -> list[tuple[Any, ...]]:
    return [(shares.order_id, shares.qty, shares.price) for shares in result.open]


def profits(result: FifoResult) -> dict[str, tuple[Any, ...]]:
    return {key: (closing.qty, closing.profit) for key, closing in result.closed.items()}


def test_the_oldest_shares_are_sold_first() -> None:
    result = match_fifo([bought(0, "A", "100", "10"), bought(1, "B", "100", "12"), sold(2, "X", "150", "13")])

    assert profits(result) == {"X": (150, 350)}  # 100*(13-10) + 50*(13-12)
    assert held(result) == [("B", 50, 12)]
    assert result.quantity("KO") == 50


def test_shorts_are_covered_oldest_first() -> None:
    result = match_fifo([sold(0, "A", "100", "10"), sold(1, "B", "100", "12"), bought(2, "X", "150", "9")])

    assert profits(result) == {"X": (150, 250)}  # 100*(10-9) + 50*(12-9)
    assert held(result) == [("B", -50, 12)]


def test_a_flip_closes_everything_and_opens_the_rest_on_the_other_side() -> None:
    fills = [bought(0, "A", "100", "10"), sold(1, "X", "160", "11"), bought(2, "Y", "100", "8")]

    result = match_fifo(fills)

    assert profits(result) == {"X": (100, 100), "Y": (60, 180)}
    assert held(result) == [("Y", 40, 8)]


def test_fills_of_one_exit_order_are_added_up() -> None:
    result = match_fifo([bought(0, "A", "100", "10"), sold(1, "X", "30", "11"), sold(2, "X", "30", "9")])

    assert profits(result) == {"X": (60, 0)}


def test_a_split_changes_quantities_and_prices_and_no_money() -> None:
    fills = [bought(0, "A", "100", "10"), sold(2, "X", "150", "3")]

    result = match_fifo(fills, [split(1, "300")])

    assert held(result) == [("A", 250, Decimal("2.5"))]
    assert profits(result) == {"X": (150, 75)}


def test_shares_come_and_go_at_the_price_of_a_transfer() -> None:
    result = match_fifo([], [transfer(0, "100", "10", "in"), transfer(5, "-40", "12", "out")])

    assert held(result) == [("in", 60, 10)]
    assert profits(result) == {"out": (40, 80)}


def test_order_of_arrival_and_duplicates_change_nothing() -> None:
    fills = [bought(0, "A", "100", "10"), bought(1, "B", "100", "12"), sold(2, "X", "150", "13")]

    assert match_fifo([*fills[::-1], *fills]) == match_fifo(fills)


def test_each_symbol_has_an_inventory_of_its_own() -> None:
    result = match_fifo([bought(0, "A", "100", "10"), sold(1, "X", "50", "12", symbol="PEP")])

    assert result.quantity("KO") == 100
    assert result.quantity("PEP") == -50
    assert result.closed == {}

"""A replacement of a stop: it never loosens whatever asks, keeps its kind, and has a name of its own."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from string import ascii_lowercase

import pytest
from hypothesis import given
from hypothesis import strategies as st
from risk_values import D, lot, move

from coldharbour.live.model import Side
from coldharbour.risk.model import LoosensStop, StopKind, StopMove
from coldharbour.risk.replacement import changes, client_order_id, replace_stop

LONG, SHORT = Side.LONG, Side.SHORT
numbers = st.one_of(
    st.decimals("0.0001", "2", places=4), st.decimals("1", "300", places=2), st.decimals(allow_nan=True)
)
names = st.tuples(
    st.text(ascii_lowercase + "_", min_size=1, max_size=63),
    st.uuids().map(str),
    st.decimals("0.01", "900000", places=4),
    st.integers(1, 2**63),
    st.integers(1, 1000),
)


class TestNeverLoosens:
    @pytest.mark.parametrize(
        ("side", "new_stop"),
        [(LONG, "47.99"), (LONG, "48"), (LONG, "0.0001"), (SHORT, "52.01"), (SHORT, "52"), (SHORT, "9999")],
    )
    def test_a_looser_or_equal_stop_is_refused(self, side: Side, new_stop: str) -> None:
        with pytest.raises(LoosensStop, match="refused"):
            replace_stop(lot(side), D(new_stop))

    @pytest.mark.parametrize("new_stop", ["0", "-1", "NaN", "sNaN", "Infinity"])
    @pytest.mark.parametrize("kind", [StopKind.STOP, StopKind.STOP_LIMIT])
    def test_a_stop_that_is_no_price_is_refused(self, new_stop: str, kind: StopKind) -> None:
        with pytest.raises(LoosensStop):
            replace_stop(lot(stop_kind=kind, limit_price=D("47")), D(new_stop))
        with pytest.raises(LoosensStop):
            move(stop_price=D(new_stop))

    @pytest.mark.parametrize("stop", [None, D("NaN"), D("0"), D("-48")])
    def test_a_stop_that_cannot_be_compared_is_not_replaced(self, stop: Decimal | None) -> None:
        with pytest.raises(LoosensStop, match="not proved tighter"):
            replace_stop(lot(stop_price=stop), D("49.99"))

    def test_a_move_cannot_be_bent_afterwards(self) -> None:
        with pytest.raises(LoosensStop):
            replace(move(), stop_price=D("47"))
        with pytest.raises(LoosensStop):
            replace(move(), side=SHORT)

    @given(st.sampled_from(Side), st.sampled_from(StopKind), numbers, numbers, numbers)
    def test_any_replacement_that_can_be_built_is_tighter_and_on_the_grid(
        self, side: Side, kind: StopKind, old_stop: Decimal, old_limit: Decimal, new_stop: Decimal
    ) -> None:
        try:
            built = replace_stop(lot(side, stop_kind=kind, stop_price=old_stop, limit_price=old_limit), new_stop)
        except ValueError:
            return

        assert built.stop_price > old_stop if side is LONG else built.stop_price < old_stop
        assert (built.stop_price * (100 if built.stop_price >= 1 else 10_000)) % 1 == 0
        if built.limit_price is not None:
            assert (built.limit_price * (100 if built.limit_price >= 1 else 10_000)) % 1 == 0
            assert side.sign * (built.limit_price - old_limit) >= 0


class TestGridAndKind:
    @pytest.mark.parametrize("new_stop", ["49.985", "49.9901"])
    def test_a_stop_off_the_grid_is_refused(self, new_stop: str) -> None:
        with pytest.raises(ValueError, match="off the price grid"):
            replace_stop(lot(), D(new_stop))

    def test_a_limit_off_the_grid_is_refused(self) -> None:
        with pytest.raises(ValueError, match="off the price grid"):
            move(old_limit=D("47"), limit_price=D("48.995"))

    def test_a_trailing_stop_is_not_replaced(self) -> None:
        with pytest.raises(ValueError, match="trailing"):
            replace_stop(lot(stop_kind=StopKind.TRAILING_STOP), D("49.99"))

    @pytest.mark.parametrize(
        ("old_limit", "new_limit"), [("47", None), (None, "48.5"), ("NaN", "48.5"), ("sNaN", "48.5")]
    )
    def test_a_stop_keeps_its_kind(self, old_limit: str | None, new_limit: str | None) -> None:
        limits = [None if limit is None else D(limit) for limit in (old_limit, new_limit)]

        with pytest.raises(ValueError, match="keeps its kind"):
            move(old_limit=limits[0], limit_price=limits[1])

    @pytest.mark.parametrize(
        ("side", "prices", "new_limit"),
        [
            (LONG, ("0.96", "0.9555", "1.01"), "1.01"),  # 1.0055 lies between two cents: the tighter one
            (SHORT, ("1.05", "1.0645", "0.99"), "1.00"),  # 1.0045
            (LONG, ("0.96", "0.9255", "0.98"), "0.9455"),
        ],
    )
    def test_a_limit_between_two_ticks_takes_the_tighter_one(
        self, side: Side, prices: tuple[str, str, str], new_limit: str
    ) -> None:
        old_stop, old_limit, new_stop = map(D, prices)
        limited = lot(side, stop_kind=StopKind.STOP_LIMIT, stop_price=old_stop, limit_price=old_limit)

        assert replace_stop(limited, new_stop).limit_price == D(new_limit)

    def test_a_limit_that_is_not_known_keeps_no_distance(self) -> None:
        with pytest.raises(ValueError, match="cannot keep its distance"):
            replace_stop(lot(stop_kind=StopKind.STOP_LIMIT), D("49.99"))


class TestFields:
    def test_a_stop_is_asked_for_by_its_price_and_its_name(self) -> None:
        assert changes(move(stop_price=D("49.990")), "name") == {"stop_price": "49.99", "client_order_id": "name"}

    def test_a_stop_limit_by_both_its_prices(self) -> None:
        limited = move(old_limit=D("47"), limit_price=D("5E+1"))

        assert changes(limited, "name") == {"stop_price": "49.99", "limit_price": "50", "client_order_id": "name"}


class TestName:
    def test_it_says_whose_and_under_which_lease(self) -> None:
        name = client_order_id("live", "2b0b3c8e-9d1f-4a55-8b1e-6f6a3b7f9a10", D("49.99"), 17, 2)

        assert name.startswith("stop-live-e17-a2-")

    @given(names)
    def test_it_fits_the_broker_and_depends_on_nothing_else(self, facts: tuple[str, str, Decimal, int, int]) -> None:
        name = client_order_id(*facts)

        assert name == client_order_id(*facts)
        assert len(name) <= 128
        assert set(name) <= set(ascii_lowercase + "0123456789-_")

    @given(names, names)
    def test_other_facts_give_another_name(
        self, one: tuple[str, str, Decimal, int, int], other: tuple[str, str, Decimal, int, int]
    ) -> None:
        (slug, order_id, stop, epoch, attempt), own = one, client_order_id(*one)

        assert (client_order_id(other[0], order_id, stop, epoch, attempt) == own) is (other[0] == slug)
        assert (client_order_id(slug, other[1], stop, epoch, attempt) == own) is (other[1] == order_id)
        assert (client_order_id(slug, order_id, other[2], epoch, attempt) == own) is (other[2] == stop)
        assert (client_order_id(slug, order_id, stop, other[3], attempt) == own) is (other[3] == epoch)
        assert (client_order_id(slug, order_id, stop, epoch, other[4]) == own) is (other[4] == attempt)

    def test_equal_prices_give_one_name(self) -> None:
        assert client_order_id("live", "a", D("49.990"), 1) == client_order_id("live", "a", D("49.99"), 1)


def test_a_move_shows_what_it_replaces() -> None:
    assert replace_stop(lot(), D("49.99")) == StopMove(
        order_id="stop-1", side=LONG, old_stop=D("48"), stop_price=D("49.99")
    )

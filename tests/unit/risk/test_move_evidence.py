"""What readings prove of a stop's move: taken over, refused, overtaken, or stood still long enough."""

from __future__ import annotations

from typing import Any

import pytest
from risk_values import leg, move

from coldharbour.live.model import Side
from coldharbour.risk.evidence import Proof, Reading, proof
from coldharbour.risk.model import Leg

NAME = "stop-live-e1-a1-f00d"
OURS = leg("stop-2", stop="49.99", client_order_id=NAME, replaces="stop-1")
REPLACED = leg(status="replaced", replaced_by="stop-2")
THEIRS = leg("stop-9", stop="49.50", client_order_id="theirs", replaces="stop-1")


def reading(at_s: float = 0.0, **seen: Any) -> Reading:
    """Return a reading in which, unless said otherwise, the leg stands as before and the stream is healthy."""
    values: dict[str, Any] = {"at_s": at_s, "old": leg(), "stream_healthy": True}
    return Reading(**(values | seen))


def proved(*readings: Reading) -> bool | None:
    found: Proof | None = proof(move(), readings)
    return None if found is None else found.moved


class TestMoved:
    @pytest.mark.parametrize(
        "seen",
        [
            {"heir": OURS, "ours": OURS},
            {"ours": OURS},
            {"heir": OURS},
            {"heir": leg("stop-2", stop="49.990", replaces="stop-1", client_order_id="a name of the broker's")},
            {"heir": leg("stop-2", "new", "49.99")},
            {"heir": leg("stop-2", "filled", "49.99")},
            {"heir": leg("stop-2", "replaced", "49.99", replaced_by="stop-3")},
            {"heir": leg("stop-2", "canceled", "49.99")},
        ],
    )
    def test_the_leg_is_replaced_and_its_heir_was_read_back_at_our_stop(self, seen: dict[str, Any]) -> None:
        found = proof(move(), [reading(old=REPLACED, **seen)])

        assert found is not None
        assert (found.moved, found.new_order_id) == (True, "stop-2")

    def test_an_order_of_ours_that_says_what_it_replaced_stands_for_a_missing_link(self) -> None:
        assert proved(reading(old=leg(status="replaced"), ours=OURS)) is True

    def test_on_the_short_side_too(self) -> None:
        heir = leg("stop-2", stop="50.01", replaces="stop-1")
        old = leg(status="replaced", stop="52", replaced_by="stop-2")
        found = proof(move(Side.SHORT), [reading(old=old, heir=heir)])

        assert found is not None
        assert found.moved


class TestNotYetProved:
    @pytest.mark.parametrize(
        "seen",
        [
            {},
            {"ours": OURS},  # it waits beside a leg that still stands
            {"old": leg(status="pending_replace")},
            {"old": leg(status="pending_replace"), "ours": OURS},
            {"old": REPLACED},  # the heir was not read back
            {"old": REPLACED, "heir": THEIRS},  # that is not the heir
            {"old": leg(status="filled"), "ours": OURS},  # about to be rejected
            {"old": leg(status="filled"), "ours": leg("stop-2", "filled", "49.99")},  # a contradiction
        ],
    )
    def test_one_reading_of_something_under_way_proves_nothing(self, seen: dict[str, Any]) -> None:
        assert proved(reading(**seen)) is None

    def test_neither_do_many_while_it_is_under_way(self) -> None:
        for seen in ({"ours": OURS}, {"old": leg(status="pending_replace")}, {"old": REPLACED}):
            assert proved(*(reading(at_s, **seen) for at_s in (0, 10, 20, 30, 600))) is None

    def test_no_reading_proves_nothing(self) -> None:
        assert proved() is None


class TestNotMoved:
    @pytest.mark.parametrize("old", [leg(), leg(status="filled"), leg(status="pending_replace"), REPLACED])
    def test_our_order_was_rejected(self, old: Leg) -> None:
        assert proved(reading(old=old, ours=leg("stop-2", "rejected", "49.99"))) is False

    def test_the_heir_was_rejected(self) -> None:
        assert proved(reading(old=REPLACED, heir=leg("stop-2", "rejected", "49.99"))) is False

    def test_the_leg_was_replaced_at_another_price(self) -> None:
        assert proved(reading(old=leg(status="replaced", replaced_by="stop-9"), heir=THEIRS)) is False

    def test_the_leg_was_replaced_by_anothers_order_while_ours_waits(self) -> None:
        heir = leg("stop-9", stop="49.99", replaces="stop-1")

        assert proved(reading(old=leg(status="replaced", replaced_by="stop-9"), heir=heir, ours=OURS)) is False

    @pytest.mark.parametrize("status", ["filled", "canceled", "expired", "rejected"])
    def test_the_leg_ended_otherwise(self, status: str) -> None:
        assert proved(reading(old=leg(status=status))) is False
        assert proved(reading(old=leg(status=status), ours=leg("stop-2", "canceled", "49.99"))) is False


class TestStandingStill:
    @pytest.mark.parametrize("status", ["held", "new", "accepted", "done_for_day"])
    def test_three_readings_over_15_s_with_the_stream_healthy_are_enough(self, status: str) -> None:
        old = leg(status=status)

        assert proved(*(reading(at_s, old=old) for at_s in (100, 107, 115))) is False

    @pytest.mark.parametrize("times", [(100, 115), (100, 107, 114.9), (100, 101, 102, 103, 104, 105)])
    def test_fewer_or_faster_are_not(self, times: tuple[float, ...]) -> None:
        assert proved(*(reading(at_s) for at_s in times)) is None

    @pytest.mark.parametrize(
        "disturbed",
        [
            {"stream_healthy": False},
            {"old": leg(status="pending_replace")},
            {"old": leg(stop="48.5")},
            {"old": leg(status="new")},
            {"ours": OURS},
        ],
    )
    @pytest.mark.parametrize("place", [0, 1, 2])
    def test_whatever_moves_between_begins_the_count_anew(self, disturbed: dict[str, Any], place: int) -> None:
        readings = [reading(at_s) for at_s in (100, 108, 116)]
        readings[place] = reading(readings[place].at_s, **disturbed)

        assert proved(*readings) is None

    def test_after_a_disturbance_it_is_counted_from_there(self) -> None:
        quiet = [reading(at_s) for at_s in (110, 118, 125)]

        assert proved(reading(100, stream_healthy=False), *quiet) is False
        assert proved(reading(100, stream_healthy=False), *quiet[:2]) is None

    @pytest.mark.parametrize("status", ["canceled", "expired"])
    def test_an_order_of_ours_that_ended_before_it_took_over_disturbs_nothing(self, status: str) -> None:
        ours = leg("stop-2", status, "49.99")

        assert proved(reading(ours=ours)) is None
        assert proved(*(reading(at_s, ours=ours) for at_s in (100, 107, 115))) is False

    def test_a_leg_replaced_by_nothing_stands_still_too(self) -> None:
        replaced = leg(status="replaced")  # as after a corporate action

        assert proved(reading(old=replaced)) is None
        assert proved(*(reading(at_s, old=replaced) for at_s in (100, 107, 115))) is False


def test_a_proof_is_told_in_words_and_numbers() -> None:
    still = proof(move(), [reading(at_s) for at_s in (100, 107, 115)])

    assert still == Proof(moved=False, detail="stop-1 is held at 48, unchanged in 3 readings over 15 s")
    assert proof(move(), [reading(old=REPLACED, heir=OURS)]) == Proof(
        moved=True, detail="stop-2 replaced the leg at 49.99", new_order_id="stop-2"
    )

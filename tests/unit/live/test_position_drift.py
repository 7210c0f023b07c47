"""When a difference between the broker's quantities and ours is one, and when a fill under way explains it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from coldharbour.live.model import Fill
from coldharbour.live.positions.comparison import spelled_as
from coldharbour.live.positions.drift import differing
from coldharbour.live.positions.store import BrokerPosition

ASKED = datetime(2026, 10, 8, 16, 0, tzinfo=UTC)


def fill(qty: str, *, seconds: float, symbol: str = "KO") -> Fill:
    """Return a fill of signed shares, so many seconds after the broker was asked."""
    signed = Decimal(qty)
    at = ASKED + timedelta(seconds=seconds)
    return Fill(f"{symbol}{qty}{seconds}", at, "order", symbol, signed > 0, abs(signed), Decimal(60))


def holdings(**quantities: str) -> dict[str, Decimal]:
    return {symbol: Decimal(qty) for symbol, qty in quantities.items()}


def test_equal_quantities_agree_whatever_their_digits() -> None:
    assert differing(holdings(KO="10", AAPL="-5"), holdings(KO="10.000", AAPL="-5"), [], ASKED) == []


def test_a_symbol_that_only_one_side_holds_differs() -> None:
    assert differing(holdings(KO="10"), holdings(AAPL="5"), [], ASKED) == ["AAPL", "KO"]


def test_the_same_quantity_on_the_other_side_differs() -> None:
    assert differing(holdings(KO="10"), holdings(KO="-10"), [], ASKED) == ["KO"]


def test_a_fill_after_the_question_may_be_missing_in_the_answer() -> None:
    ours, recent = holdings(KO="30"), [fill("20", seconds=0.5)]

    assert differing(ours, holdings(KO="10"), recent, ASKED) == []
    assert differing(ours, holdings(KO="30"), recent, ASKED) == []
    assert differing(ours, holdings(KO="20"), recent, ASKED) == ["KO"]


def test_an_answer_may_stand_between_two_fills_after_the_question() -> None:
    recent = [fill("20", seconds=0.1), fill("-5", seconds=0.2), fill("7", seconds=0.3, symbol="AAPL")]

    assert differing(holdings(KO="25", AAPL="7"), holdings(KO="30"), recent, ASKED) == []


def test_a_fill_well_before_the_question_must_be_in_the_answer() -> None:
    assert differing(holdings(KO="30"), holdings(KO="10"), [fill("20", seconds=-10)], ASKED) == ["KO"]


def test_clocks_that_are_a_second_apart_make_no_drift() -> None:
    assert differing(holdings(KO="30"), holdings(KO="10"), [fill("20", seconds=-1)], ASKED) == []


def test_a_pair_is_known_by_the_name_that_its_fills_have() -> None:
    positions = [BrokerPosition(symbol, Decimal(1), None, None, ASKED) for symbol in ("BTCUSD", "KO", "ETHUSD")]

    assert [each.symbol for each in spelled_as(positions, ["BTC/USD", "KO"])] == ["BTC/USD", "KO", "ETHUSD"]

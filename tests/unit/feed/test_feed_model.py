"""Trades are read straight from msgpack, however a publisher writes its stamps; what is no trade says so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tape import NOON, message

from coldharbour.feed.model import LastPrice, Malformed, Trade, decode, read_trade

HALF_PAST = datetime(2026, 10, 8, 16, 30, 0, 250_000, tzinfo=UTC)
SECONDS = 1_791_477_000.25  # the same moment


def test_the_simulators_message_is_read_as_it_stands() -> None:
    trade = decode(message(101.1, symbol="AAPL", tape="C")).trade

    assert trade == Trade("AAPL", 101.1, NOON, size=100.0, conditions=("@",), tape="C")


@pytest.mark.parametrize(
    "stamp",
    [
        "2026-10-08T16:30:00.250000+00:00",
        "2026-10-08T12:30:00.250-04:00",
        "2026-10-08T16:30:00.250000000Z",
        HALF_PAST,
        "2026-10-08T16:30:00.250",
        SECONDS,
        int(SECONDS * 1_000),
        int(SECONDS * 1_000_000),
        int(SECONDS * 1_000_000_000),
    ],
)
def test_a_stamp_means_the_same_moment_however_it_is_written(stamp: object) -> None:
    raw = message(50.0, timestamp=stamp)

    try:
        trade = decode(raw).trade
    except msgspec.ValidationError:
        trade = read_trade(raw)

    assert trade.timestamp == HALF_PAST


@pytest.mark.parametrize(
    "changes",
    [
        {"price": None},
        {"price": "much"},
        {"symbol": 7},
        {"timestamp": None},
        {"timestamp": "yesterday"},
        {"conditions": [1]},
        {"conditions": {"code": "@"}},
    ],
)
def test_what_is_no_trade_is_called_malformed(changes: dict[str, Any]) -> None:
    trade = {"price": 50.0} | changes

    with pytest.raises(Malformed, match="not a trade"):
        read_trade(message(**trade))


def test_prices_written_as_text_are_read() -> None:
    assert read_trade(message("50.25", size=None)).price == 50.25


@given(st.binary(max_size=200))
def test_no_bytes_make_reading_raise_anything_else(raw: bytes) -> None:
    try:
        trade = read_trade(raw)
    except Malformed:
        return
    assert trade.timestamp.tzinfo is not None


@given(st.integers(min_value=-(2**63), max_value=2**64 - 1) | st.floats())
def test_no_number_as_a_stamp_makes_reading_raise_anything_else(stamp: float) -> None:
    try:
        trade = read_trade(message(50.0, timestamp=stamp))
    except Malformed:
        return
    assert trade.timestamp.tzinfo is not None


def test_a_price_is_as_old_as_its_trade_not_as_its_arrival() -> None:
    last = LastPrice("KO", Decimal(50), at=NOON, received_at=NOON + timedelta(minutes=5))

    assert last.age_s(NOON + timedelta(minutes=6)) == 360

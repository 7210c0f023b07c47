"""What the broker says becomes our values exactly, and what cannot be read is kept whole."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal, localcontext
from fractions import Fraction

import msgspec
import pytest
from broker_payloads import fill_json, order_fields, order_json
from hypothesis import example, given
from hypothesis import strategies as st

from coldharbour.broker import Malformed, to_utc, translate


def test_an_order_is_read_with_exact_decimals_and_utc_moments() -> None:
    order = translate.order(order_json(filled_qty="0.057436865"))

    assert (order.symbol, order.status, order.type) == ("AAPL", "new", "limit")
    assert (order.qty, order.filled_qty, order.limit_price) == (
        Decimal(10),
        Decimal("0.057436865"),
        Decimal("186.5"),
    )
    assert order.created_at == datetime(2026, 10, 8, 15, 10, 18, 94154, tzinfo=UTC)
    assert order.expires_at == datetime(2027, 1, 6, 21, tzinfo=UTC)
    assert (order.order_class, order.stop_price, order.replaces, order.legs) == ("", None, None, ())


def test_an_order_and_each_leg_keep_the_exact_text_they_came_in() -> None:
    leg = json.dumps(order_fields(id="leg-1", side="sell"), indent=1).encode()
    body = order_json(legs=[]).replace(b'"legs":[]', b'"legs": [ ' + leg + b" ]")

    order = translate.order(body)

    assert order.raw == body
    assert [found.raw for found in order.legs] == [leg]
    assert order.legs[0].id == "leg-1"


def test_rows_of_an_array_keep_their_own_exact_text() -> None:
    assert translate.rows(b'[ {"a" : 1.50} ,\n{"b":"\\u00e9"} ]') == [b'{"a" : 1.50}', b'{"b":"\\u00e9"}']


def test_unknown_fields_and_unknown_enumeration_values_are_no_reason_to_stop() -> None:
    order = translate.order(order_json(status="quantum", order_class="quad", raw="theirs", brand_new={"x": [1]}))

    assert (order.status, order.order_class) == ("quantum", "quad")
    assert b'"raw":"theirs"' in order.raw


def test_an_order_of_several_symbols_has_empty_fields_where_the_broker_sends_null() -> None:
    order = translate.order(order_json(symbol=None, side=None, qty=None, notional="25.5"))

    assert (order.symbol, order.side, order.qty, order.notional) == ("", "", None, Decimal("25.5"))


def test_numbers_sent_as_json_numbers_stay_exact() -> None:
    order = translate.order(order_json().replace(b'"186.5"', b"186.10000000000000000001"))

    assert order.limit_price == Decimal("186.10000000000000000001")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x01",
        b"null",
        b"[]",
        b'{"id":',
        b"\xff\xfe",
        b"<html>",
        b"[" * 100_000,
        order_json(qty="ten"),
        order_json(qty="NaN"),
        order_json(limit_price="Infinity"),
        order_json(id=None),
        order_json(id=7),
        order_json(updated_at=None),
        order_json(updated_at="yesterday"),
        order_json(updated_at="2026-10-08T15:10:18"),
        order_json(updated_at=17),
        order_json(legs=[{"id": "leg"}]),
        order_json(legs="none"),
    ],
)
def test_what_cannot_be_read_is_malformed_and_keeps_the_whole_text(raw: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        translate.order(raw)

    assert caught.value.raw == raw
    assert caught.value.reason


def test_text_that_is_no_utf8_is_malformed_even_in_a_field_that_nobody_knows() -> None:
    with pytest.raises(Malformed):
        translate.order(order_json(brand_new="?").replace(b'"?"', b'"\xff"'))


NUMBERS = ["", "10", "1e-3", "-0", " 7 ", "1_0", "NaN", "-inf", "sNaN", "ten", None, 0, 12, 1.5, True, 10**30]
STAMPS = [
    "2026-10-08T15:10:18", "2026-10-08T15:10:18Z", "2026-10-08T15:10:18.0941535Z", "2026-10-08T15:10:18.094153500Z",
    "2026-10-08T15:10:18.09415351Z", "2026-10-08T15:10:18.0941544999Z", "2026-10-08T11:10:18.9999995-04:00",
    "2026-10-08T11:10:18.5-04:00", "2026-10-08 15:10:18,5Z", "20261008T151018Z", "yesterday", "", None, 17,
]  # fmt: skip
WORDS = ["", "gtc", "\u00e9", None, 7]


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "qty": st.sampled_from(NUMBERS),
            "limit_price": st.sampled_from(NUMBERS),
            "updated_at": st.sampled_from(STAMPS),
            "filled_at": st.sampled_from(STAMPS),
            "id": st.sampled_from(WORDS),
            "symbol": st.sampled_from(WORDS),
            "extended_hours": st.sampled_from([True, None, "", 0]),
            "legs": st.sampled_from([None, [], "", "none", [order_fields(id="leg", qty="")], [{"id": "leg"}]]),
        },
    )
)
@example({"updated_at": "2026-10-08t15:10:18z"})
def test_an_order_means_the_same_whether_it_is_read_at_once_or_with_patience(changes: dict[str, object]) -> None:
    def meaning(raw: bytes) -> object:
        try:
            return msgspec.structs.replace(translate.order(raw), raw=b"")
        except Malformed:
            return Malformed

    with_a_tie = order_json(**changes, nobody_knows_it=".0000005 ")  # a tie of stamps is only read with patience

    assert meaning(order_json(**changes)) == meaning(with_a_tie)


def test_a_fill_carries_the_execution_id_that_the_stream_gives_it() -> None:
    raw = fill_json()

    activity = translate.activity(raw)

    assert activity.is_fill
    assert activity.execution_id == "7d1a9c52-40f4-4f0d-8a63-1f6b2c9e5d01"
    assert activity.transaction_time == datetime(2026, 10, 8, 15, 10, 18, 97465, tzinfo=UTC)
    assert (activity.qty, activity.cum_qty, activity.price) == (Decimal(1), Decimal(3), Decimal("86.88"))
    assert activity.raw == raw


def test_a_dividend_has_a_day_and_an_amount_and_no_execution_id() -> None:
    activity = translate.activity(
        b'{"id":"20261001000000000::c4d5e6f7-1a2b-4c3d-8e4f-5a6b7c8d9e0f","activity_type":"DIV",'
        b'"activity_sub_type":"CDIV","date":"2026-10-01","net_amount":"1.02","symbol":"T","qty":"2",'
        b'"description":"","status":"executed","created_at":"2026-10-02T06:10:11.123456Z"}'
    )

    assert not activity.is_fill
    assert activity.execution_id is None
    assert (activity.date, activity.net_amount, activity.status) == (
        date(2026, 10, 1),
        Decimal("1.02"),
        "executed",
    )


def test_a_trade_update_keeps_the_frame_and_the_order_inside_it() -> None:
    inner = order_json(status="filled", updated_at="2026-10-08T11:10:18.0983-04:00")
    frame = (
        b'{"stream":"trade_updates", "data":{"event":"fill","timestamp":"2026-10-08T15:10:18.097464903Z",'
        b'"execution_id":"e1","price":"86.88","qty":"1","position_qty":"-3","order": ' + inner + b"}}"
    )

    update = translate.trade_update(frame)

    assert (update.event, update.is_fill, update.execution_id) == ("fill", True, "e1")
    assert (update.price, update.qty, update.position_qty) == (Decimal("86.88"), Decimal(1), Decimal(-3))
    assert update.timestamp == datetime(2026, 10, 8, 15, 10, 18, 97465, tzinfo=UTC)
    assert update.order.updated_at == datetime(2026, 10, 8, 15, 10, 18, 98300, tzinfo=UTC)
    assert (update.raw, update.order.raw) == (frame, inner)


def test_a_bad_order_inside_a_frame_gives_the_whole_frame_back() -> None:
    frame = b'{"stream":"trade_updates","data":{"event":"new","order":{"id":"x"}}}'

    with pytest.raises(Malformed) as caught:
        translate.trade_update(frame)

    assert caught.value.raw == frame


def test_a_short_position_is_negative_whatever_sign_its_quantity_was_sent_with() -> None:
    def signed(qty: str, side: str) -> Decimal:
        return translate.position(json.dumps({"symbol": "KO", "qty": qty, "side": side}).encode()).signed_qty

    assert signed("-3", "short") == signed("3", "short") == Decimal(-3)
    assert signed("2.5", "long") == Decimal("2.5")


def test_a_position_without_a_quantity_is_malformed_and_never_flat() -> None:
    with pytest.raises(Malformed):
        translate.position(b'{"symbol":"KO","side":"long","qty":null}')


def test_the_account_and_the_clock_are_read() -> None:
    account = translate.account(
        b'{"id":"a","account_number":"PA3","status":"ACTIVE","cash":"98750.12","equity":"98750.12",'
        b'"last_equity":"98702.55318806517","short_market_value":"-5","shorting_enabled":true,"crypto_tier":1}'
    )
    clock = translate.market_clock(
        b'{"timestamp":"2026-10-08T11:10:18.094153596-04:00","is_open":true,'
        b'"next_open":"2026-10-09T09:30:00-04:00","next_close":"2026-10-08T16:00:00-04:00"}'
    )

    assert account.last_equity == Decimal("98702.55318806517")
    assert account.shorting_enabled
    assert clock.next_close == datetime(2026, 10, 8, 20, tzinfo=UTC)


@pytest.mark.parametrize(("day", "utc_hour"), [("2026-10-30", 13), ("2026-11-02", 14)])
def test_a_calendar_day_follows_new_york_through_the_change_of_clocks(day: str, utc_hour: int) -> None:
    raw = json.dumps({"date": day, "open": "09:30", "close": "13:00", "session_open": "0400"}).encode()

    found = translate.calendar_day(raw)

    assert found.date == date.fromisoformat(day)
    assert (found.open.hour, found.open.minute) == (utc_hour, 30)
    assert found.close - found.open == timedelta(hours=3, minutes=30)
    assert found.session_open == found.open - timedelta(hours=5, minutes=30)
    assert found.session_close is None


def test_market_data_floats_become_their_shortest_decimals() -> None:
    trades = translate.latest_trades(
        b'{"trades":{"KO":{"t":"2026-10-08T15:10:18Z","x":"V","p":86.88,"s":100,"c":["@"],"i":1,"z":"A"}}}'
    )
    bars, token = translate.bars_page(
        b'{"bars":{"KO":[{"t":"2026-10-08T04:00:00Z","o":1.1,"h":2,"l":1,"c":1.5,"v":10,"n":3,"vw":1.25}]},'
        b'"next_page_token":"t"}'
    )

    assert (trades["KO"].price, trades["KO"].conditions) == (Decimal("86.88"), ("@",))
    assert (bars["KO"][0].open, bars["KO"][0].trade_count, token) == (Decimal("1.1"), 3, "t")
    assert translate.bars_page(b'{"bars":null,"next_page_token":null}') == ({}, None)


def test_an_equity_history_may_have_windows_without_a_profit() -> None:
    points = translate.equity_history(
        b'{"timestamp":[1790985600,1791072000],"equity":[98702.55,98750.12],"profit_loss":[0,null]}'
    )

    assert points[0].at == datetime.fromtimestamp(1790985600, UTC)
    assert (points[1].equity, points[1].profit_loss) == (Decimal("98750.12"), None)


@given(
    moment=st.datetimes(min_value=datetime(1990, 1, 1), max_value=datetime(2090, 1, 1)),  # noqa: DTZ001
    digits=st.text(alphabet="0123456789", max_size=9),
    offset_min=st.integers(-14 * 60, 14 * 60),
)
def test_a_stamp_of_any_precision_and_offset_is_rounded_half_even(
    moment: datetime, digits: str, offset_min: int
) -> None:
    zone = timezone(timedelta(minutes=offset_min))
    whole = moment.replace(microsecond=0, tzinfo=zone)
    suffix = whole.isoformat()[19:]
    text = whole.isoformat()[:19] + (f".{digits}" if digits else "") + suffix

    micros = round(Fraction(int(digits or 0), 10 ** len(digits)) * 1_000_000)  # round() is half-even

    assert to_utc(text) == whole + timedelta(microseconds=micros)
    assert to_utc(text).tzinfo is UTC


@pytest.mark.parametrize(
    ("fraction", "micros"),
    [
        ("", 0),
        (".1", 100_000),
        (".12", 120_000),
        (".123", 123_000),
        (".1234", 123_400),
        (".12345", 123_450),
        (".123456", 123_456),
        (".1234565", 123_456),
        (".1234575", 123_458),
        (".12345651", 123_457),
        (".123456500", 123_456),
        (".123456501", 123_457),
        (".9999995", 1_000_000),
    ],
)
def test_a_stamp_has_none_to_nine_digits(fraction: str, micros: int) -> None:
    expected = datetime(2026, 10, 8, 15, 10, 18, tzinfo=UTC) + timedelta(microseconds=micros)

    assert to_utc(f"2026-10-08T15:10:18{fraction}Z") == expected


def test_decimals_do_not_depend_on_the_context_of_the_thread() -> None:
    with localcontext() as context:
        context.prec = 3

        assert translate.order(order_json(qty="12345.678901234")).qty == Decimal("12345.678901234")

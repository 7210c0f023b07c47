"""The price book: which price stands, what is refused and why, who hears of it, and that nothing grows."""

from __future__ import annotations

import tracemalloc
from datetime import datetime, timedelta
from decimal import Decimal

import anyio
import pytest
import structlog.testing
from hypothesis import given
from hypothesis import strategies as st
from tape import NOON, Tape, message

from coldharbour.feed.prices import MAX_SYMBOLS
from coldharbour.feed.watch import Move
from coldharbour.sessions import MarketSession, Schedule

HOUR = timedelta(hours=1)


def regular_until(close: datetime) -> Schedule:
    """Return a day whose regular hours begin three hours before noon."""
    opens = NOON - 3 * HOUR
    return Schedule([MarketSession(opens - HOUR, opens, close, close + 4 * HOUR, NOON.date())])


ALL_DAY = regular_until(NOON + 3 * HOUR)


@pytest.fixture
def tape() -> Tape:
    return Tape()


class TestTheLastPrice:
    def test_it_is_exactly_the_number_that_was_published(self, tape: Tape) -> None:
        tape.trade(101.10, 101.1, 100.9301)

        assert tape.price() == "100.9301"

    def test_it_knows_when_it_was_made_when_it_came_and_what_stood_before(self, tape: Tape) -> None:
        tape.open_at(50)
        tape.clock.advance(7)
        tape.book.take_in([message(50.5, at_s=3)])

        last = tape.book.last("KO")

        assert last is not None
        assert (last.price, last.previous) == (Decimal("50.5"), Decimal(50))
        assert (last.at, last.received_at) == (NOON + timedelta(seconds=3), NOON + timedelta(seconds=9))
        assert last.age_s(tape.clock.now()) == 6

    def test_of_many_trades_in_one_slice_the_newest_stands(self, tape: Tape) -> None:
        tape.trade(50, 50.01, 50.02, 50.03)

        assert tape.price() == "50.03"

    def test_an_unknown_symbol_has_none(self, tape: Tape) -> None:
        assert tape.book.last("KO") is None


class TestRefusal:
    @pytest.mark.parametrize("price", [0.0, -50.0, float("nan"), float("inf"), float("-inf")])
    def test_a_price_that_is_no_positive_number_is_counted_and_never_stands(self, tape: Tape, price: float) -> None:
        tape.open_at(50)

        tape.trade(price, price, price)

        assert tape.price() == "50.0"
        assert tape.book.counts.invalid == 3

    @pytest.mark.parametrize("price", [44.99, 55.01, 25.1, 99.9])
    def test_a_price_more_than_ten_percent_off_waits_for_a_second_one(self, tape: Tape, price: float) -> None:
        tape.open_at(50)

        tape.trade(price)

        assert tape.price() == "50.0"

        tape.trade(price)

        assert tape.price() == str(price)

    @pytest.mark.parametrize("price", [24.9, 100.1, 500.0, 5.0])
    def test_half_or_twice_the_price_takes_five_in_a_row(self, tape: Tape, price: float) -> None:
        tape.open_at(50)

        tape.trade(price, price, price, price, 50, price, price, price, price)
        assert tape.price() == "50.0"

        tape.trade(price)
        assert tape.price() == str(price)

    @pytest.mark.parametrize("price", [45.01, 54.99])
    def test_a_price_within_ten_percent_stands_at_once(self, tape: Tape, price: float) -> None:
        tape.open_at(50)

        tape.trade(price)

        assert tape.price() == str(price)

    def test_a_trade_at_the_old_price_clears_the_suspicion(self, tape: Tape) -> None:
        tape.open_at(50)

        tape.trade(60, 50, 60, 50, 60)

        assert tape.price() == "50.0"
        assert tape.book.counts.unconfirmed == 4  # the first price of the day waited too

    def test_the_same_trade_sent_twice_confirms_nothing(self, tape: Tape) -> None:
        tape.open_at(50)
        absurd = message(60.0, at_s=10)

        tape.book.take_in([absurd, absurd])

        assert tape.price() == "50.0"

    def test_two_absurd_prices_far_from_each_other_confirm_nothing(self, tape: Tape) -> None:
        tape.open_at(50)

        tape.trade(60, 40, 60, 40)

        assert tape.price() == "50.0"

    def test_the_first_price_of_a_symbol_waits_as_well(self, tape: Tape) -> None:
        tape.trade(50)

        assert tape.price() is None

    def test_a_trade_older_than_the_last_one_does_not_stand(self, tape: Tape) -> None:
        tape.open_at(50)

        tape.book.take_in([message(50.4, at_s=4), message(50.2, at_s=3)])

        assert tape.price() == "50.4"
        assert tape.book.counts.late == 1

    def test_a_stamp_from_the_future_does_not_shut_out_what_follows(self, tape: Tape) -> None:
        tape.open_at(50)
        tape.book.take_in([message(50.4, at_s=86_400)])

        tape.trade(50.2)

        assert tape.price() == "50.2"

    def test_excluded_trades_are_counted_and_never_stand(self) -> None:
        tape = Tape(exclude=("D",))
        tape.open_at(50)

        tape.trade(50.5, conditions=["@", "D"])
        tape.trade(500, 500, conditions=["M"])

        assert tape.price() == "50.0"
        assert tape.book.counts.excluded == 3

    def test_form_t_sets_a_price_outside_regular_hours_alone(self, tape: Tape) -> None:
        with tape.book.watch() as watch:
            watch.sessions = regular_until(NOON + timedelta(seconds=4))

            tape.trade(50, 50, 50.1, 50.2, 50.3, conditions=["@", "T"])

        assert tape.price() == "50.3"  # 12:00:05 confirms 12:00:04; what came before counts for nothing
        assert tape.book.counts.excluded == 3

    def test_what_is_no_trade_is_counted_and_harms_no_other(self, tape: Tape) -> None:
        tape.open_at(50)

        tape.book.take_in([b"\xc1 not msgpack", b"", message(50.1, at_s=3), b"\x80", message([], at_s=9)])

        assert tape.price() == "50.1"
        assert tape.book.counts.malformed == 4

    def test_stamps_as_numbers_are_taken(self, tape: Tape) -> None:
        since = NOON.timestamp()

        tape.book.take_in([message(50.0, timestamp=since + 1), message(50.1, timestamp=int(since + 2))])

        assert tape.price() == "50.1"

    @given(st.lists(st.binary(max_size=60) | st.floats().map(message), max_size=20))
    def test_no_slice_raises_and_every_message_is_counted_once(self, messages: list[bytes]) -> None:
        tape = Tape()

        tape.book.take_in(messages)

        assert tape.book.counts.taken + tape.book.counts.rejected == len(messages)


class TestSeeds:
    def test_a_seed_stands_until_a_newer_trade_and_needs_no_confirmation(self, tape: Tape) -> None:
        assert tape.book.seed("KO", Decimal("49.90"), NOON - HOUR)

        tape.trade(50)

        assert tape.price() == "50.0"

    def test_an_older_seed_replaces_nothing(self, tape: Tape) -> None:
        tape.open_at(50)

        assert not tape.book.seed("KO", Decimal(49), NOON - HOUR)
        assert tape.price() == "50.0"

    @pytest.mark.parametrize("price", ["0", "-1", "NaN", "Infinity"])
    def test_a_seed_that_is_no_price_is_not_taken(self, tape: Tape, price: str) -> None:
        assert not tape.book.seed("KO", Decimal(price), NOON)

    def test_a_seed_is_no_trade_of_the_stream(self, tape: Tape) -> None:
        tape.book.seed("KO", Decimal(50), NOON)

        assert tape.book.heard_at is None


class TestWatches:
    def test_a_reader_gets_every_symbol_once_with_its_newest_price(self, tape: Tape) -> None:
        with tape.book.watch() as watch:
            watch.follow(["KO", "PEP"])
            tape.trade(50, 50.2, 50.1)
            tape.trade(170, 170.5, symbol="PEP")
            tape.trade(50.3)

            moves = watch.take()

        assert [(move.last.symbol, str(move.last.price)) for move in moves] == [("KO", "50.3"), ("PEP", "170.5")]

    def test_nothing_is_told_twice(self, tape: Tape) -> None:
        with tape.book.watch() as watch:
            watch.follow(["KO"])
            tape.open_at(50)
            watch.take()

            assert watch.take() == []

    def test_only_the_symbols_that_are_followed_are_told(self, tape: Tape) -> None:
        with tape.book.watch() as watch:
            watch.follow(["KO", "PEP"])
            watch.follow(["PEP"])
            tape.open_at(50)

            assert watch.take() == []

    def test_what_is_known_already_is_told_to_a_new_follower(self, tape: Tape) -> None:
        tape.open_at(50)

        with tape.book.watch() as watch:
            watch.follow(["KO"])

            assert [str(move.last.price) for move in watch.take()] == ["50.0"]

    def test_two_readers_each_get_everything(self, tape: Tape) -> None:
        with tape.book.watch() as one, tape.book.watch() as other:
            one.sessions = other.sessions = ALL_DAY
            for watch in (one, other):
                watch.follow(["KO"])
            tape.trade(50, 50.4)
            one.take()
            tape.trade(50.1)

            assert [bounds(move) for move in one.take()] == [("50.1", "50.1")]
            assert [bounds(move) for move in other.take()] == [("50.4", "50.1")]

    def test_high_and_low_cover_all_trades_since_the_last_look(self, tape: Tape) -> None:
        with tape.book.watch() as watch:
            watch.sessions = ALL_DAY
            watch.follow(["KO"])
            tape.trade(50, 50)
            tape.trade(51, 49.5, 50.2)
            tape.trade(50.6)

            assert [bounds(move) for move in watch.take()] == [("51.0", "49.5")]

    def test_only_regular_hours_count_to_the_moment(self, tape: Tape) -> None:
        with tape.book.watch() as watch:
            watch.sessions = regular_until(NOON + timedelta(seconds=4))
            watch.follow(["KO"])
            tape.trade(50, 50, 50.2)  # up to 12:00:03
            tape.trade(51, 49)  # from 12:00:04 on, when the session is over

            [move] = watch.take()

        assert bounds(move) == ("50.2", "50.0")
        assert str(move.last.price) == "49.0"

    def test_a_slice_across_the_open_counts_its_newest_price_alone(self, tape: Tape) -> None:
        opens = NOON + timedelta(seconds=4)
        with tape.book.watch() as watch:
            watch.sessions = Schedule([MarketSession(NOON - HOUR, opens, NOON + HOUR, NOON + HOUR, NOON.date())])
            watch.follow(["KO"])

            tape.trade(50, 50, 51, 50.2, 50.1)  # 51 is from before the open

            assert [bounds(move) for move in watch.take()] == [("50.1", "50.1")]

    def test_without_a_calendar_no_hour_is_regular(self, tape: Tape) -> None:
        with tape.book.watch() as watch:
            watch.follow(["KO"])
            tape.open_at(50)

            assert [bounds(move) for move in watch.take()] == [(None, None)]

    def test_a_watch_that_ended_leaves_nothing_behind(self, tape: Tape) -> None:
        with tape.book.watch() as watch:
            watch.follow(["KO"])

        tape.open_at(50)

        assert watch.take() == []

    @pytest.mark.anyio
    async def test_a_reader_is_woken_by_the_first_move_and_by_hand(self, tape: Tape) -> None:
        with tape.book.watch() as watch, anyio.fail_after(5):
            watch.follow(["KO"])
            tape.open_at(50)
            await watch.wait()
            watch.wake()
            await watch.wait()


def bounds(move: Move) -> tuple[str | None, str | None]:
    high, low = (None if value is None else str(value) for value in (move.high, move.low))
    return high, low


class TestSilence:
    def test_it_begins_after_the_limit_and_is_told_once_with_what_was_refused(self, tape: Tape) -> None:
        tape.open_at(50)
        tape.clock.advance(14)
        with structlog.testing.capture_logs() as lines:
            tape.book.report_silence()
            tape.clock.advance(2)
            tape.book.take_in([b"rubbish"])
            tape.book.report_silence()
            tape.book.report_silence()

        [line] = lines
        assert line["event"] == "feed.silent"
        assert (line["silent_s"], line["malformed"], line["log_level"]) == (16, 1, "warning")
        assert tape.book.is_silent

    def test_its_end_is_told_once_and_hearing_begins_anew(self, tape: Tape) -> None:
        tape.open_at(50)
        heard_before = tape.book.hearing_since
        tape.clock.advance(60)
        tape.book.report_silence()
        with structlog.testing.capture_logs() as lines:
            tape.trade(50.1)
            tape.trade(50.2)

        assert [line["event"] for line in lines] == ["feed.recovered"]
        assert not tape.book.is_silent
        assert heard_before is not None
        assert tape.book.hearing_since == NOON + timedelta(seconds=63)

    def test_a_stream_that_never_spoke_is_silent_too(self, tape: Tape) -> None:
        tape.clock.advance(16)

        assert tape.book.is_silent
        assert tape.book.hearing_since is None

    def test_messages_that_set_no_price_do_not_end_it(self, tape: Tape) -> None:
        tape.clock.advance(16)

        tape.trade(50, 50, conditions=["I"])

        assert tape.book.is_silent


class TestMemory:
    def test_a_storm_of_ticks_does_not_grow_it(self, tape: Tape) -> None:
        with tape.book.watch() as watch:
            watch.sessions = ALL_DAY
            watch.follow(["KO"])
            storm = [message(50 + number % 7 / 100, at_s=number / 1000) for number in range(1000)]
            tape.book.take_in(storm)
            tracemalloc.start()
            before, _ = tracemalloc.get_traced_memory()
            for _ in range(100):
                tape.book.take_in(storm)
            after, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()

        assert after - before < 20_000

    def test_made_up_symbols_are_bounded(self, tape: Tape) -> None:
        tape.book.take_in([message(50.0, symbol=f"X{number}") for number in range(MAX_SYMBOLS + 10)])
        tape.book.take_in([message(50.0, symbol="A" * 500)])

        assert tape.book.counts.crowded == 11

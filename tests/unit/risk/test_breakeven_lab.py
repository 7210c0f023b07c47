"""What break-even would have made of a closed trade, worked by hand for both sides, and what holds for any bars."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldharbour.feed.model import MinuteBar
from coldharbour.live.model import Side
from coldharbour.risk.lab.replay import TRIGGERS, Outcome, Trial, bars_before_exit, has_risk, replay, total

D = Decimal
TEN = datetime(2026, 10, 8, 14, 0, tzinfo=UTC)
OPENLESS = tuple[str, str]
WITH_OPEN = tuple[str, str, str]


def minutes(*prices: OPENLESS | WITH_OPEN) -> list[MinuteBar]:
    """Return one bar a minute from (high, low) or (high, low, open)."""
    return [
        MinuteBar(TEN + timedelta(minutes=number), *(D(price) for price in each)) for number, each in enumerate(prices)
    ]


def trial(side: Side, exit_price: str, *prices: OPENLESS | WITH_OPEN, initial_stop: str = "") -> Trial:
    """Return a trade of 100 shares from 50 with 2 at risk a share: break-even at 49.99 (long) or 50.01 (short)."""
    return Trial(
        side=side,
        qty=D(100),
        entry_price=D(50),
        initial_stop=D(initial_stop or ("48" if side is Side.LONG else "52")),
        exit_price=D(exit_price),
        pnl_cash=side.sign * 100 * (D(exit_price) - 50),
        bars=minutes(*prices),
    )


LONG, SHORT = Side.LONG, Side.SHORT


@pytest.mark.parametrize(
    ("held", "pnl_cash", "pnl_r", "came_of_it"),
    [
        # the trigger of 1 R is 52 for the long trade and 48 for the short one
        (trial(LONG, "48", ("52", "50.5"), ("51", "49.99")), "-1", "-0.005", "armed stopped saved"),
        (trial(SHORT, "52", ("49.5", "48"), ("50.01", "49")), "-1", "-0.005", "armed stopped saved"),
        (trial(LONG, "47.90", ("52", "50.5"), ("51", "49")), "-1", "-0.005", "armed stopped saved"),
        (trial(LONG, "56", ("52", "50.5"), ("51", "49.98"), ("56", "51")), "-1", "-0.005", "armed stopped scratched"),
        (trial(SHORT, "44", ("49.5", "48"), ("50.02", "49"), ("49", "44")), "-1", "-0.005", "armed stopped scratched"),
        (trial(LONG, "49", ("52", "50.5"), ("51", "49")), "-1", "-0.005", "armed stopped"),
        (trial(LONG, "48", ("51.99", "50.5"), ("51", "48")), "-200", "-1", ""),
        (trial(SHORT, "52", ("49.5", "48.01"), ("52", "49")), "-200", "-1", ""),
        (trial(LONG, "48", ("51", "48")), "-200", "-1", ""),
        (trial(LONG, "53", ("52", "49"), ("53", "50")), "300", "1.5", "armed"),
        (trial(SHORT, "47", ("51", "48"), ("50", "47")), "300", "1.5", "armed"),
        (trial(LONG, "48", ("52", "50.5", "51"), ("49.8", "48", "49.5")), "-50", "-0.25", "armed stopped saved"),
        (trial(SHORT, "52", ("49.5", "48", "49"), ("52", "50.2", "50.6")), "-60", "-0.3", "armed stopped saved"),
        (trial(LONG, "48", ("52", "50.5", "51"), ("49.8", "48")), "-1", "-0.005", "armed stopped saved"),
        (trial(LONG, "48", ("52", "50.5"), ("51", "49.5", "50.2")), "-1", "-0.005", "armed stopped saved"),
        (trial(LONG, "47", ("52", "50.5", "51"), ("49", "46", "47")), "-300", "-1.5", "armed stopped"),
    ],
    ids=[
        "saved, long", "saved, short", "saved from a worse fill", "scratched, long", "scratched, short",
        "a smaller loss is neither", "not armed, long", "not armed, short", "straight to the stop",
        "one bar from the trigger to the stop ends nothing, long", "one bar ends nothing, short",
        "a gap ends it at the open, long", "a gap ends it at the open, short", "a gap without a known open",
        "an open before the stop is no gap", "a gap beyond the initial stop saves nothing",
    ],
)  # fmt: skip
def test_a_trade_ends_as_worked_by_hand(held: Trial, pnl_cash: str, pnl_r: str, came_of_it: str) -> None:
    outcome = replay(held, D(1))

    assert outcome == Outcome(pnl_cash=D(pnl_cash), pnl_r=D(pnl_r), **dict.fromkeys(came_of_it.split(), True))


def test_a_stop_that_stood_at_break_even_does_not_move() -> None:
    held = trial(LONG, "51", ("52", "50.5"), ("51", "49.992"), ("51", "51"), initial_stop="49.995")

    assert [replay(held, trigger_r).armed for trigger_r in TRIGGERS] == [False] * 6


def test_every_trigger_has_a_row_and_sums_its_trades() -> None:
    book = [
        trial(LONG, "48", ("53.1", "50.5"), ("51", "48")),  # reached 1.5 R: 1 and 1.5 save it
        trial(SHORT, "42", ("49.5", "46"), ("50.5", "47"), ("47", "42")),  # reached 2 R, came back, won 4 R
    ]

    rows = [total(trigger_r, (replay(held, trigger_r) for held in book)) for trigger_r in TRIGGERS]

    assert [(row.armed, row.stopped, row.saved, row.scratched, row.pnl_cash, row.pnl_r) for row in rows] == [
        (0, 0, 0, 0, D(600), D(3)),
        (2, 2, 1, 1, D(-2), D("-0.01")),
        (2, 2, 1, 1, D(-2), D("-0.01")),
        (1, 1, 0, 1, D(-201), D("-1.005")),
        (1, 0, 0, 0, D(600), D(3)),
        (1, 0, 0, 0, D(600), D(3)),
    ]
    assert {row.trades for row in rows} == {2}


def test_the_minute_of_the_exit_tells_only_what_came_before_it() -> None:
    bars = minutes(("52", "51", "51"), ("60", "40", "51.5"), ("70", "30", "60"))

    assert bars_before_exit(bars, TEN + timedelta(seconds=80), D(48)) == [
        MinuteBar(TEN, D(52), D(51), D(51)),
        MinuteBar(TEN + timedelta(minutes=1), D("51.5"), D(48), D("51.5")),
    ]


def test_an_exit_whose_minute_has_no_known_open_passed_the_stop_on_its_way() -> None:
    bars = [MinuteBar(TEN, D(52), D(51))]

    seen = bars_before_exit(bars, TEN + timedelta(seconds=80), D(48))

    assert seen == [*bars, MinuteBar(TEN + timedelta(minutes=1), D(48), D(48))]


def test_a_trade_without_a_stop_on_its_losing_side_has_no_risk() -> None:
    stops = [None, D(48), D(50), D(52)]

    assert [has_risk(LONG, D(50), stop) for stop in stops] == [False, True, False, False]
    assert [has_risk(SHORT, D(50), stop) for stop in stops] == [False, False, False, True]


PRICES = st.decimals("40", "60", places=2)


@given(st.sampled_from(Side), PRICES, st.lists(st.lists(PRICES, min_size=3, max_size=3), max_size=8))
def test_no_break_even_is_what_was_and_nothing_is_both_saved_and_scratched(
    side: Side, exit_price: Decimal, prices: list[list[Decimal]]
) -> None:
    bars = [(str(high), str(low), str(opened)) for low, opened, high in map(sorted, prices)]
    held = trial(side, str(exit_price), *bars)

    outcomes = [replay(held, trigger_r) for trigger_r in TRIGGERS]

    assert outcomes[0].pnl_cash == held.pnl_cash
    assert not any(one.saved and one.scratched for one in outcomes)
    assert all(one.pnl_cash == held.pnl_cash for one in outcomes if not one.stopped)
    assert all(one.armed and one.pnl_cash <= -1 for one in outcomes if one.stopped)

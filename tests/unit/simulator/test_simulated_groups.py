"""Brackets, OTO, OCO and trailing stops behave in the simulator as Alpaca's do."""

from __future__ import annotations

from decimal import Decimal

import pytest
from simulated_bench import Bench, child, rows, text


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_bracket_is_answered_with_two_held_legs_of_one_creation(bench: Bench) -> None:
    bench.price("AAPL", "100")

    placed = bench.place(
        qty=10,
        order_class="bracket",
        take_profit={"limit_price": 110},
        stop_loss={"stop_price": "95", "limit_price": 94},
    )

    target, stop = rows(placed, "legs")
    assert (placed["status"], target["status"], stop["status"]) == ("pending_new", "held", "held")
    assert (target["type"], stop["type"], stop["limit_price"]) == ("limit", "stop_limit", "94")
    assert placed["created_at"] == target["created_at"] == stop["created_at"]
    assert text(placed, "created_at") > text(placed, "submitted_at")


def test_a_filled_entry_releases_the_target_and_keeps_the_stop_held(bench: Bench) -> None:
    parent = bench.bracket()

    target, stop = bench.legs(parent)
    assert (parent["status"], target["status"], stop["status"]) == ("filled", "new", "held")
    assert text(target, "submitted_at") > text(parent, "submitted_at")
    assert stop["submitted_at"] == parent["submitted_at"]
    assert bench.told(parent)[:2] == ["pending_new", "new"]
    assert bench.told(parent)[-1] == "fill"
    assert bench.told(target) == ["new"]
    assert bench.told(stop) == ["held"]


def test_a_partly_filled_entry_leaves_its_exits_asleep(bench: Bench) -> None:
    bench.price("AAPL", "100")
    placed = bench.place(qty=10, order_class="bracket", take_profit={"limit_price": 110}, stop_loss={"stop_price": 95})
    blotter = bench.account.blotter
    entry = blotter.book.get(text(placed, "id"))
    bench.clock.advance(0.07)
    bench.account.desk.run_due(bench.broker.now())

    blotter.fill(entry, Decimal(4), Decimal(100), blotter.moment(bench.broker.now()))

    target, stop = bench.legs(placed)
    assert (bench.read(placed)["status"], target["status"], stop["status"]) == ("partially_filled", "held", "held")


@pytest.mark.parametrize(
    ("side", "target", "stop", "reached"), [("buy", "110", "95", "110.5"), ("sell", "90", "105", "89.5")]
)
def test_a_reached_target_fills_at_its_limit_and_cancels_the_stop(
    bench: Bench, side: str, target: str, stop: str, reached: str
) -> None:
    parent = bench.bracket(side=side, target=target, stop=stop)

    bench.price("AAPL", reached)

    profit, loss = bench.legs(parent)
    assert (profit["status"], profit["filled_avg_price"]) == ("filled", target)
    assert loss["status"] == "canceled"
    assert bench.told(loss) == ["held", "canceled"]
    assert bench.held() == "0"
    assert bench.read(parent)["status"] == "filled"


@pytest.mark.parametrize(
    ("side", "target", "stop", "reached"), [("buy", "110", "95", "94.2"), ("sell", "90", "105", "105.7")]
)
def test_a_reached_stop_fills_at_the_market_and_cancels_the_target(
    bench: Bench, side: str, target: str, stop: str, reached: str
) -> None:
    parent = bench.bracket(side=side, target=target, stop=stop)

    bench.price("AAPL", reached)

    profit, loss = bench.legs(parent)
    assert (loss["status"], loss["filled_avg_price"]) == ("filled", reached)
    assert profit["status"] == "canceled"
    assert bench.held() == "0"


def test_a_stop_limit_waits_for_its_limit_once_it_has_triggered(bench: Bench) -> None:
    bench.price("AAPL", "100")
    parent = bench.place(
        qty=10, order_class="bracket", take_profit={"limit_price": 110}, stop_loss={"stop_price": 95, "limit_price": 94}
    )
    bench.settle()

    bench.price("AAPL", "93")
    waiting = bench.legs(parent)[1]
    bench.price("AAPL", "94")
    filled = bench.legs(parent)[1]

    assert (waiting["status"], filled["status"], filled["filled_avg_price"]) == ("new", "filled", "94")


def test_a_partly_filled_target_shrinks_the_stop(bench: Bench) -> None:
    parent = bench.bracket(qty=10)
    blotter = bench.account.blotter
    target = blotter.book.get(text(bench.legs(parent)[0], "id"))

    blotter.fill(target, Decimal(3), Decimal(110), blotter.moment(bench.broker.now()))

    assert bench.legs(parent)[1]["qty"] == "7"
    bench.price("AAPL", "94")
    assert bench.held() == "0"


@pytest.mark.parametrize("leg", [0, 1])
def test_cancelling_either_leg_cancels_both_the_stop_first(bench: Bench, leg: int) -> None:
    parent = bench.bracket()

    bench.account.cancel(text(bench.legs(parent)[leg], "id"))
    bench.settle()

    target, stop = bench.legs(parent)
    assert (target["status"], stop["status"]) == ("canceled", "canceled")
    assert text(stop, "canceled_at") < text(target, "canceled_at")
    assert bench.read(parent)["status"] == "filled"
    assert bench.held() == "10"


def test_cancelling_an_unfilled_entry_cancels_its_held_legs(bench: Bench) -> None:
    bench.price("AAPL", "100")
    parent = bench.place(
        qty=10, type="limit", limit_price=90, order_class="bracket", take_profit={"limit_price": 110},
        stop_loss={"stop_price": 85},
    )  # fmt: skip
    bench.settle()

    bench.account.cancel(text(parent, "id"))
    bench.settle()

    assert bench.read(parent)["status"] == "canceled"
    assert [leg["status"] for leg in bench.legs(parent)] == ["canceled", "canceled"]


def test_an_oto_sends_its_only_leg_out_when_the_entry_fills(bench: Bench) -> None:
    bench.price("AAPL", "100")

    parent = bench.place(qty=5, order_class="oto", stop_loss={"stop_price": 95})
    bench.settle()

    (stop,) = rows(bench.read(parent), "legs")
    assert stop["status"] == "new"
    bench.price("AAPL", "94")
    assert bench.read(stop)["status"] == "filled"


def test_an_ocos_parent_is_the_target_and_its_stop_is_never_told_as_new(bench: Bench) -> None:
    bench.price("AAPL", "100")
    bench.place(qty=10)
    bench.settle()

    pair = bench.place(
        side="sell",
        qty=10,
        type="limit",
        order_class="oco",
        take_profit={"limit_price": 110},
        stop_loss={"stop_price": 95},
    )
    bench.settle()
    (stop,) = rows(bench.read(pair), "legs")
    bench.price("AAPL", "111")

    assert (pair["type"], pair["limit_price"], stop["status"]) == ("limit", "110", "held")
    assert bench.read(pair)["status"] == "filled"
    assert bench.told(stop) == ["held", "canceled"]
    assert bench.held() == "0"


def test_a_trailing_stop_follows_the_best_price_and_fires_on_the_way_back(bench: Bench) -> None:
    bench.price("AAPL", "100")
    bench.place(qty=10)
    bench.settle()
    trailing = bench.place(side="sell", qty=10, type="trailing_stop", trail_percent=5)
    first = (trailing["hwm"], trailing["stop_price"])

    bench.price("AAPL", "120")
    risen = bench.read(trailing)
    bench.price("AAPL", "114.5")
    waiting = bench.read(trailing)
    bench.price("AAPL", "113.9")

    assert first == ("100", "95")
    assert (risen["hwm"], risen["stop_price"], waiting["status"]) == ("120", "114", "new")
    assert (bench.read(trailing)["status"], bench.held()) == ("filled", "0")


def test_the_sibling_cancel_can_be_lost_on_the_stream_and_is_true_in_rest(bench: Bench) -> None:
    bench.broker.quirks.lose_sibling_cancel = True
    parent = bench.bracket()

    bench.price("AAPL", "111")

    stop = bench.legs(parent)[1]
    assert (stop["status"], bench.told(stop)) == ("canceled", ["held"])


def test_a_fired_stop_can_report_the_target_as_replaced(bench: Bench) -> None:
    bench.broker.quirks.take_profit_replaced_on_stop_fill = True
    parent = bench.bracket()

    bench.price("AAPL", "94")

    target, stop = bench.legs(parent)
    assert (target["status"], target["replaced_by"], stop["status"]) == ("replaced", None, "filled")


def test_a_fired_stop_can_change_its_id(bench: Bench) -> None:
    bench.broker.quirks.stop_id_changes_on_trigger = True
    parent = bench.bracket()
    before = bench.legs(parent)[1]

    bench.price("AAPL", "94")

    old, after = bench.read(before), bench.legs(parent)[1]
    assert (old["status"], old["replaced_by"]) == ("replaced", after["id"])
    assert (after["status"], after["replaces"], bench.held()) == ("filled", before["id"], "0")


def test_partials_can_be_told_backwards_and_within_one_millisecond(bench: Bench) -> None:
    bench.broker.quirks.out_of_order_partials = True
    backwards = bench.bracket(qty=50)
    bench.broker.quirks.out_of_order_partials = False
    bench.broker.quirks.same_ms_partials = True
    bench.price("MSFT", "400")
    at_once = bench.place(symbol="MSFT", qty=50)
    bench.settle()

    assert bench.told(backwards)[-2:] == ["fill", "partial_fill"]
    stamps = {text(event, "timestamp")[:23] for event in bench.events if "price" in event and _is_of(event, at_once)}
    assert (len(bench.told(at_once)), len(stamps)) == (5, 1)


def _is_of(event: dict[str, object], order: dict[str, object]) -> bool:
    return child(event, "order")["id"] == order["id"]

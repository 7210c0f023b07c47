"""PATCH and DELETE in the simulator: what they answer, what they change, how they fail."""

from __future__ import annotations

import pytest
from coldharbour_plugins.simulator.broker import Refused
from coldharbour_plugins.simulator.quirks import LegLayout
from simulated_bench import Bench, child, rows, text


@pytest.fixture
def bench() -> Bench:
    return Bench()


def refusal_of_replace(bench: Bench, order: dict[str, object], **changes: object) -> Refused:
    with pytest.raises(Refused) as refusal:
        bench.account.replace(text(order, "id"), changes)
    return refusal.value


def test_a_replaced_held_stop_is_a_new_order_of_the_old_creation_in_the_same_group(bench: Bench) -> None:
    parent = bench.bracket()
    old = bench.legs(parent)[1]

    new = bench.account.replace(text(old, "id"), {"stop_price": "97", "client_order_id": "mine"})
    waiting = bench.read(old)
    bench.settle()

    gone, now = bench.read(old), bench.legs(parent)[1]
    assert (waiting["status"], gone["status"], gone["replaced_by"]) == ("pending_replace", "replaced", new["id"])
    assert (now["id"], now["replaces"], now["stop_price"], now["status"]) == (new["id"], old["id"], "97", "held")
    assert (now["created_at"], now["client_order_id"]) == (old["created_at"], "mine")
    assert text(now, "submitted_at") > text(old, "submitted_at")
    assert gone["canceled_at"] is None
    assert bench.told(old)[-2:] == ["pending_replace", "replaced"]
    assert bench.told(new) == ["held"]
    bench.price("AAPL", "96")
    assert (bench.read(new)["status"], bench.held()) == ("filled", "0")


def test_the_replaced_event_carries_the_old_order(bench: Bench) -> None:
    parent = bench.bracket()
    stop = bench.legs(parent)[1]

    bench.account.replace(text(stop, "id"), {"stop_price": "97"})
    bench.settle()

    told = next(event for event in bench.events if event["event"] == "replaced")
    assert (child(told, "order")["id"], child(told, "order")["stop_price"]) == (stop["id"], "95")


@pytest.mark.parametrize(("layout", "prices"), [("old", ["95"]), ("new", ["97"]), ("both", ["95", "97"])])
def test_the_parent_lists_old_new_or_both_legs(bench: Bench, layout: LegLayout, prices: list[str]) -> None:
    parent = bench.bracket()
    bench.account.replace(text(bench.legs(parent)[1], "id"), {"stop_price": "97"})
    bench.settle()

    bench.broker.quirks.replaced_leg_layout = layout

    assert [leg["stop_price"] for leg in rows(bench.read(parent), "legs")[1:]] == prices
    listed = bench.account.orders(status="all", nested=True)
    shown = {text(row, "id") for order in listed for row in [order, *(rows(order, "legs") if order["legs"] else [])]}
    assert shown == set(bench.account.blotter.book.by_id)


def test_a_replaced_entry_hands_its_legs_to_the_new_parent(bench: Bench) -> None:
    bench.price("AAPL", "100")
    old = bench.place(
        qty=10, type="limit", limit_price=90, order_class="bracket", take_profit={"limit_price": 110},
        stop_loss={"stop_price": 85},
    )  # fmt: skip
    bench.settle()

    new = bench.account.replace(text(old, "id"), {"limit_price": 99})
    bench.settle()
    bench.price("AAPL", "99")

    target, stop = bench.legs(new)
    assert (bench.read(new)["status"], target["status"], stop["status"]) == ("filled", "new", "held")
    assert bench.read(old)["legs"] is None


def test_an_order_that_fills_first_rejects_its_replacement(bench: Bench) -> None:
    bench.price("AAPL", "100")
    old = bench.place(qty=10, type="limit", limit_price=90)
    bench.settle()
    bench.broker.market.pin("AAPL", bench.broker.market.price("AAPL") - 10)

    new = bench.account.replace(text(old, "id"), {"limit_price": 91})
    bench.settle(0.004)
    bench.settle()

    assert (bench.read(old)["status"], bench.read(new)["status"], bench.held()) == ("filled", "rejected", "10")


def test_a_replacement_can_be_rejected_later_while_the_old_order_works_on(bench: Bench) -> None:
    bench.broker.quirks.replace_then_reject = True
    parent = bench.bracket()
    stop = bench.legs(parent)[1]

    new = bench.account.replace(text(stop, "id"), {"stop_price": "97"})
    bench.settle()

    assert (bench.read(stop)["status"], bench.read(new)["status"]) == ("held", "rejected")
    assert bench.told(stop)[-1] == "order_replace_rejected"
    bench.price("AAPL", "96")
    assert bench.held() == "10"
    bench.price("AAPL", "94")
    assert bench.held() == "0"


def test_a_replacement_can_succeed_although_the_answer_is_an_error(bench: Bench) -> None:
    bench.broker.quirks.replace_error_though_done = True
    parent = bench.bracket()
    stop = bench.legs(parent)[1]

    refusal = refusal_of_replace(bench, stop, stop_price="97")

    assert refusal.status == 500
    assert child(bench.account.truth(), "replaces")["verdicts"] == {"tightened": 1}
    assert (bench.read(stop)["status"], bench.legs(parent)[1]["stop_price"]) == ("replaced", "97")


def test_a_replace_can_be_taken_and_hang_until_its_stop_fills_and_the_replacement_is_rejected(bench: Bench) -> None:
    bench.broker.quirks.pending_replace_stuck = True
    stop = bench.legs(bench.bracket())[1]

    new = bench.account.replace(text(stop, "id"), {"stop_price": "97"})
    bench.settle(3600)
    hanging = bench.read(stop)["status"]
    bench.price("AAPL", "94")

    assert (hanging, bench.read(stop)["status"], bench.read(new)["status"]) == ("pending_replace", "filled", "rejected")
    assert bench.held() == "0"


def test_a_held_stop_can_be_one_that_is_not_replaced(bench: Bench) -> None:
    bench.broker.quirks.held_not_replaceable = True
    stop = bench.legs(bench.bracket())[1]

    refusal = refusal_of_replace(bench, stop, stop_price="97")

    assert (refusal.status, refusal.message) == (422, "cannot replace order in held status")
    assert bench.read(stop)["replaced_by"] is None


def test_a_chain_of_replacements_is_followed_by_its_links(bench: Bench) -> None:
    stop = bench.legs(parent := bench.bracket())[1]
    for price in ("96", "97", "98"):
        stop = bench.account.replace(text(stop, "id"), {"stop_price": price})
        bench.settle()

    prices = []
    link: str | None = text(bench.legs(parent)[1], "id")
    while link is not None:
        order = bench.account.order(link)
        prices.append(order["stop_price"])
        link = order["replaces"] if isinstance(order["replaces"], str) else None
    assert prices == ["98", "97", "96", "95"]


def test_a_partly_filled_order_is_replaced_by_its_rest(bench: Bench) -> None:
    bench.price("AAPL", "100")
    old = bench.place(qty=10, type="limit", limit_price=90)
    bench.settle()
    blotter = bench.account.blotter
    order = blotter.book.get(text(old, "id"))
    blotter.fill(order, order.rest * 4 / 10, order.limit_price or order.rest, blotter.moment(bench.broker.now()))

    new = bench.account.replace(text(old, "id"), {"qty": 12})

    assert (new["qty"], new["filled_qty"]) == ("8", "0")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "order parameters are not changed"),
        ({"stop_price": "95"}, "order parameters are not changed"),
        ({"limit_price": "95"}, "stop orders must not have limit_price"),
        ({"stop_price": "96.123"}, "invalid stop_price 96.123. sub-penny increment"),
        ({"stop_price": "111"}, "take_profit.limit_price must be > stop_loss.stop_price"),
        ({"qty": 5}, "qty of a complex order cannot be replaced"),
        ({"trail": 2}, "stop orders must not have a trail"),
    ],
)
def test_a_replace_is_refused_by_its_form(bench: Bench, changes: dict[str, object], message: str) -> None:
    stop = bench.legs(bench.bracket())[1]

    refusal = refusal_of_replace(bench, stop, **changes)

    assert (refusal.status, refusal.code) == (422, 42210000)
    assert message in refusal.message


def test_a_replace_is_refused_by_the_orders_state(bench: Bench) -> None:
    parent = bench.bracket()
    fresh = bench.place(symbol="KO", qty=1, type="limit", limit_price=1)
    stop = bench.legs(parent)[1]
    assert "pending_new status" in refusal_of_replace(bench, fresh, limit_price=2).message
    assert "is not open, status: filled" in refusal_of_replace(bench, parent, limit_price=2).message

    new = bench.account.replace(text(stop, "id"), {"stop_price": "96"})
    assert refusal_of_replace(bench, stop, stop_price="97").message == "order already pending replacement"
    assert refusal_of_replace(bench, new, stop_price="97").message == "order chain not fully replaced"
    bench.settle()
    assert refusal_of_replace(bench, stop, stop_price="97").message == "order already replaced"

    bench.account.cancel(text(new, "id"))
    assert "pending_cancel status" in refusal_of_replace(bench, new, stop_price="97").message


def test_ids_that_are_unknown_or_no_ids_are_told_apart(bench: Bench) -> None:
    with pytest.raises(Refused) as unknown:
        bench.account.order("00000000-0000-4000-8000-000000000000")
    with pytest.raises(Refused) as malformed:
        bench.account.cancel("nonsense")

    assert (unknown.value.status, unknown.value.code) == (404, 40410000)
    assert (malformed.value.status, malformed.value.body()) == (
        422,
        {"code": 40010001, "message": "order_id is missing"},
    )


def test_a_finished_order_cannot_be_cancelled(bench: Bench) -> None:
    parent = bench.bracket()

    with pytest.raises(Refused) as refusal:
        bench.account.cancel(text(parent, "id"))

    assert refusal.value.message == 'order is already in "filled" state'


def test_a_fill_wins_over_a_cancel_that_is_still_under_way(bench: Bench) -> None:
    bench.price("AAPL", "100")
    order = bench.place(qty=1, type="limit", limit_price=90)
    bench.settle()
    bench.broker.market.pin("AAPL", bench.broker.market.price("AAPL") - 10)

    bench.account.cancel(text(order, "id"))
    bench.settle(0.004)
    bench.settle()

    assert bench.read(order)["status"] == "filled"


def test_a_cancel_can_be_taken_and_never_come_to_an_end(bench: Bench) -> None:
    bench.broker.quirks.pending_cancel_stuck = True
    bench.price("AAPL", "100")
    order = bench.place(qty=1, type="limit", limit_price=90)
    bench.settle()

    bench.account.cancel(text(order, "id"))
    bench.settle(3600)

    assert bench.read(order)["status"] == "pending_cancel"


def test_a_cancel_of_a_fresh_replacement_ends_the_whole_chain(bench: Bench) -> None:
    bench.price("AAPL", "100")
    old = bench.place(qty=1, type="limit", limit_price=90)
    bench.settle()

    new = bench.account.replace(text(old, "id"), {"limit_price": 91})
    bench.account.cancel(text(new, "id"))
    bench.settle(2)

    assert (bench.read(old)["status"], bench.read(new)["status"]) == ("replaced", "canceled")


def test_cancelling_everything_answers_with_the_live_leg_and_its_parent(bench: Bench) -> None:
    parent = bench.bracket()
    target = bench.legs(parent)[0]

    (answer,) = bench.account.cancel_all()
    bench.settle()

    assert (answer["id"], answer["status"], child(answer, "body")["id"]) == (target["id"], 200, parent["id"])
    assert bench.account.orders(status="open") == []


def test_replaces_are_judged_against_the_market(bench: Bench) -> None:
    parent = bench.bracket()
    for price in ("97", "96", "101"):
        stop = bench.legs(parent)[1]
        bench.account.replace(text(stop, "id"), {"stop_price": price})
        bench.settle()

    judged = child(bench.account.truth(), "replaces")
    assert judged["verdicts"] == {"tightened": 1, "loosened": 1, "wrong_side": 1}
    assert [wrong["new_stop"] for wrong in rows(judged, "wrong")] == ["96", "101"]

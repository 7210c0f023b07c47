"""The simulator's history and memory: one seed gives one past, and a restart loses nothing."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from coldharbour_plugins.simulator.broker import SimulatedBroker
from coldharbour_plugins.simulator.truth import activity_line, checksum, order_line
from simulated_bench import DEPOSIT, MONDAY, SLUG, Bench, text

from coldharbour.clock import VirtualClock

ACCOUNTS = {"alpha": Decimal(250_000), "beta": Decimal(80_000)}


def broker(
    seed: int = 7, *, journal: Path | None = None, trading: bool = False, clock: VirtualClock | None = None
) -> SimulatedBroker:
    return SimulatedBroker(
        seed=seed,
        accounts=ACCOUNTS,
        clock=clock or VirtualClock(MONDAY),
        history_days=200,
        journal=journal,
        trading=trading,
    )


def truths(broker: SimulatedBroker) -> list[dict[str, object]]:
    """Return what is true of every account, without what only counts this run."""
    kept = ("orders", "activities", "fills", "orders_md5", "activities_md5", "cash", "positions", "open_orders")
    return [{key: account.truth()[key] for key in kept} for account in broker.accounts.values()]


def test_one_seed_gives_one_history_and_another_seed_another() -> None:
    first, again, other = broker(), broker(), broker(8)

    assert truths(first) == truths(again)
    assert truths(first)[0]["orders_md5"] != truths(other)[0]["orders_md5"]
    assert truths(first)[0]["orders_md5"] != truths(first)[1]["orders_md5"]


def test_the_history_is_a_plausible_year() -> None:
    for account in broker().accounts.values():
        orders = list(account.blotter.book.by_id.values())
        activities = list(account.blotter.ledger.everything())

        kinds = {activity.type for activity in activities}
        assert kinds == {"FILL", "FEE", "DIV", "INT", "CSD", "CSW", "JNLC"}
        assert {order.order_class for order in orders} == {"", "bracket", "oto", "oco"}
        assert sum(order.role == "entry" and order.order_class == "bracket" for order in orders) > 150
        assert {"replaced", "canceled", "filled", "held", "new"} <= {order.status for order in orders}
        assert {order.side for order in orders if order.role == "entry"} == {"buy", "sell"}
        assert any(activity.leaves_qty for activity in activities)
        assert any(order.replaces and account.blotter.book.by_id[order.replaces].replaces for order in orders)
        wins = [order.role == "take_profit" for order in orders if order.root and order.status == "filled"]
        assert 0.3 < sum(wins) / len(wins) < 0.6
        assert Decimal("0.6") < Decimal(text(account.account(), "equity")) / ACCOUNTS[account.slug] < 2
        assert account.positions()


def test_the_past_keeps_to_new_yorks_hours_and_fills_never_exceed_their_orders() -> None:
    simulator = broker()
    for account in simulator.accounts.values():
        for activity in account.blotter.ledger.everything():
            if activity.type == "FILL":
                assert simulator.sessions.open_at(activity.at) is not None
        for order in account.blotter.book.by_id.values():
            assert order.qty is None or order.filled_qty <= order.qty


def test_a_restarted_simulator_is_the_same_broker(tmp_path: Path) -> None:
    clock = VirtualClock(MONDAY)
    before = broker(journal=tmp_path / "journal.jsonl", trading=True, clock=clock)
    for _ in range(900):
        clock.advance(0.5)
        before.step()
    before.accounts["beta"].burst(200)

    after = broker(journal=tmp_path / "journal.jsonl", clock=clock)

    assert truths(after) == truths(before)
    assert after.accounts["alpha"].orders(status="all", limit=500) == before.accounts["alpha"].orders(
        status="all", limit=500
    )
    assert after.accounts["alpha"].activities() == before.accounts["alpha"].activities()
    assert after.accounts["alpha"].portfolio_history() == before.accounts["alpha"].portfolio_history()


def test_a_restart_finishes_what_was_under_way_and_never_repeats_an_id(tmp_path: Path) -> None:
    bench = Bench(journal=tmp_path / "journal.jsonl")
    parent = bench.bracket()
    target, stop = bench.legs(parent)
    bench.account.replace(text(stop, "id"), {"stop_price": "97"})
    pending = bench.place(symbol="KO", qty=1)

    again = Bench(bench.clock.now(), journal=tmp_path / "journal.jsonl")
    again.settle()
    again.bracket(qty=1, client_order_id="after")

    assert again.legs(parent)[1]["stop_price"] == "97"
    assert again.read(pending)["status"] == "filled"
    assert again.read(target)["status"] == "new"
    assert len(again.account.blotter.book) == 3 + 1 + 1 + 3


def test_a_line_cut_by_a_kill_is_dropped_and_the_journal_goes_on(tmp_path: Path) -> None:
    bench = Bench(journal=tmp_path / "journal.jsonl")
    bench.bracket()
    (file,) = tmp_path.glob("journal-11-*.jsonl")
    truth = bench.account.truth()["orders_md5"]
    file.write_bytes(file.read_bytes() + b'{"type":"order","slug":"al')

    second = Bench(bench.clock.now(), journal=tmp_path / "journal.jsonl")
    second_truth = second.account.truth()["orders_md5"]
    second.place(symbol="KO", qty=1)
    third = Bench(second.clock.now(), journal=tmp_path / "journal.jsonl")

    assert second_truth == truth
    assert third.account.truth()["orders_md5"] == second.account.truth()["orders_md5"]


def test_another_configuration_begins_another_journal_and_keeps_the_old(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    broker(1, journal=path).close()

    broker(2, journal=path).close()

    assert len(list(tmp_path.iterdir())) == 2


def test_a_later_start_keeps_the_day_of_the_first(tmp_path: Path) -> None:
    clock = VirtualClock(MONDAY)
    first = broker(journal=tmp_path / "journal.jsonl", clock=clock)
    clock.advance(3 * 86400)

    later = broker(journal=tmp_path / "journal.jsonl", clock=clock)
    later.step()

    assert later.anchor == first.anchor == date(2025, 11, 24)
    booked = [row for row in later.accounts["alpha"].activities(category="non_trade_activity")]
    assert text(booked[0], "id") >= text(first.accounts["alpha"].activities(category="non_trade_activity")[0], "id")


def test_a_journal_of_something_else_is_an_error_not_an_empty_past(tmp_path: Path) -> None:
    bench = Bench(journal=tmp_path / "journal.jsonl")
    (file,) = tmp_path.glob("journal-11-*.jsonl")
    file.write_text("not a journal\n")

    with pytest.raises(Exception, match="JSON is malformed"):
        Bench(bench.clock.now(), journal=tmp_path / "journal.jsonl")


def test_truth_lines_are_canonical() -> None:
    bench = Bench()
    parent = bench.bracket()
    bench.account.replace(text(bench.legs(parent)[1], "id"), {"stop_price": "97.50"})
    bench.settle()
    old, new = (
        bench.account.blotter.book.get(text(row, "id"))
        for row in bench.account.orders(status="all", side="sell", direction="asc")
        if row["type"] == "stop"
    )
    deposit = next(row for row in bench.account.blotter.ledger.everything() if row.type == "CSD")
    fill = next(row for row in bench.account.blotter.ledger.everything() if row.type == "FILL")

    assert order_line(old) == f"{old.id}|replaced|0|||95|10||{new.id}"
    assert order_line(new) == f"{new.id}|held|0|||97.5|10|{old.id}|"
    assert activity_line(deposit) == f"{deposit.id}|CSD|||{DEPOSIT}||"
    assert activity_line(fill).endswith(f"|100|{-(fill.qty or 0) * 100}|{parent['id']}|buy")
    assert checksum(["b", "a"]) == checksum(["a", "b"])


def test_the_same_actions_under_one_seed_give_the_same_truth() -> None:
    def run() -> object:
        bench = Bench()
        bench.bracket()
        bench.account.burst(100)
        return bench.broker.accounts[SLUG].truth()

    assert run() == run()

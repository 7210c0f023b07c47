"""The simulator's history and memory: one seed gives one past, and a restart loses nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import date
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from coldharbour_plugins.simulator.broker import SimulatedBroker
from coldharbour_plugins.simulator.truth import activity_line, checksum, order_line
from simulated_bench import DEPOSIT, MONDAY, SLUG, Bench, text

from coldharbour.clock import VirtualClock

ACCOUNTS = {"alpha": Decimal(250_000), "beta": Decimal(80_000)}


class Machine:
    """A computer on which simulators are started, killed and started again, with one clock and one folder."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.clock = VirtualClock(MONDAY)
        self._stack = stack
        self._kills = 0

    def start(self, seed: int = 7, *, trading: bool = False) -> SimulatedBroker:
        """Start a simulator with two accounts and 200 days of history."""
        started = SimulatedBroker(
            seed=seed,
            accounts=ACCOUNTS,
            clock=self.clock,
            history_days=200,
            journal=self.folder / "journal.jsonl",
            trading=trading,
        )
        self._stack.callback(started.close)
        return started

    def bench(self) -> Bench:
        """Start a small simulator without history."""
        bench = Bench(self.clock.now(), journal=self.folder / "journal.jsonl")
        self._stack.callback(bench.broker.close)
        return bench

    def kill(self, seconds: float = 0) -> None:
        """Leave whatever runs to itself; the next start finds the files as they are now."""
        self._kills += 1
        self.folder = Path(shutil.copytree(self.folder, self.folder.with_name(f"kill-{self._kills}")))
        self.clock.advance(seconds)

    def journal(self) -> Path:
        """Return the one journal."""
        (file,) = self.folder.glob("journal-*.jsonl")
        return file


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    folder = tmp_path / "first"
    folder.mkdir()
    with ExitStack() as stack:
        yield Machine(folder, stack)


def broker(seed: int = 7) -> SimulatedBroker:
    """Return a simulator that forgets."""
    return SimulatedBroker(seed=seed, accounts=ACCOUNTS, clock=VirtualClock(MONDAY), history_days=200, trading=False)


def truths(broker: SimulatedBroker) -> list[dict[str, object]]:
    """Return what is true of every account, without what only counts this run."""
    kept = ("orders", "activities", "fills", "orders_md5", "activities_md5", "cash", "positions", "open_orders")
    return [{key: account.truth()[key] for key in kept} for account in broker.accounts.values()]


def test_one_seed_gives_one_history_and_another_seed_another() -> None:
    first, again, other = broker(), broker(), broker(8)

    assert truths(first) == truths(again)
    assert truths(first)[0]["orders_md5"] != truths(other)[0]["orders_md5"]
    assert truths(first)[0]["orders_md5"] != truths(first)[1]["orders_md5"]


def test_the_history_is_plausible() -> None:
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
        wins = [order.role == "take_profit" for order in orders if order.role != "entry" and order.status == "filled"]
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


def test_a_killed_and_restarted_simulator_is_the_same_broker(machine: Machine) -> None:
    before = machine.start(trading=True)
    for _ in range(900):
        machine.clock.advance(0.5)
        before.step()
    before.accounts["beta"].burst(200)

    machine.kill()
    after = machine.start()

    assert truths(after) == truths(before)
    for was, now in zip(before.accounts.values(), after.accounts.values(), strict=True):
        assert now.orders(status="all", limit=500, nested=True) == was.orders(status="all", limit=500, nested=True)
        assert now.activities() == was.activities()
        assert now.portfolio_history(timeframe="1D") == was.portfolio_history(timeframe="1D")


def test_a_restart_finishes_what_was_under_way_and_never_repeats_an_id(machine: Machine) -> None:
    bench = machine.bench()
    parent = bench.bracket()
    target, stop = bench.legs(parent)
    bench.account.replace(text(stop, "id"), {"stop_price": "97"})
    pending = bench.place(symbol="KO", qty=1)

    machine.kill(seconds=5)
    again = machine.bench()
    again.price("AAPL", "100")
    again.bracket(qty=1, client_order_id="after")

    assert again.legs(parent)[1]["stop_price"] == "97"
    assert again.read(pending)["status"] == "filled"
    assert again.read(target)["status"] == "new"
    assert len(again.account.blotter.book) == 3 + 1 + 1 + 3


def test_a_line_cut_by_a_kill_is_dropped_and_the_journal_goes_on(machine: Machine) -> None:
    bench = machine.bench()
    bench.bracket()
    machine.kill()
    file = machine.journal()
    file.write_bytes(file.read_bytes() + b'{"type":"order","slug":"al')

    second = machine.bench()
    second_truth = second.account.truth()["orders_md5"]
    second.place(symbol="KO", qty=1)
    machine.kill()
    third = machine.bench()

    assert second_truth == bench.account.truth()["orders_md5"]
    assert third.account.truth()["orders_md5"] == second.account.truth()["orders_md5"]


def test_another_configuration_begins_another_journal_and_keeps_the_old(machine: Machine) -> None:
    machine.start(1)
    machine.start(2)

    assert len(list(machine.folder.iterdir())) == 2


def test_a_later_start_keeps_the_first_day_and_books_what_fell_due_meanwhile_once(machine: Machine) -> None:
    first = machine.bench()
    first.bracket(qty=100)
    first.price("AAPL", "111")

    machine.kill(seconds=3 * 86400)
    later = machine.bench()
    later.settle()
    machine.kill(seconds=3600)
    last = machine.bench()
    last.settle()

    assert last.broker.anchor == first.broker.anchor == date(2025, 11, 24)
    assert [row["date"] for row in last.account.activities(types=["FEE"])] == ["2025-11-24", "2025-11-24"]


def test_a_journal_of_something_else_is_an_error_and_not_an_empty_past(machine: Machine) -> None:
    machine.bench()
    machine.kill()
    machine.journal().write_text("not a journal\n")

    with pytest.raises(msgspec.DecodeError):
        machine.bench()


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

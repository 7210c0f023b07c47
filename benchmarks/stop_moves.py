"""The full proof that stops move right: 100,000 decisions, 1,000 requests without an answer, 200 changes of the keeper.

First, decisions about random lots and markets, each judged by rules written a second time. Then a simulated broker that
answers no request: it does a third of them, does a third of them later, and the rest never; every intent must end as
the broker's truth says, within 20 s (p99). Last, two `risk` processes, the acting one frozen or killed at a random
moment around a touch: the other takes over, and nothing of the old one reaches the broker once the new epoch is
committed. Exit 1 if anything is wrong.

    python benchmarks/stop_moves.py --decisions 100000 --unanswered 1000 --changes 200
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import anyio
import anyio.to_thread
import httpx
import psycopg
from coldharbour_plugins.simulator.broker import SimulatedBroker
from coldharbour_plugins.simulator.server import SimulatorAddress, running_simulator
from psycopg.rows import dict_row

from coldharbour import schema
from coldharbour.broker import Broker
from coldharbour.clock import SystemClock
from coldharbour.db import Database, open_database
from coldharbour.embedded import embedded_server
from coldharbour.lake.completeness.store import mark_stream_alive
from coldharbour.lake.pull import Puller
from coldharbour.lake.writer import Lake
from coldharbour.live.model import Side
from coldharbour.live.rebuild import rebuild_live
from coldharbour.risk.breakeven import decide_breakeven
from coldharbour.risk.model import BreakevenRule, Decision, MarketView, ProtectedLot, StopKind
from coldharbour.sections import SimulatorSettings
from coldharbour.sessions import session_of
from coldharbour.settings import load
from coldharbour.store import save_sessions

SLUG, MARKET = "paper", "us_equity"
SETTLE_GOAL_S = 20.0
WAVE = 100  # stops that wait for proof at once
ENTRY, STEP, LEVELS = Decimal(100), Decimal("0.05"), 40  # of initial stops, each with a trigger of its own
PATIENCE_S = 90.0
CONFIGURATION = """
[database]
url = "{conninfo}"
[feed]
endpoint = "{prices}"
[workers.breakeven]
interval_s = 3
account_failures = 1000000
symbol_failures = 1000000
concurrency = 20
[destinations.paper]
base_url = "{url}"
data_url = "{url}"
allow_custom_broker = true
disable_session_sleep = true
armed = true
requests_per_min = 1000000
"""
NO_ANSWER = {"rest_methods": ["PATCH"], "rest_error_rate": 0.34, "rest_late_effect_rate": 0.5,
             "rest_late_effect_s": 3, "rest_error_after_effect_rate": 1}  # fmt: skip
LOTS = "select where (select count(distinct lot_id) from accounts.stop_intents where"
ASKED, MOVED = f"{LOTS} answer_state is not null) >= %s", f"{LOTS} state = 'MOVED') >= %s"
KEYS = {"ALPACA_API_KEY_PAPER": f"SIM-{SLUG}", "ALPACA_SECRET_KEY_PAPER": "simulator"}


def judge(decision: Decision) -> str:  # noqa: PLR0911  one line for each rule
    """Return what is wrong with a decision that moves a stop, by rules written a second time; empty if nothing is."""
    lot, market, move = decision.lot, decision.market, decision.action
    if move is None:
        return ""
    up = 1 if lot.side is Side.LONG else -1
    entry, new, price = lot.entry_price, move.stop_price, market.price
    if lot.stop_price is None or price is None or not up * (new - lot.stop_price) > 0:
        return "loosened"
    if not up * (entry - new) > 0:
        return "not on the losing side of the entry"
    if not up * (price - new) > 0:
        return "wrong side of the market"
    if new % (Decimal("0.01") if new >= 1 else Decimal("0.0001")):
        return "off the grid"
    risk = abs(entry - (lot.initial_stop or entry))
    extreme = market.high if up > 0 else market.low
    if extreme is None or up * (extreme - entry) < 2 * risk:
        return "not armed"
    silent_s, traded_at, last = market.feed_silent_s, market.traded_at, market.last_trade
    if silent_s is None or silent_s > 15 or traded_at is None or (market.as_of - traded_at).total_seconds() > 900:
        return "stale price"
    return "" if last and abs(price - last) <= last / 10 else "unconfirmed price"


def decide_at_random(count: int, random: Random) -> Counter[str]:
    """Decide about random lots in random markets; return how often each reason was given, and what was wrong."""
    now, found = datetime(2026, 10, 8, 15, 0, tzinfo=UTC), Counter[str]()
    for number in range(count):
        side, up = (Side.LONG, 1) if random.random() < 0.5 else (Side.SHORT, -1)
        entry = Decimal(f"{random.choice((0.5, 1.0, 5.0, 50.0, 400.0)) * random.uniform(0.9, 1.1):.4f}")
        risk = entry * Decimal(f"{random.uniform(0.002, 0.05):.4f}")
        stop = entry - up * risk * Decimal(f"{random.choice((1, 1, 1, 0.5, 0, -0.5)):.1f}")
        price = entry + up * risk * Decimal(f"{random.uniform(-1, 3):.3f}")
        reach = entry + up * risk * Decimal(f"{random.uniform(0, 4):.3f}")
        odd = random.random()
        shown = Decimal("NaN") if odd < 0.01 else price * 10 if odd < 0.03 else -price if odd < 0.04 else price
        lot = ProtectedLot(
            parent_id=str(number), symbol="KO", side=side, qty=up * Decimal(10), entry_price=entry, stop_order_id="s",
            stop_price=round(stop, 2 if stop >= 1 else 4), initial_stop=entry - up * risk,
            stop_kind=StopKind.TRAILING_STOP if random.random() < 0.02 else StopKind.STOP,
        )  # fmt: skip
        market = MarketView(
            as_of=now, feed_silent_s=random.choice((None, 0.1, 1.0, 14.0, 16.0)), price=shown, last_trade=price,
            traded_at=now - timedelta(seconds=random.choice((0, 5, 800, 901))),
            high=reach if up > 0 else None, low=reach if up < 0 else None,
        )  # fmt: skip
        decision = decide_breakeven(lot, market, BreakevenRule())
        found[decision.reason.value] += 1
        if wrong := judge(decision):
            found[f"WRONG: {wrong}"] += 1
    return found


@dataclass
class Yard:
    """A simulated broker with open brackets, the tables that know them, and the processes that move their stops."""

    folder: Path
    broker: SimulatedBroker
    address: SimulatorAddress
    db: Database
    admin: str
    triggers: dict[tuple[str, int], Decimal] = field(default_factory=dict)
    keepers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    async def select(self, query: str, *parameters: object) -> list[dict[str, Any]]:
        """Return what a query finds."""
        async with self.db.transaction() as conn, conn.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(query.encode(), parameters)
            return await cursor.fetchall()

    async def until(self, query: str, *parameters: object) -> list[dict[str, Any]]:
        """Return what a query finds once it finds something. Raises TimeoutError, with what the processes said last."""
        deadline = time.monotonic() + PATIENCE_S
        while not (found := await self.select(query, *parameters)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not so within {PATIENCE_S:g} s: {query} {parameters}\n{self.last_words()}")
            await anyio.sleep(0.05)
        return found

    def last_words(self) -> str:
        """Return the end of each process's log."""
        logs = sorted(self.folder.glob("risk-*.log"))
        return "\n".join(f"{log.name}: {line}" for log in logs for line in log.read_text().splitlines()[-8:])

    async def faults(self, **switches: object) -> None:
        """Set the broker's fault switches named; all others fall back."""
        async with httpx.AsyncClient() as client:
            (await client.put(f"{self.address.url}/sim/faults", json=switches)).raise_for_status()

    def start(self) -> subprocess.Popen[bytes]:
        """Start a process that moves stops."""
        command = [
            sys.executable,
            "-m",
            "coldharbour",
            "run",
            "--worker",
            "breakeven",
            "--config",
            str(self.folder / "yard.toml"),
        ]
        with (self.folder / f"risk-{len(self.keepers)}.log").open("ab") as log:
            keeper = subprocess.Popen(command, env=os.environ | KEYS, stdout=log, stderr=log)  # noqa: S603  our own command
        self.keepers.append(keeper)
        return keeper

    def stop(self) -> None:
        """Kill whoever still runs."""
        for keeper in self.keepers:
            keeper.kill()
            keeper.wait()

    def enter(self, brackets: int) -> None:
        """Enter brackets whose stops are further and further away, so that the price touches one after the other."""
        symbols = self.broker.market.symbols
        for symbol in symbols:
            self.broker.market.pin(symbol, ENTRY)
        self.broker.step()
        account, parents = self.broker.accounts[SLUG], []
        for number in range(brackets):
            symbol, level = symbols[number % len(symbols)], number // len(symbols)
            stop = ENTRY - STEP * (level + 5)
            self.triggers[symbol, level] = ENTRY + 2 * (ENTRY - stop)
            parents.append(str(account.place({
                "symbol": symbol, "qty": 1, "side": "buy", "type": "market", "time_in_force": "gtc",
                "order_class": "bracket", "take_profit": {"limit_price": "150"}, "stop_loss": {"stop_price": str(stop)},
            })["id"]))  # fmt: skip
        while any(account.order(parent)["status"] != "filled" for parent in parents):
            time.sleep(0.02)
            self.broker.step()

    async def disagreements(self) -> list[str]:
        """Return what is wrong between the record and the broker's truth."""
        account = self.broker.accounts[SLUG]
        wrong = [f"judged wrong: {row}" for row in account.replaces.wrong]
        rows = await self.select("select client_order_id, order_id, state from accounts.stop_intents")
        sent = {order.client_order_id for order in account.blotter.book.by_id.values()}
        wrong += [
            f"{name} is not on record"
            for name in sent - {row["client_order_id"] for row in rows}
            if name.startswith("stop-")
        ]
        for row in rows:
            heir = account.order(row["order_id"])["replaced_by"]
            is_ours = heir is not None and account.order(str(heir))["client_order_id"] == row["client_order_id"]
            if row["state"] not in ("MOVED", "NOT_MOVED", "REJECTED") or (row["state"] == "MOVED") is not is_ours:
                wrong.append(f"{row['client_order_id']} is {row['state']}; replaced by ours: {is_ours}")
        return wrong


@asynccontextmanager
async def yard(folder: Path, brackets: int) -> AsyncIterator[Yard]:
    """Lend an armed account with open brackets whose lots are in the tables; who moves its stops is up to the block."""
    clock = SystemClock()
    broker = SimulatedBroker(
        seed=5, accounts={SLUG: Decimal(100_000_000)}, clock=clock, history_days=2, always_open=True, trading=False
    )
    at = SimulatorSettings.model_validate({"port": 0, "price_endpoint": "tcp://127.0.0.1:*"})
    async with running_simulator(broker, at) as address, embedded_server(folder / "postgres") as conninfo:
        admin = psycopg.conninfo.make_conninfo(conninfo, user="postgres")
        text = CONFIGURATION.format(conninfo=conninfo, prices=address.price_endpoint, url=address.url)
        await anyio.Path(folder / "yard.toml").write_text(text, encoding="utf-8")
        await anyio.to_thread.run_sync(schema.upgrade, conninfo, (), [SLUG])
        async with open_database(conninfo, name="yard") as db:
            here = Yard(folder, broker, address, db, admin)
            here.enter(brackets)
            await fill_tables(here)
            try:
                yield here
            finally:
                here.stop()


async def fill_tables(here: Yard) -> None:
    """Bring the account into the tables, and have its stream, its lots and its market be well."""
    clock, db = SystemClock(), here.db
    destination = load(here.folder / "yard.toml", KEYS).destination(SLUG)
    async with Broker(
        base_url=here.address.url, data_url=here.address.url, key_id=f"SIM-{SLUG}", secret=destination.secret,
        clock=clock, random=Random(1), slug=SLUG, requests_per_min=1_000_000,
    ) as client:  # fmt: skip
        puller = Puller(Lake(SLUG, db, clock), client, lambda: None)
        since = clock.now() - timedelta(days=10)
        await puller.orders(since, nested=True)
        await puller.activities(since)
    await rebuild_live(db, destination, clock, lambda share, detail: None)
    today = clock.now().date()
    noon = datetime.min.time()
    sessions = [session_of(today + timedelta(days=n), noon, noon.replace(23, 59, 59)) for n in range(-3, 2)]
    async with db.transaction() as conn:
        await save_sessions(conn, MARKET, "benchmark", sessions, today)
        await mark_stream_alive(conn, SLUG, clock.now() + timedelta(days=1))
        await conn.execute(
            "insert into accounts.worker_status (destination, kind, service, state, since, host, pid, updated_at)"
            " values (%s, 'snapshot', 'manage', 'ready', now(), '', 0, now() + interval '1 day')", [SLUG]
        )  # fmt: skip


async def leave_unanswered(here: Yard, count: int) -> list[str]:
    """Have so many requests end without an answer; print how long it takes to prove what became of them."""
    here.start()
    await here.until("select from accounts.worker_status where kind = 'breakeven' and state = 'ready'")
    unanswered, level = 0, 0
    while unanswered < count and level < LEVELS:
        await here.faults(**NO_ANSWER)
        for _ in range(WAVE // len(here.broker.market.symbols)):
            for symbol in here.broker.market.symbols:
                if (symbol, level) in here.triggers:
                    here.broker.market.pin(symbol, here.triggers[symbol, level])
            level += 1
            await anyio.sleep(0.5)
        touched = sum(each < level for _, each in here.triggers)
        await here.until(ASKED, touched)
        await here.faults()  # what was never done may be done now
        await here.until(MOVED, touched)
        [row] = await here.select("select count(*) as n from accounts.stop_intents where answer_state = 'UNKNOWN'")
        unanswered = row["n"]
    here.stop()
    rows = await here.select(
        "select extract(epoch from settled_at - answered_at)::float as s, state from accounts.stop_intents"
        " where answer_state = 'UNKNOWN' order by 1"
    )
    p99_s = rows[int(len(rows) * 0.99)]["s"]
    ends = Counter(row["state"] for row in rows)
    print(
        f"{len(rows)} requests without an answer: {dict(ends)}, proved within {p99_s:.1f} s"
        f" (p99, goal {SETTLE_GOAL_S:g} s)"
    )
    slow = [f"p99 to settle is {p99_s:.1f} s"] if p99_s > SETTLE_GOAL_S else []
    return [*slow, *await here.disagreements()]


async def change_keepers(here: Yard, changes: int, random: Random) -> list[str]:
    """Freeze or kill the acting process around a touch, so many times; print what the old ones sent too late."""
    epochs: dict[int, datetime] = {}
    for _ in range(2):
        here.start()
    holder = "select epoch, acquired_at, split_part(holder, ':', 2)::int as pid from accounts.worker_epochs"
    holder += " where kind = 'breakeven'"
    await here.until("select from accounts.worker_status where kind = 'breakeven' and state = 'ready'")
    kinds, touches = Counter[str](), sorted(here.triggers.items(), key=lambda item: (item[0][1], item[0][0]))
    for (symbol, level), price in touches[:changes]:
        while sum(keeper.poll() is None for keeper in here.keepers) < 2:  # its watchdog ends one that was frozen long
            here.start()
        [now] = await here.select(holder)
        epochs[now["epoch"]] = now["acquired_at"]
        here.broker.market.pin(symbol, price)
        await anyio.sleep(random.uniform(0, 0.25))
        is_kill = random.random() < 0.4
        kinds["killed" if is_kill else "frozen"] += 1
        victim = next(keeper for keeper in here.keepers if keeper.pid == now["pid"])
        victim.send_signal(signal.SIGKILL if is_kill else signal.SIGSTOP)
        async with await psycopg.AsyncConnection.connect(here.admin) as admin:
            await admin.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity join pg_locks using (pid)"
                " where application_name = 'coldharbour/run/leases' and locktype = 'advisory'"
            )
        await here.until(f"{holder} and epoch > %s", now["epoch"])
        await anyio.sleep(random.uniform(0, 1))
        if is_kill:
            victim.wait()
            here.start()
        else:
            victim.send_signal(signal.SIGCONT)
        [lot] = await here.select(
            "select parent_id from accounts.open_trades where symbol = %s and initial_stop = %s",
            symbol, ENTRY - STEP * (level + 5),
        )  # fmt: skip
        await here.until("select from accounts.stop_intents where lot_id = %s and state = 'MOVED'", lot["parent_id"])
    [now] = await here.select(holder)
    epochs[now["epoch"]] = now["acquired_at"]
    late = late_requests(here, epochs)
    print(
        f"{sum(kinds.values())} changes of the keeper ({dict(kinds)}): {len(late)} requests of an old one after its end"
    )
    return [*late, *await here.disagreements()]


def late_requests(here: Yard, epochs: dict[int, datetime]) -> list[str]:
    """Return the requests that reached the broker after the epoch that followed theirs was committed."""
    found = []
    for order in here.broker.accounts[SLUG].blotter.book.by_id.values():
        if order.client_order_id.startswith("stop-"):
            epoch = int(order.client_order_id.split("-e")[1].split("-")[0])
            after = [at for number, at in epochs.items() if number > epoch]
            if after and (late_s := order.submitted / 1e9 - min(after).timestamp()) > 0:
                found.append(f"{order.client_order_id} came {late_s:.3f} s after the next epoch")
    return found


async def prove(folder: Path, arguments: argparse.Namespace) -> bool:
    """Run the parts that were asked for; return whether all is right."""
    random, wrong = Random(arguments.seed), list[str]()
    if arguments.decisions:
        found = decide_at_random(arguments.decisions, random)
        print(f"{arguments.decisions} decisions: {dict(found)}")
        wrong += [reason for reason in found if reason.startswith("WRONG")]
    if arguments.unanswered:
        await anyio.Path(folder / "a").mkdir(mode=0o755)
        async with yard(folder / "a", min(arguments.unanswered + 100, 1000)) as here:
            wrong += await leave_unanswered(here, arguments.unanswered)
    if arguments.changes:
        await anyio.Path(folder / "b").mkdir(mode=0o755)
        async with yard(folder / "b", arguments.changes) as here:
            wrong += await change_keepers(here, arguments.changes, random)
    for problem in wrong:
        print(problem)
    print("all right" if not wrong else f"{len(wrong)} things are WRONG")
    return not wrong


def main() -> int:
    """Prove, and return 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decisions", type=int, default=100_000)
    parser.add_argument("--unanswered", type=int, default=1000)
    parser.add_argument("--changes", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    with tempfile.TemporaryDirectory(prefix="coldharbour-stops-") as folder:
        Path(folder).chmod(0o755)
        return 0 if anyio.run(prove, Path(folder), parser.parse_args()) else 1


if __name__ == "__main__":
    sys.exit(main())

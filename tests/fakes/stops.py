"""An armed account at a simulated broker, recorded and valued, whose stops one or more keepers move, faster than life.

The keepers are the real worker in kernels of their own, so that they can die and compete.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx
from coldharbour_plugins.simulator.account import SimulatedAccount
from coldharbour_plugins.simulator.broker import SimulatedBroker
from coldharbour_plugins.simulator.pace import PacedClock

from coldharbour import loader
from coldharbour.clock import SystemClock
from coldharbour.db import open_database
from coldharbour.kernel import Kernel
from fakes.ingest import WORKERS, Station, configuration_of, recorded, simulated
from fakes.pricing import open_all_day
from fakes.trades import until_worker_ready

SLUG = "paper"
KINDS = (*WORKERS, "snapshot", "prices")
SPEED = 5.0
SYMBOLS = ("AAPL", "MSFT", "KO", "WMT", "DAL", "NKE", "AMD", "F", "INTC", "DIS")
ENTRY, STOP, TARGET = Decimal(100), Decimal(98), Decimal(112)
TOUCH, MOVED = Decimal(105), Decimal("99.99")  # beyond the trigger of 2 R at 104; one cent below the entry
FINAL = ("REJECTED", "MOVED", "NOT_MOVED")


@dataclass(frozen=True)
class Trade:
    """An open bracket: its parent and the stop it began with."""

    symbol: str
    parent_id: str
    stop_id: str


@dataclass
class StopBench:
    """What a test does to the market, the broker and the keepers, and what it sees of them."""

    station: Station
    broker: SimulatedBroker
    http: httpx.AsyncClient  # to the broker's switches
    clock: PacedClock
    folder: Path
    database_url: str
    tables: str
    trades: list[Trade] = field(default_factory=list)

    @property
    def account(self) -> SimulatedAccount:
        return self.station.account

    async def faults(self, **switches: object) -> None:
        """Set the broker's fault switches named; all others fall back."""
        answer = await self.http.put("/sim/faults", json=switches)
        answer.raise_for_status()

    async def hits(self, name: str) -> int:
        """Return how often a fault did its harm."""
        listing = (await self.http.get("/sim/faults")).json()["faults"]
        return next(int(row["hits"]) for row in listing if row["name"] == name)

    async def enter(self, *symbols: str) -> list[Trade]:
        """Enter brackets: 10 shares at 100, a stop at 98, a target at 112; return them once they are open trades."""
        placed = {symbol: self.place(symbol) for symbol in symbols}

        async def are_open() -> list[dict[str, Any]]:
            rows = await self.station.select(
                "select parent_id, symbol, stop_order_id from accounts.open_trades where parent_id = any(%s)"
                " and stop_order_id is not null and mkt_px is not null", list(placed.values()),
            )  # fmt: skip
            return rows if len(rows) == len(placed) else []

        rows = await self.station.until(are_open)
        found = {row["symbol"]: Trade(row["symbol"], row["parent_id"], row["stop_order_id"]) for row in rows}
        self.trades += found.values()
        return [found[symbol] for symbol in symbols]

    def place(self, symbol: str) -> str:
        """Send such a bracket; return its id."""
        return str(self.account.place({
            "symbol": symbol, "qty": 10, "side": "buy", "type": "market", "time_in_force": "gtc",
            "order_class": "bracket", "take_profit": {"limit_price": str(TARGET)},
            "stop_loss": {"stop_price": str(STOP)},
        })["id"])  # fmt: skip

    def pin(self, price: Decimal, *symbols: str) -> None:
        """Hold the price of symbols."""
        for symbol in symbols:
            self.broker.market.pin(symbol, price)

    @asynccontextmanager
    async def touched(self, trade: Trade, **switches: object) -> AsyncIterator[None]:
        """Touch a trade's trigger; the request that follows waits at the broker for the length of the block.

        switches: of the broker, until that request is answered.
        """
        before = await self.hits("rest_hold")
        await self.faults(rest_hold=True, rest_methods=["PATCH"], rest_paths=[trade.stop_id], **switches)
        self.pin(TOUCH, trade.symbol)

        async def has_come() -> bool:
            return await self.hits("rest_hold") > before

        await self.station.until(has_come)
        yield
        await self.faults(**switches)
        await self.until_answered(trade)
        await self.faults()

    def finish_replace(self, order_id: str) -> None:
        """Complete a replace that is stuck."""
        blotter = self.account.blotter
        blotter.finish_replace(blotter.book.get(order_id), blotter.moment(self.broker.now()))
        self.broker.commit()

    async def intents(self, trade: Trade | None = None, *, asked: bool = True) -> list[dict[str, Any]]:
        """Return the intents of a trade, or all, oldest first. asked: only those whose request may have left.

        The fence may keep a request back on a slow machine, and the next evaluation plans it again.
        """
        found = await self.station.select(
            "select * from accounts.stop_intents where destination = %s and (%s::text is null or lot_id = %s)"
            " order by planned_at", SLUG, trade and trade.parent_id, trade and trade.parent_id,
        )  # fmt: skip
        return [row for row in found if row["answer_state"] or not asked]

    async def until_answered(self, trade: Trade) -> dict[str, Any]:
        """Return the newest intent of a trade once its request has ended."""

        async def is_answered() -> dict[str, Any] | None:
            found = await self.intents(trade)
            return found[-1] if found else None

        intent: dict[str, Any] = await self.station.until(is_answered)
        return intent

    async def until_moved(self, trade: Trade, within_s: float = 30) -> list[dict[str, Any]]:
        """Return the intents of a trade once one of them has moved its stop."""

        async def has_moved() -> list[dict[str, Any]]:
            found = await self.intents(trade)
            return found if found and found[-1]["state"] == "MOVED" else []

        intents: list[dict[str, Any]] = await self.station.until(has_moved, within_s)
        return intents

    async def audit(self, trade: Trade) -> list[dict[str, Any]]:
        """Return the audit of a trade, oldest first."""
        return await self.station.select(
            'select *, "timestamp" as at from accounts.log_breakeven where parent_id = %s order by id', trade.parent_id
        )

    async def until_reason(self, trade: Trade, reason: str) -> dict[str, Any]:
        """Return the newest row of the audit of a trade once it says so."""

        async def says_so() -> dict[str, Any] | None:
            rows = await self.audit(trade)
            return rows[-1] if rows and rows[-1]["reason"] == reason else None

        row: dict[str, Any] = await self.station.until(says_so)
        return row

    def true_stop(self, trade: Trade) -> tuple[str, Decimal]:
        """Return the stop that the broker holds for a trade, and its price."""
        order = self.account.order(trade.stop_id)
        while order["replaced_by"]:
            order = self.account.order(str(order["replaced_by"]))
        return str(order["id"]), Decimal(str(order["stop_price"]))

    async def disagreements(self) -> list[str]:
        """Return what is wrong between the record and the broker's truth; nothing should be.

        Every replacement of the broker that bears our name has an intent; an intent is MOVED if and only if the broker
        replaced its order by ours; no stop was loosened or put on the wrong side of the market.
        """
        wrong = [f"judged wrong: {row}" for row in self.account.replaces.wrong]
        intents = {row["client_order_id"]: row for row in await self.intents(asked=False)}
        sent = {order.client_order_id for order in self.account.blotter.book.by_id.values()}
        unknown = {name for name in sent if name.startswith("stop-")} - intents.keys()
        wrong += [f"{name} was sent and is not on record" for name in unknown]
        for name, row in intents.items():
            heir = self.account.order(row["order_id"])["replaced_by"]
            is_ours = heir is not None and self.account.order(str(heir))["client_order_id"] == name
            if row["state"] not in FINAL or (row["state"] == "MOVED") is not is_ours:
                wrong.append(f"{name} is {row['state']} ({row['reason']}); replaced by ours: {is_ours}")
        return wrong

    @asynccontextmanager
    async def keeper(self, *kinds: str, more: str = "") -> AsyncIterator[None]:
        """Run the worker that moves stops in a kernel of its own, or other ones. more: settings of the last one."""
        async with self._kernel(more, kinds or ("breakeven",)) as kernel, anyio.create_task_group() as tasks:
            tasks.start_soon(kernel.run)
            yield
            tasks.cancel_scope.cancel()

    async def cycle(self, more: str = "") -> None:
        """Run the worker once, as `coldharbour cycle` does. more: settings of the worker."""
        async with self._kernel(more) as kernel:
            await kernel.run_one_cycle()

    @asynccontextmanager
    async def _kernel(self, more: str = "", kinds: Sequence[str] = ("breakeven",)) -> AsyncIterator[Kernel]:
        configuration = configuration_of(self.folder, {SLUG: self.station.cable.port}, f"{self.tables}{more}\n")
        registry = await anyio.to_thread.run_sync(loader.load_plugins, configuration)
        assignments = [each for each in registry.assignments if each.worker.spec.kind in kinds]
        async with open_database(self.database_url, name="risk", clock=SystemClock()) as db:
            yield Kernel(configuration, registry, assignments, db=db, clock=self.clock)

    async def until_keeping(self) -> None:
        """Return when a keeper has begun."""
        await until_worker_ready(self.station, "breakeven")


@asynccontextmanager
async def stop_bench(database_url: str, folder: Path, kinds: Sequence[str] = KINDS) -> AsyncIterator[StopBench]:
    """Lend an armed account, every price at 100. kinds: the workers that record and value it."""
    clock = PacedClock(SystemClock(), SPEED)
    open_all_day(database_url)
    async with (
        simulated(SLUG, clock=clock) as (broker, address),
        httpx.AsyncClient(base_url=address.url, trust_env=False) as http,
    ):
        for symbol in SYMBOLS:
            broker.market.pin(symbol, ENTRY)
        worker = "[workers.breakeven]\ninterval_s = 5\nsymbol_failures = 50\n"
        tables = f'armed = true\n[feed]\nendpoint = "{address.price_endpoint}"\n{worker}'
        accounts = [(broker.accounts[SLUG], address)]
        async with recorded(database_url, folder, accounts, tables, kinds, clock=clock) as [station]:
            for kind in kinds:
                await until_worker_ready(station, kind)
            yield StopBench(station, broker, http, clock, folder, database_url, tables)

"""A trading day at high speed: the product's real kernel and the simulated broker under one clock that a test turns.

The clock stands still while both sides work: PostgreSQL, sockets and their timeouts live in real time. Nothing
waits for a fixed time: what should become true is looked at whenever a notification comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
from coldharbour_plugins.simulator.account import SimulatedAccount
from coldharbour_plugins.simulator.broker import SimulatedBroker
from coldharbour_plugins.simulator.digits import plain
from coldharbour_plugins.simulator.server import SimulatorAddress, running_simulator
from coldharbour_plugins.simulator.stamps import MINUTE as MINUTE_NS
from coldharbour_plugins.simulator.stamps import moment_of, nanoseconds
from psycopg import AsyncConnection
from psycopg.rows import dict_row

from coldharbour import loader, settings
from coldharbour.clock import SystemClock, VirtualClock
from coldharbour.databases import bring_up_to_date
from coldharbour.db import Subscription, open_database
from coldharbour.kernel import Kernel
from coldharbour.registry import Assignment, Registry
from coldharbour.sections import SimulatorSettings
from coldharbour.sessions import NEW_YORK
from coldharbour.settings import Configuration
from coldharbour.supervise import State
from fakes.ingest import LINES, SUMMARY

SLUG = "paper"
MINUTE = timedelta(minutes=1)
PRICE_STEP_S = 30  # prices move 15 and 45 seconds after each minute, so that it begins and ends calmly
TRADING_AT_S = (15, 45)
VALUED_AT_S, MINUTE_S = 48, 60
PATIENCE_S = 60.0  # real
LOOK_EVERY_S = 0.002  # real, while no notification comes
CREEP_S, CREEP_EVERY_S = 0.5, 0.1  # what the clock is turned on while something waits for it, and how often (real)
CREEP_MOST_S = 5.0  # before prices move
SETTLED = {State.READY, State.SLEEPING}
INGEST = ("stream", "backfill", "healing", "schedule")
MANAGE = ("prices", "snapshot", "closed_trades", "cash_flows", "equity", "metrics", "heartbeat")
CONFIGURATION = """
[simulator]
port = {port}
price_endpoint = "{prices}"

[feed]
endpoint = "{prices}"
max_silence_s = 60

[destinations.paper]
simulated = true
initial_deposit = 100000
requests_per_min = 100000

[workers.stream]
probe_idle_s = 300
probe_busy_s = 300
alive_every_s = 60

[workers.healing]
interval_s = 900

[workers.metrics]
interval_s = 60

[workers.heartbeat]
interval_s = 60
"""
Row = dict[str, Any]

LAKE = ("orders", "orders_md5", "activities", "activities_md5")
CURVE = "select at, equity, source from accounts.equity_intraday where destination = %s and session_date = %s"
REALISED = """
    select exit_order_id, sum(pnl_cash_fifo) as profit from accounts.closed_trades where destination = %s group by 1
"""
FIGURES = """
    select (select coalesce(jsonb_object_agg(symbol, trim_scale(qty)::text), '{}') from (
               select symbol, sum(qty) as qty from accounts.open_trades where destination = %(slug)s group by symbol
           ) as held where qty <> 0) as positions,
        minute.equity, minute.complete, day.cash, day.deposit
    from (select) as one
    left join accounts.equity_intraday as minute on minute.destination = %(slug)s and minute.at = %(minute)s
    left join accounts.equity_full as day on day.destination = %(slug)s and day.session_date = %(day)s
"""


@dataclass
class Session:
    """One account at the simulated broker, and the kernel that runs its workers while it is `running`."""

    url: str
    configuration: Configuration
    registry: Registry
    assignments: Sequence[Assignment]
    clock: VirtualClock
    broker: SimulatedBroker
    conn: AsyncConnection
    heard: Subscription
    kernel: Kernel | None = None
    untold: int | None = None  # events of the broker that no stream carried; None while nobody listens
    _known: tuple[tuple[int, int], Row] | None = None  # the truth after so many events and activities

    @property
    def account(self) -> SimulatedAccount:
        """The broker's side of the account."""
        return self.broker.accounts[SLUG]

    @property
    def now(self) -> datetime:
        """What the clock shows."""
        return self.clock.now()

    @property
    def values(self) -> bool:
        """Whether the workers run that say what the account is worth."""
        return any(work.worker.spec.kind == "equity" for work in self.assignments)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the product inside the block, as a process that is started and ended; ready when the block begins."""
        async with open_database(self.url, name="session", max_size=8, clock=SystemClock()) as db:
            self.kernel = Kernel(
                self.configuration, self.registry, self.assignments, db=db, clock=self.clock, random=Random(1)
            )
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.kernel.run)
                await self.until(self._is_ready)
                self.untold = self.account.blotter.event_count - await self._frames()
                yield
                tasks.cancel_scope.cancel()
            self.kernel = self.untold = None

    async def minute(self) -> datetime:
        """Let time pass to the next full minute; return the minute that ended, by its start."""
        began = self.now.replace(second=0, microsecond=0)
        for mark in (*TRADING_AT_S, VALUED_AT_S, MINUTE_S):
            left_s = (began - self.now).total_seconds() + mark
            if left_s > 0:
                await self._pass(left_s, trading=mark in TRADING_AT_S)
            if mark == VALUED_AT_S and self.untold is not None:
                await self.until(self._is_told)
                if self.values and self.broker.sessions.extended_at(nanoseconds(began)):
                    await self.until(self._is_priced)
        return began

    async def pause(self, until: datetime) -> None:
        """Let minutes pass in which the product is held up while the broker goes on."""
        await self.until(self._is_at_rest)
        while self.now < until:
            began = self.now.replace(second=0, microsecond=0)
            for mark in (*TRADING_AT_S, MINUTE_S):
                self.clock.advance((began - self.now).total_seconds() + mark)
                self._act(trading=mark in TRADING_AT_S)
        if self.untold is not None:
            await self.until(self._has_heard)
            await self.until(self._is_at_rest)

    async def _pass(self, seconds: float, *, trading: bool = False) -> None:
        """Turn the clock, let the broker act, and wait until the product has heard of it and is at rest."""
        told = self.account.blotter.event_count
        self.clock.advance(seconds)
        self._act(trading=trading)
        if self.untold is not None and told != self.account.blotter.event_count:
            await self.until(self._has_heard)
        await self.until(self._is_at_rest)

    def _act(self, *, trading: bool = False) -> None:
        """Let the broker do all it does at this moment, so that its own pulse finds nothing more to do."""
        told = self.account.blotter.event_count
        self.broker.trading = trading
        self.broker.step()
        self.broker.trading = False
        while told != (told := self.account.blotter.event_count):
            self.broker.step()

    async def until(self, holds: Callable[[], Awaitable[bool]]) -> None:
        """Return once this is true; the clock creeps on a little meanwhile. Raises TimeoutError."""
        crept_s, creep_at_s = 0.0, anyio.current_time() + CREEP_EVERY_S
        give_up_at_s = anyio.current_time() + PATIENCE_S
        while not await holds():
            if anyio.current_time() > give_up_at_s:
                raise TimeoutError
            with anyio.move_on_after(LOOK_EVERY_S):
                await anext(self.heard)
            if anyio.current_time() > creep_at_s and crept_s < CREEP_MOST_S:
                crept_s, creep_at_s = crept_s + CREEP_S, anyio.current_time() + CREEP_EVERY_S
                self.clock.advance(CREEP_S)
                self._act()

    async def select(self, query: str, *parameters: object, **named: object) -> list[Row]:
        """Return what a query on the database finds."""
        with anyio.CancelScope(shield=True):  # a cancelled query closes its connection
            async with self.conn.cursor(row_factory=dict_row) as cursor:
                await cursor.execute(query.encode(), named or parameters)
                rows = await cursor.fetchall()
        return rows

    async def agrees(self, minute: datetime) -> None:
        """Return once the product says what the broker knows. Raises AssertionError with what stayed different.

        minute: the one that has just ended, by its start.
        """

        async def is_equal() -> bool:
            return not await self.differences(minute)

        try:
            await self.until(is_equal)
        except TimeoutError:
            raise AssertionError(f"{minute} at {self.now}: {await self.differences(minute)}") from None

    async def differences(self, minute: datetime) -> dict[str, tuple[object, object]]:
        """Return what the product and the broker say, by the name of what they do not agree on."""
        theirs = self._truth() | (self._figures(minute) if self.values else {})
        ours = await self._lake() | (await self._tables(minute) if self.values else {})
        return {name: (ours[name], theirs[name]) for name in ours.keys() & theirs.keys() if ours[name] != theirs[name]}

    async def _lake(self) -> Row:
        return (await self.select(LINES + SUMMARY, SLUG, SLUG))[0]

    def _truth(self) -> Row:
        happened = (self.account.blotter.event_count, self.account.blotter.ledger.count)
        if self._known is None or self._known[0] != happened:
            truth = self.account.truth()
            self._known = (happened, {name: truth[name] for name in LAKE})
        return self._known[1]

    async def _tables(self, minute: datetime) -> Row:
        [found] = await self.select(FIGURES, slug=SLUG, minute=minute, day=minute.astimezone(NEW_YORK).date())
        return found | {name: found[name] and round(found[name], 2) for name in ("equity", "cash", "deposit")}

    def _figures(self, minute: datetime) -> Row:
        """Return what the tables should say; outside a session there is no such minute, and no row of the day yet.

        The minute's equity is that of its end. Everything else is of now: what fills at the bell, fills a moment later.
        """
        if self.broker.sessions.extended_at(nanoseconds(minute)) is None:
            return {"equity": None, "complete": None}
        ended, now = self.account.minutes[nanoseconds(minute)], self.account.holdings()
        return {
            "positions": {symbol: plain(qty) for symbol, qty in now.quantities.items()},
            "equity": round(ended.equity, 2),
            "complete": True,
            "cash": round(now.cash, 2),
            "deposit": round(now.equity, 2),
        }

    async def curve_differences(self, day: date) -> dict[datetime, tuple[object, Decimal]]:
        """Return the minutes of a session whose equity is not the broker's in whole cents: ours, and theirs."""
        found = self.broker.sessions.on(day)
        assert found is not None
        theirs = {ns: round(self.account.minutes[ns].equity, 2) for ns in range(found.pre, found.post, MINUTE_NS)}
        ours = {row["at"]: (round(row["equity"], 2), row["source"]) for row in await self.select(CURVE, SLUG, day)}
        return {
            at: (ours.get(at), equity)
            for at, equity in ((moment_of(ns), equity) for ns, equity in theirs.items())
            if at not in ours or ours[at][0] != equity
        }

    async def profit_differences(self) -> dict[str, tuple[object, object]]:
        """Return the exits whose first-in-first-out profit is not the broker's in whole cents: ours, and theirs."""
        theirs = {order: round(profit, 2) for order, profit in self.account.realised().items()}
        ours = {row["exit_order_id"]: round(row["profit"], 2) for row in await self.select(REALISED, SLUG)}
        both = ours.keys() | theirs.keys()
        return {order: (ours.get(order), theirs.get(order)) for order in both if ours.get(order) != theirs.get(order)}

    async def _is_priced(self) -> bool:
        """Say whether the stream has brought the newest price of everything that is held."""
        assert self.kernel is not None
        told = {symbol: self.kernel._prices.last(symbol) for symbol in self._held()}
        return all(last and last.price == self.broker.market.price(symbol) for symbol, last in told.items())

    def _held(self) -> dict[str, Decimal]:
        return self.account.holdings().quantities

    async def _is_ready(self) -> bool:
        """Say whether every worker runs, or sleeps as it should."""
        lanes = self.kernel.lanes if self.kernel else []
        return bool(lanes) and all(lane.status.state in SETTLED for lane in lanes)

    async def _is_at_rest(self) -> bool:
        """Say whether no worker is in the middle of its start or of a cycle: its clock must not jump there."""
        await _all_others_wait()  # whoever the clock woke has begun
        return self.kernel is None or not any(lane._busy for lane in self.kernel.lanes)

    async def _has_heard(self) -> bool:
        """Say whether the newest event that the broker told is in the lake."""
        return await self._frames() == self.account.blotter.event_count - (self.untold or 0)

    async def _is_told(self) -> bool:
        """Say whether what no stream tells of, such as a deposit, is in the lake too."""
        query = "select count(*) from account_activities.raw_activities where destination = %s"
        [found] = await self.select(query, SLUG)
        if found["count"] == self.account.blotter.ledger.count:
            return True
        if self.kernel is not None:
            self.kernel.wake(SLUG, "healing")
        return False

    async def _frames(self) -> int:
        query = "select count(*) from account_activities.raw_events where destination = %s"
        return int((await self.select(query, SLUG))[0]["count"])


async def _all_others_wait() -> None:
    """Return when no other task can go on by itself; anyio's `wait_all_tasks_blocked` looks ten times a second only."""
    this = asyncio.current_task()
    while any(_can_go_on(task) for task in asyncio.all_tasks() if task is not this):
        await anyio.lowlevel.checkpoint()


def _can_go_on(task: asyncio.Task[Any]) -> bool:
    awaited = task._fut_waiter  # type: ignore[attr-defined]
    return awaited is None or awaited.done()


def at(day: date, hour: int, minute: int = 0) -> datetime:
    """Return a New York wall time as UTC."""
    return datetime.combine(day, time(hour, minute), NEW_YORK).astimezone(UTC)


@asynccontextmanager
async def session(
    database_url: str, folder: Path, start: datetime, *, kinds: Sequence[str], seed: int = 7, history_days: int = 10
) -> AsyncIterator[Session]:
    """Open an account with some history at a broker in New York's hours, its clock at `start`."""
    clock = VirtualClock(start)
    broker = SimulatedBroker(
        seed=seed,
        accounts={SLUG: Decimal(100_000)},
        clock=clock,
        history_days=history_days,
        always_open=False,
        trading=False,
        price_step_s=PRICE_STEP_S,
    )
    place = SimulatorSettings.model_validate({"port": 0, "price_endpoint": "tcp://127.0.0.1:*"})
    async with AsyncExitStack() as stack:
        stack.callback(broker.close)
        address = await stack.enter_async_context(running_simulator(broker, place))
        configuration = _configured(folder, address)
        registry = await anyio.to_thread.run_sync(loader.load_plugins, configuration)
        chosen = [work for work in registry.assignments if work.worker.spec.kind in kinds]
        await bring_up_to_date(database_url, configuration, registry)
        db = await stack.enter_async_context(open_database(database_url, name="test", clock=SystemClock()))
        listener = await stack.enter_async_context(db.listener())
        heard = listener.subscribe("status_channel", *(f"{name}_channel_{SLUG}" for name in ("raw", "pos", "equity")))
        conn = await stack.enter_async_context(await db.connect("looking"))
        yield Session(database_url, configuration, registry, chosen, clock, broker, conn, heard)


def _configured(folder: Path, address: SimulatorAddress) -> Configuration:
    file = folder / "session.toml"
    file.write_text(CONFIGURATION.format(port=address.port, prices=address.price_endpoint))
    return settings.load(file, {})

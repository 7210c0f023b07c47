"""The `prices` worker: values every open lot at the last price, writes what moved and tells the pages.

Start and recovery are one path: subscribe, read the lots, find a price for each, value them all, then say ready.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import anyio
import msgspec
from anyio.abc import TaskStatus
from pydantic import BaseModel, Field

from coldharbour import store as kernel_store
from coldharbour.accounts import AccountContext
from coldharbour.broker import BrokerRefused
from coldharbour.db import RESYNC, Note, Subscription, notify
from coldharbour.errors import Transient
from coldharbour.feed.substitutes import Substitutes
from coldharbour.feed.watch import Watch
from coldharbour.hookspecs import WorkerSpec, hookimpl
from coldharbour.live.marks import store
from coldharbour.live.marks.book import MarkBook
from coldharbour.live.marks.catch_up import CatchUp
from coldharbour.live.marks.history import BarHistory
from coldharbour.live.marks.lot import Hearing, MarkedLot
from coldharbour.live.marks.model import Mark
from coldharbour.sessions import MarketSession, Phase, Schedule

CATCH_UP_S = 20.0  # between looks at what the extremes have not seen
NEWS_OF_STRUCTURE = '{"op":'  # how every note begins but our own


class PriceSettings(BaseModel, frozen=True, extra="forbid"):
    """How open lots are valued."""

    push_threshold_pct: float = Field(
        0.01, ge=0, description="Percent that a price must move before the lot is written and told ahead of the flush."
    )
    batch_s: float = Field(0.05, gt=0, description="Seconds between two batches; the first after a pause goes at once.")
    flush_s: float = Field(60, gt=0, description="Seconds after which smaller moves are written and told as well.")
    poll_s: float = Field(30, gt=0, description="Seconds between looks at the lots and the calendar without a notice.")
    max_price_age_s: float = Field(
        900, gt=0, description="Seconds after which a price is looked for elsewhere than in the stream."
    )


class NoteOfStructure(msgspec.Struct, frozen=True):
    """What the book-keeping tells: a lot changed, a lot is gone, or everything is to be read again."""

    op: str
    parent_id: str = ""


decode_note = msgspec.json.Decoder(NoteOfStructure).decode


class Valuer:
    """One account's lots, from the last price to the table and the channel. One task writes, the others wake it."""

    def __init__(self, ctx: AccountContext, cfg: PriceSettings, watch: Watch) -> None:
        self.ctx, self.cfg, self.watch = ctx, cfg, watch
        self.slug = ctx.destination.slug
        self.book = MarkBook(cfg.push_threshold_pct)
        self.substitutes = Substitutes(ctx.prices, ctx.market_db, ctx.broker)
        self.past = CatchUp(self.book, BarHistory(ctx.market_db, ctx.broker), ctx.broker, ctx.clock)
        self._sessions: list[MarketSession] = []
        self._changed: set[str] = set()  # lots to be read again
        self._changed_all = self._flush = True

    async def begin(self) -> None:
        """Value every lot once: the start, and the recovery."""
        await self._read_sessions()
        await self._read_lots()
        self.ctx.alive()
        await self._find_prices(starting=True)
        self.ctx.alive()
        while not await self._work():
            self.ctx.alive()
            await self.ctx.clock.sleep(self.cfg.batch_s)

    async def run(self) -> None:
        """Work whenever something moved: at once after a pause, then once per batch interval."""
        while True:
            await self.watch.wait()
            began_s = self.ctx.clock.monotonic()
            await self._work()
            await self.ctx.clock.sleep(self.cfg.batch_s - (self.ctx.clock.monotonic() - began_s))

    async def follow(self, notes: Subscription) -> None:
        """Hear of changes of structure."""
        async for note in notes:
            self._hear(note)

    async def poll(self) -> None:
        """Look without a notice: at the lots, the calendar, and for prices that the stream does not bring."""
        while True:
            await self.ctx.clock.sleep(self.cfg.poll_s)
            await self._read_sessions()
            await self._find_prices(starting=False)
            self._changed_all = True
            self.watch.wake()

    async def flush(self) -> None:
        """Have everything written now and then."""
        while True:
            await self.ctx.clock.sleep(self.cfg.flush_s)
            self._flush = True
            self.watch.wake()

    async def catch_up(self) -> None:
        """Fill the holes of the extremes from bars; a failure is logged once, and its end too."""
        failing = False
        while True:
            try:
                await self.past.fill_holes(self._hearing(), self._sessions)
                self.watch.wake()
            except (Transient, BrokerRefused) as error:
                if not failing:
                    self.ctx.log.warning("extremes.waiting", error=str(error))
                failing = True
            else:
                if failing:
                    self.ctx.log.info("extremes.recovered")
                failing = False
            await self.ctx.clock.sleep(CATCH_UP_S)

    def _hear(self, note: Note) -> None:
        if note is RESYNC:
            self._changed_all = True
        else:
            try:
                told = decode_note(note.payload)
            except msgspec.MsgspecError as error:
                self.ctx.log.debug("prices.unknown_note", error=str(error))
                return
            if told.op in ("lot", "delete"):
                self._changed.add(told.parent_id)
            elif told.op == "resync":
                self._changed_all = True
        self.watch.wake()

    async def _work(self) -> bool:
        """Value what moved, write what is due in one statement, and tell it; False if it was another's turn."""
        moves, hearing = self.watch.take(), self._hearing()
        self.book.move(moves)
        if self._changed or self._changed_all:
            await self._read_lots()
        flush, self._flush = self._flush, False
        lots = self.book.due(flush=flush)
        marks = {
            lot.lot.parent_id: mark
            for lot in (lots + self.book.quiet() if flush else lots)
            if (mark := lot.mark(hearing)) and mark != lot.written
        }
        saved = await self._save(list(marks.values())) if marks else set()
        if saved is None:  # the book-keeping is writing: everything stays due
            self._flush = self._flush or flush
            self.watch.wake()
            return False
        self.book.written(marks[parent_id] for parent_id in saved)
        if changed := marks.keys() - saved:
            self._changed |= changed
            self.watch.wake()
        await self._tell([lot for lot in lots if lot.lot.parent_id not in changed])
        if moves:
            heard_at = min(move.last.received_at for move in moves)
            self.ctx.lag((self.ctx.clock.now() - heard_at).total_seconds())
        return True

    def _hearing(self) -> Hearing:
        prices = self.ctx.prices
        return Hearing(None if prices.is_silent else prices.hearing_since, prices.heard_at)

    async def _save(self, marks: Sequence[Mark]) -> set[str] | None:
        async with self.ctx.db.transaction() as conn:
            if not await store.take_turn(conn, self.slug):
                return None
            if self.ctx.lease is not None:
                await self.ctx.lease.check(conn)
            return await store.save_marks(conn, self.slug, marks)

    async def _tell(self, lots: Sequence[MarkedLot]) -> None:
        if lots:
            now = self.ctx.clock.now()
            rows = (msgspec.json.encode({"row": lot.row(now)}).decode() for lot in lots)
            await notify(self.ctx.db, f"pos_channel_{self.slug}", *rows)
            self.book.told(lots)

    async def _read_lots(self) -> None:
        asked = None if self._changed_all else frozenset(self._changed)
        self._changed_all = False
        self._changed.clear()
        async with self.ctx.db.transaction() as conn:
            stored = await store.held_lots(conn, self.slug, asked)
        self.book.take_over(stored, asked, self.ctx.clock.now())
        self.watch.follow(self.book.symbols)
        for lot in stored:
            if lot.mkt_px is not None and lot.mkt_at is not None and self.ctx.prices.last(lot.lot.symbol) is None:
                self.ctx.prices.seed(lot.lot.symbol, lot.mkt_px, lot.mkt_at)
        self.book.value_new(self.ctx.prices.last)

    async def _read_sessions(self) -> None:
        async with self.ctx.db.transaction() as conn:
            self._sessions = await kernel_store.sessions_of(conn, self.ctx.destination.market)
        self.watch.sessions = Schedule(self._sessions)

    async def _find_prices(self, *, starting: bool) -> None:
        """Look elsewhere for what the stream does not tell while there is trade, and for everything at the start."""
        if starting or self.ctx.phase() is not Phase.CLOSED:
            prices = self.ctx.prices
            age_s = prices.max_silence_s if prices.is_silent else self.cfg.max_price_age_s
            await self.substitutes.seed(list(self.book.symbols), self.ctx.clock.now(), timedelta(seconds=age_s))


async def value_lots(ctx: AccountContext, cfg: PriceSettings, *, task_status: TaskStatus[None]) -> None:
    """Keep the market's columns of every open lot at the last price."""
    with ctx.prices.watch() as watch:
        valuer = Valuer(ctx, cfg, watch)
        await valuer.begin()
        async with (
            ctx.db.listener() as listener,
            listener.subscribe(f"pos_channel_{ctx.destination.slug}", only=NEWS_OF_STRUCTURE) as notes,
            anyio.create_task_group() as tasks,
        ):
            for task in (valuer.poll, valuer.flush, valuer.catch_up):
                tasks.start_soon(task)
            tasks.start_soon(valuer.follow, notes)  # it begins with a call to read everything again
            task_status.started()
            await valuer.run()


@hookimpl
def register_workers() -> list[WorkerSpec]:
    """Offer the `prices` worker."""
    return [
        WorkerSpec(
            kind="prices", settings=PriceSettings, run=value_lots, service="manage", stall_s=60, uses_prices=True
        )
    ]

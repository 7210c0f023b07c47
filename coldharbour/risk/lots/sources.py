"""Where protected lots come from: the open trades, else the lake, else the broker; the first that can be trusted.

Owns that choice, and the extremes of lots that nobody values; decides nothing about a stop.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import timedelta
from decimal import Decimal

from coldharbour import store as kernel_store
from coldharbour.accounts import AccountContext
from coldharbour.broker import BrokerRefused
from coldharbour.errors import NeedsOperator, Transient
from coldharbour.lake.pull import Puller
from coldharbour.lake.writer import Lake
from coldharbour.live.following import FollowedBook
from coldharbour.live.marks import store as marks_store
from coldharbour.live.marks.book import MarkBook
from coldharbour.live.marks.catch_up import CatchUp
from coldharbour.live.marks.history import BarHistory
from coldharbour.live.marks.lot import Hearing
from coldharbour.live.marks.model import Extremes, HeldLot, StoredLot
from coldharbour.live.model import Lot, Side
from coldharbour.risk.lots import store
from coldharbour.risk.lots.breakouts import Breakouts
from coldharbour.risk.lots.store import StoredProtection
from coldharbour.risk.lots.watched import LoadedLot
from coldharbour.risk.model import ProtectedLot, StopKind

KEPT_WITHIN = timedelta(seconds=30)  # a worker's state is written every few seconds
LONG_AGO = timedelta(days=365)


class LotSources:
    """Reads the protected lots of one account. `source` is where they came from the last time."""

    def __init__(self, ctx: AccountContext, breakouts: Breakouts) -> None:
        self.source = ""
        self._ctx, self._breakouts, self._slug = ctx, breakouts, ctx.destination.slug
        self._lake: LakeLots | None = None

    async def is_kept(self) -> bool:
        """Say whether the table of open trades is in step with the lake."""
        async with self._ctx.db.transaction() as conn:
            return await store.is_kept(conn, self._slug, self._ctx.clock.now() - KEPT_WITHIN)

    async def load(self) -> list[LoadedLot]:
        """Return the lots that a live stop protects. Raises Transient and BrokerRefused."""
        since = self._ctx.clock.now() - KEPT_WITHIN
        async with self._ctx.db.transaction() as conn:
            is_kept = await store.is_kept(conn, self._slug, since)
            has_orders = await store.has_orders(conn, self._slug)
            stored = await store.protected_lots(conn, self._slug) if is_kept else []
        if is_kept and (stored or has_orders):
            self._note("open_trades")
            self._lake = None
        else:
            self._note("lake" if has_orders else "broker")
            stored = await self._from_lake(has_orders=has_orders)
        targets = await self._breakouts.targets([(lot.parent_id, lot.symbol, lot.entry_time) for lot in stored])
        return [_loaded(lot, targets.get(lot.parent_id)) for lot in stored]

    async def _from_lake(self, *, has_orders: bool) -> list[StoredProtection]:
        if not has_orders:
            await self._fill_lake()
        if self._lake is None:
            self._lake = LakeLots(self._ctx)
        try:
            return await self._lake.load()
        except BaseException:
            self._lake = None  # a book that failed is not to be used again
            raise

    async def _fill_lake(self) -> None:
        """Have the broker's own account of everything written: from the first order that is known of, or was made."""
        ctx = self._ctx
        async with ctx.db.transaction() as conn:
            earliest = await store.earliest_order(conn, self._slug)
        if earliest is None:
            first = await anext(ctx.broker.walk_orders(None, page_limit=1), None)
            stamps = [order.submitted_at for order in first.orders if order.submitted_at] if first else []
            earliest = min(stamps, default=ctx.clock.now() - LONG_AGO)
        puller = Puller(Lake(self._slug, ctx.db, ctx.clock), ctx.broker, ctx.alive)
        since = earliest - timedelta(seconds=1)
        await puller.orders(since, nested=True)
        await puller.orders(since, nested=False)
        await puller.activities(since)

    def _note(self, source: str) -> None:
        if source != self.source:
            self._ctx.log.info("lots.source", source=source, before=self.source or None)
        self.source = source


class LakeLots:
    """Matches the lots from the lake's orders and fills, and finds their extremes in bars, while nobody else does."""

    def __init__(self, ctx: AccountContext) -> None:
        destination = ctx.destination
        self._ctx = ctx
        self._followed = FollowedBook(ctx.db, destination.slug, destination.market, ctx.clock)
        self._is_loaded = False
        self._marks = MarkBook(0)
        self._past = CatchUp(self._marks, BarHistory(ctx.market_db, ctx.broker), ctx.broker, ctx.clock)

    async def load(self) -> list[StoredProtection]:
        """Return the lots as of now."""
        if self._is_loaded:
            await self._followed.catch_up()
        else:
            await self._followed.load(lambda done, expected: self._ctx.alive())
            self._is_loaded = True
        book = self._followed.book
        lots = [lot for symbol in book.symbols() for lot in book.lots(symbol) if lot.stop_order_id is not None]
        extremes = await self._extremes(lots)
        stop_ids = [lot.stop_order_id or "" for lot in lots]
        async with self._ctx.db.transaction() as conn:
            moved = await store.moved_stops(conn, self._followed.slug, stop_ids)
        sharers = Counter(stop_ids)
        return [self._protection(lot, moved, extremes, sharers[lot.stop_order_id or ""]) for lot in lots]

    def _protection(
        self, lot: Lot, moved: Mapping[str, tuple[str, Decimal]], extremes: Mapping[str, Extremes], sharers: int
    ) -> StoredProtection:
        stop_id = lot.stop_order_id or ""
        stop, known = self._followed.book.lineage.order(stop_id), extremes.get(lot.parent_id, Extremes())
        now_id, now_price = moved.get(stop_id, (stop_id, lot.stop_price))
        return StoredProtection(
            parent_id=lot.parent_id, symbol=lot.symbol, side=lot.side, qty=lot.qty, entry_qty=lot.entry_qty,
            entry_price=lot.avg_fill, entry_time=lot.entry_time, last_fill_time=lot.last_fill_time,
            initial_stop=lot.initial_stop, stop_order_id=now_id, stop_price=now_price,
            stop_kind=stop.order_type if stop else None, limit_price=stop.limit_price if stop else None,
            is_leg=stop is not None and stop.parent_id is not None, sharers=sharers, high_px=known.high,
            low_px=known.low,
        )  # fmt: skip

    async def _extremes(self, lots: Sequence[Lot]) -> dict[str, Extremes]:
        """Return how far prices went since each entry: what was valued while somebody did, and bars for the rest."""
        ctx, slug = self._ctx, self._followed.slug
        async with ctx.db.transaction() as conn:
            known = {held.lot.parent_id: held for held in await marks_store.held_lots(conn, slug)}
            sessions = await kernel_store.sessions_of(conn, ctx.destination.market)
        self._marks.take_over(_stored(lots, known), None, ctx.clock.now())
        try:
            await self._past.fill_holes(Hearing(), sessions)
        except (Transient, BrokerRefused) as error:
            if isinstance(error, NeedsOperator):
                raise
            ctx.log.warning("lots.no_bars", error=str(error))
        return {parent_id: marked.extremes for parent_id, marked in self._marks.lots.items()}


def _stored(lots: Iterable[Lot], known: Mapping[str, StoredLot]) -> Iterator[StoredLot]:
    """Yield lots with the extremes that stand in the table; those of other shares are not the lot's any more."""
    for lot in lots:
        before = known.get(lot.parent_id)
        is_same = before is not None and before.lot.entry_qty == lot.entry_qty
        held = HeldLot(**{field.name: getattr(lot, field.name) for field in fields(lot)}, version=1)
        yield StoredLot(held, extremes=before.extremes if before and is_same else Extremes())


def _loaded(stored: StoredProtection, target: Decimal | None) -> LoadedLot:
    kind = StopKind(stored.stop_kind) if stored.stop_kind in set(StopKind) else StopKind.STOP
    lot = ProtectedLot(
        parent_id=stored.parent_id, symbol=stored.symbol, side=Side(stored.side), qty=stored.qty,
        entry_price=stored.entry_price, stop_order_id=stored.stop_order_id, stop_price=stored.stop_price,
        stop_kind=kind, limit_price=stored.limit_price if kind is StopKind.STOP_LIMIT else None,
        initial_stop=stored.initial_stop, target=target, entry_time=stored.entry_time,
    )  # fmt: skip
    return LoadedLot(
        lot=lot, entry_qty=stored.entry_qty, last_fill_time=stored.last_fill_time,
        extremes=Extremes(stored.high_px, stored.low_px), mkt_px=stored.mkt_px, foreign=foreign(stored),
    )  # fmt: skip


def foreign(stored: StoredProtection) -> str:
    """Return why a stop is not the lot's own to be moved, empty if it is: a stray one protects whoever it can."""
    stop = stored.stop_order_id
    if stored.stop_kind not in set(StopKind):
        return f"the lake holds no stop order {stop}"
    if stored.initial_stop is None or not stored.is_leg:
        return f"{stop} is nobody's leg, and protects this lot by chance"
    return f"{stop} protects {stored.sharers} lots at once" if stored.sharers > 1 else ""

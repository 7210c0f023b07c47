"""The `stream` worker: writes every frame of the order stream to the lake, and what was missed before it.

Start and recovery are one path: subscribe, fetch what was missed, then say ready.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

import anyio
from anyio.abc import TaskStatus
from pydantic import BaseModel, Field

from coldharbour.accounts import AccountContext
from coldharbour.broker import Frame, Priority, StreamLost, TradeUpdates
from coldharbour.errors import Transient
from coldharbour.events import GapHealed, GapOpened, MessageQuarantined
from coldharbour.hookspecs import WorkerSpec, hookimpl
from coldharbour.lake.changes import Recorded
from coldharbour.lake.completeness import store as completeness
from coldharbour.lake.completeness.store import Gap
from coldharbour.lake.gaps import is_mute, newest_audible, refetch_from
from coldharbour.lake.pull import Puller
from coldharbour.lake.writer import Lake, fill_events
from coldharbour.supervise import Backoff


class StreamSettings(BaseModel, frozen=True, extra="forbid"):
    """How the order stream is followed."""

    batch_size: int = Field(500, gt=0, description="Most frames in one transaction.")
    hold_s: float = Field(30, ge=0, description="Seconds to hold frames while the database is away.")
    alive_every_s: float = Field(5, gt=0, description="Seconds between notes that an idle stream is alive.")
    probe_idle_s: float = Field(10, gt=0, description="Seconds of silence after which REST is asked for news.")
    probe_busy_s: float = Field(60, gt=0, description="Seconds between the same questions on a busy stream.")


class StreamMute(Transient):
    """The stream is connected but keeps silent about what REST shows."""


class Recorder:
    """One connection's recording: what was heard last, and what REST knows that the stream should have told."""

    def __init__(self, ctx: AccountContext, cfg: StreamSettings, updates: TradeUpdates) -> None:
        self.ctx, self.cfg, self.updates = ctx, cfg, updates
        self.lake = Lake(ctx.destination.slug, ctx.db, ctx.clock)
        self.puller = Puller(self.lake, ctx.broker, ctx.alive, Priority.HEAL)
        self.listening_at = self.heard_at = self._noticed_at = ctx.clock.now()
        self.last_frame_s = self.last_probe_s = ctx.clock.monotonic()
        self._unwritten_since: datetime | None = None
        self._newest_news: datetime | None = None

    async def write_frames(self) -> None:
        """Write every frame as it comes, in as few transactions as keep up."""
        async for frames in self.updates.batches(max_size=self.cfg.batch_size):
            self._unwritten_since = frames[0].received_at
            recorded = await self._write(frames)
            self._unwritten_since = None
            self.heard_at = max([self.heard_at, *_moments(frames)])
            self.last_frame_s = self.ctx.clock.monotonic()
            self.ctx.lag((self.ctx.clock.now() - frames[0].received_at).total_seconds())
            self.announce(recorded)
            for frame in frames:
                if frame.problem:
                    self.ctx.emit(MessageQuarantined(at=frame.received_at, source="stream", reason=frame.problem))

    async def _write(self, frames: Sequence[Frame]) -> Recorded:
        """Write a batch, holding it for a while when the database is away: the stream replays nothing."""
        backoff = Backoff(self.ctx.random, first_s=0.1, longest_s=2.0)
        give_up_s = self.ctx.clock.monotonic() + self.cfg.hold_s
        while True:
            try:
                return await self.lake.write_frames(frames)
            except Transient as error:
                if self.ctx.clock.monotonic() > give_up_s:
                    raise
                self.ctx.log.warning("stream.holding", frames=len(frames), error=str(error))
                await self.ctx.clock.sleep(backoff.next_s())

    def announce(self, recorded: Recorded) -> None:
        """Tell the observers of fills that are new to the lake."""
        for event in fill_events(recorded):
            self.ctx.emit(event)

    async def note_alive(self) -> None:
        """Keep the moment up to which the stream delivered; the socket's own ping bounds how wrong it can be."""
        while True:
            await self.ctx.clock.sleep(self.cfg.alive_every_s)
            delivered_at = self._unwritten_since or self.ctx.clock.now()
            with self._patience("stream.alive_unsaved"):
                await self.note_delivered(delivered_at)

    async def note_delivered(self, at: datetime) -> None:
        """Remember that everything the broker told up to this moment is in the lake."""
        async with self.ctx.db.transaction() as conn:
            await completeness.mark_stream_alive(conn, self.lake.slug, at)

    async def probe(self) -> None:
        """Ask REST for news now and then; raise StreamMute when the stream should have told of it."""
        while True:
            await self.ctx.clock.sleep(1)
            if is_mute(self._newest_news, self.heard_at, self._noticed_at, self.ctx.clock.now()):
                raise StreamMute("the order stream is open but silent about what REST shows")
            now_s = self.ctx.clock.monotonic()
            silent_s, unasked_s = now_s - self.last_frame_s, now_s - self.last_probe_s
            if unasked_s < (self.cfg.probe_idle_s if silent_s >= self.cfg.probe_idle_s else self.cfg.probe_busy_s):
                continue
            self.last_probe_s = now_s
            with self._patience("stream.unprobed"):
                await self.look_for_news()

    @contextmanager
    def _patience(self, event: str) -> Iterator[None]:
        """Let what can be tried again later fail: a healthy socket is not dropped for it."""
        try:
            yield
        except Transient as error:
            self.ctx.log.debug(event, error=str(error))

    async def look_for_news(self) -> None:
        """Bring what REST has since the stream was last heard, and remember its newest audible change."""
        since = refetch_from([self.heard_at], self.ctx.clock.now())
        recorded = await self.puller.recent(since) + (await self.puller.open_orders())[0]
        self.announce(recorded)
        newest = newest_audible(recorded.order_news, recorded.new_fills, self._newest_news)
        if newest != self._newest_news:
            self._newest_news, self._noticed_at = newest, self.ctx.clock.now()


async def record_events(ctx: AccountContext, cfg: StreamSettings, *, task_status: TaskStatus[None]) -> None:
    """Write every event the broker reports for this account to the lake, once each."""
    async with ctx.db.transaction() as conn:
        alive_at = await completeness.stream_alive_at(conn, ctx.destination.slug)
    if alive_at is not None:
        await _go_blind(ctx, alive_at, "restart")
    try:
        async with ctx.broker.trade_updates() as updates:
            recorder = Recorder(ctx, cfg, updates)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(recorder.write_frames)
                if alive_at is not None:  # before the first connection ever, all history is the backfill's
                    await _recover(recorder, alive_at)
                alive_at = recorder.listening_at
                await recorder.note_delivered(alive_at)  # from here on a loss is a gap, even the very next moment
                task_status.started()
                tasks.start_soon(recorder.note_alive)
                tasks.start_soon(recorder.probe)
    except* StreamLost as lost:
        await _went_blind(ctx, alive_at, next(_leaves(lost)).reason)
        raise
    except* StreamMute:
        await _went_blind(ctx, alive_at, "mute")
        raise


async def _recover(recorder: Recorder, alive_at: datetime) -> None:
    """Fetch what happened while nobody listened, and close the gap. The socket is read meanwhile."""
    ctx, slug = recorder.ctx, recorder.lake.slug
    async with ctx.db.transaction() as conn:
        gaps = await completeness.open_gaps(conn, slug)
    since = refetch_from([alive_at, *(gap.blind_from for gap in gaps)], ctx.clock.now())
    recorded = await recorder.puller.missed(since)
    recorder.announce(recorded)
    for gap in gaps:
        async with ctx.db.transaction() as conn:
            await completeness.credit_gap(conn, slug, gap.id, len(recorded.order_news), len(recorded.new_fills))
            healed = await completeness.heal_gap(
                conn, slug, gap.id, blind_to=recorder.listening_at, healed_at=ctx.clock.now()
            )
        if healed is not None:
            _tell_healed(ctx, healed, (recorder.listening_at - healed.blind_from).total_seconds())


def _tell_healed(ctx: AccountContext, gap: Gap, blind_s: float) -> None:
    orders, fills = gap.orders_recovered, gap.fills_recovered
    ctx.emit(GapHealed(at=ctx.clock.now(), gap_id=gap.id, blind_s=blind_s, orders=orders, fills=fills))
    ctx.log.info("gap.healed", reason=gap.reason, blind_s=round(blind_s, 1), orders=orders, fills=fills)


async def _go_blind(ctx: AccountContext, since: datetime, reason: str) -> None:
    slug = ctx.destination.slug
    async with ctx.db.transaction() as conn:
        known = await completeness.open_gaps(conn, slug)
        gap_id = await completeness.open_gap(conn, slug, since, reason)
    if not known:
        ctx.emit(GapOpened(at=ctx.clock.now(), gap_id=gap_id, reason=reason))


async def _went_blind(ctx: AccountContext, alive_at: datetime | None, reason: str) -> None:
    """Open the gap at once, so that healing starts and people see it; if even that fails, the restart does.

    A stream that never delivered yet cannot go blind.
    """
    if alive_at is None:
        return
    try:
        await _go_blind(ctx, ctx.clock.now(), reason)
    except Transient as error:
        ctx.log.warning("gap.unsaved", error=str(error))
    ctx.wake("healing")


def _moments(frames: Iterable[Frame]) -> Iterable[datetime]:
    return (frame.update.order.updated_at for frame in frames if frame.update)


def _leaves(group: BaseExceptionGroup[StreamLost]) -> Iterator[StreamLost]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


@hookimpl
def register_workers() -> list[WorkerSpec]:
    """Offer the `stream` worker."""
    return [WorkerSpec(kind="stream", settings=StreamSettings, run=record_events, service="ingest", stall_s=120)]

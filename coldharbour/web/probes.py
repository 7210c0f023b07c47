"""The routes that machines ask for: alive, ready, and figures for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

import anyio
from litestar import MediaType, Response, get
from litestar.datastructures import State
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from coldharbour import store as kernel_store
from coldharbour.errors import Transient
from coldharbour.web.board import Board
from coldharbour.web.contexts import WorkerView, worker_views

DATABASE_LIMIT_S = 2.0


@get("/healthz", sync_to_thread=False)
def healthz() -> dict[str, str]:
    """Say that the process answers; it says nothing about the workers."""
    return {"status": "alive"}


@get("/readyz", raises=[])
async def readyz(state: State) -> Response[dict[str, object]]:
    """Say whether every configured worker is ready or asleep and reported within 10 s; 503 says which is not."""
    problems = await _problems(state.board)
    return Response({"ready": not problems, "problems": problems}, status_code=503 if problems else 200)


@get("/metrics", media_type=MediaType.TEXT, sync_to_thread=False)
def metrics(state: State) -> Response[bytes]:
    """Return the figures of the last reading in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(BoardCollector(state.board))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


async def _problems(board: Board) -> list[dict[str, str]]:
    try:
        with anyio.fail_after(DATABASE_LIMIT_S):
            async with board.ctx.db.transaction() as conn:
                rows = await kernel_store.worker_rows(conn)
    except (Transient, TimeoutError) as error:
        return [{"destination": "", "worker": "", "why": f"the database does not answer: {error or 'no answer in time'}"}]
    slugs = ["", *(account.slug for account in board.accounts)]
    now = board.ctx.clock.now()
    return [
        {"destination": slug, "worker": worker.kind, "why": f"{worker.word}: {worker.detail}".rstrip(": ")}
        for slug in slugs
        for worker in worker_views(rows, board.expected(slug), slug, now)
        if not worker.is_well
    ]


class BoardCollector:
    """Turns what the board shows into metric families."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def collect(self) -> Iterator[Metric]:
        """Yield every family once (Prometheus' collector protocol)."""
        yield from self._lake()
        yield from self._workers()
        yield from self._pages()

    def _lake(self) -> Iterator[Metric]:
        rows = GaugeMetricFamily("coldharbour_rows", "Rows in the lake.", labels=["destination", "table"])
        working = GaugeMetricFamily("coldharbour_working_orders", "Orders that can still change.", labels=["destination"])
        opened = GaugeMetricFamily("coldharbour_gaps_open", "Blind times not healed yet.", labels=["destination"])
        healed = CounterMetricFamily("coldharbour_gaps_healed", "Blind times healed.", labels=["destination"])
        blind = CounterMetricFamily("coldharbour_blind_seconds", "Seconds of healed blindness.", labels=["destination"])
        recovered = CounterMetricFamily(
            "coldharbour_recovered", "What healing fetched.", labels=["destination", "what"]
        )
        age = GaugeMetricFamily("coldharbour_reading_age_seconds", "Age of these figures.", labels=["destination"])
        now = self._board.ctx.clock.now()
        for slug, view in self._board.views.items():
            counts, gaps = view.counts, view.gap_totals
            for table, number in (
                ("raw_orders", counts.orders),
                ("raw_activities", counts.activities),
                ("raw_activities_fills", counts.fills),
                ("raw_events", counts.frames),
                ("quarantine", counts.quarantined),
            ):
                rows.add_metric([slug, table], number)
            working.add_metric([slug], counts.working_orders)
            opened.add_metric([slug], gaps.open)
            healed.add_metric([slug], gaps.healed)
            blind.add_metric([slug], gaps.blind.total_seconds())
            recovered.add_metric([slug, "orders"], gaps.orders_recovered)
            recovered.add_metric([slug, "fills"], gaps.fills_recovered)
            age.add_metric([slug], (now - view.as_of).total_seconds())
        yield from (rows, working, opened, healed, blind, recovered, age)

    def _workers(self) -> Iterator[Metric]:
        labels = ["destination", "worker"]
        state = GaugeMetricFamily("coldharbour_worker_state", "1 for the state it is in.", labels=[*labels, "state"])
        restarts = CounterMetricFamily("coldharbour_worker_restarts", "Restarts after a bug.", labels=labels)
        lag = GaugeMetricFamily("coldharbour_worker_lag_seconds", "How far behind the broker.", labels=labels)
        for slug, worker in self._all_workers():
            state.add_metric([slug, worker.kind, worker.state], 1)
            restarts.add_metric([slug, worker.kind], worker.restarts)
            if worker.lag_s is not None:
                lag.add_metric([slug, worker.kind], worker.lag_s)
        yield from (state, restarts, lag)

    def _all_workers(self) -> Iterator[tuple[str, WorkerView]]:
        yield from (("", worker) for worker in self._board.installation)
        for slug, view in self._board.views.items():
            yield from ((slug, worker) for worker in view.workers)

    def _pages(self) -> Iterator[Metric]:
        streams = self._board.streams
        yield GaugeMetricFamily("coldharbour_sse_clients", "Open pages.", value=len(streams))
        yield CounterMetricFamily("coldharbour_sse_sent", "Pieces sent to pages.", value=streams.sent)
        yield CounterMetricFamily(
            "coldharbour_sse_dropped", "States replaced by newer ones before they were sent.", value=streams.dropped
        )
        yield CounterMetricFamily("coldharbour_sse_refused", "Pages refused: too many.", value=streams.refused)
        yield CounterMetricFamily("coldharbour_sse_slow", "Pages let go: too slow.", value=streams.slow)
        yield CounterMetricFamily("coldharbour_listener_resyncs", "Times LISTEN began.", value=self._board.resyncs)
        yield GaugeMetricFamily(
            "coldharbour_database_up", "1 while the database answers.", value=self._board.lost_since is None
        )

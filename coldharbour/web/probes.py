"""The routes that machines ask for: alive, ready, and figures for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

import anyio
from litestar import MediaType, Response, get
from litestar.datastructures import State
from litestar.openapi import ResponseSpec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from coldharbour import store as kernel_store
from coldharbour.errors import Transient
from coldharbour.web.board import Board
from coldharbour.web.contexts import WorkerView, worker_views

DATABASE_LIMIT_S = 2.0
NOT_READY = ResponseSpec(dict[str, object], generate_examples=False, description="Workers that are not well, and why.")


@get("/healthz", sync_to_thread=False)
def healthz() -> dict[str, str]:
    """Say that the process answers; it says nothing about the workers."""
    return {"status": "alive"}


@get("/readyz", responses={503: NOT_READY})
async def readyz(state: State) -> Response[dict[str, object]]:
    """Say whether every configured worker is ready or asleep, and was so 10 s ago; 503 says which is not."""
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
        return [{"destination": "", "worker": "", "why": str(error) or "the database does not answer"}]
    slugs = ["", *board.accounts]
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
        yield from self._gaps()
        yield from self._workers()
        yield from self._pages()

    def _lake(self) -> Iterator[Metric]:
        rows = gauge("rows", "Rows in the lake.", "destination", "table")
        working = gauge("working_orders", "Orders that can still change.", "destination")
        for slug, counts in self._board.counts.items():
            for table, number in (
                ("raw_orders", counts.orders),
                ("raw_activities", counts.activities),
                ("fills", counts.fills),
                ("raw_events", counts.frames),
                ("quarantine", counts.quarantined),
            ):
                rows.add_metric([slug, table], number)
            working.add_metric([slug], counts.working_orders)
        yield from (rows, working)

    def _gaps(self) -> Iterator[Metric]:
        opened = gauge("gaps_open", "Blind times of the order stream that are not healed.", "destination")
        healed = counter("gaps_healed", "Blind times that were healed.", "destination")
        blind = counter("blind_seconds", "Seconds of healed blindness.", "destination")
        recovered = counter("recovered", "What healing fetched from the broker.", "destination", "what")
        age = gauge("reading_age_seconds", "Age of the last reading of the tables.", "destination")
        now = self._board.ctx.clock.now()
        for slug, view in self._board.views.items():
            opened.add_metric([slug], view.gap_totals.open)
            healed.add_metric([slug], view.gap_totals.healed)
            blind.add_metric([slug], view.gap_totals.blind.total_seconds())
            recovered.add_metric([slug, "orders"], view.gap_totals.orders_recovered)
            recovered.add_metric([slug, "fills"], view.gap_totals.fills_recovered)
            age.add_metric([slug], (now - view.as_of).total_seconds())
        yield from (opened, healed, blind, recovered, age)

    def _workers(self) -> Iterator[Metric]:
        state = gauge("worker_state", "1 for the state that a worker is in.", "destination", "worker", "state")
        restarts = counter("worker_restarts", "Restarts after a bug.", "destination", "worker")
        lag = gauge("worker_lag_seconds", "How far a worker is behind the broker.", "destination", "worker")
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
        streams, board = self._board.streams, self._board
        for family, value in (
            (gauge("sse_clients", "Open pages."), len(streams)),
            (counter("sse_sent", "Pieces sent to open pages."), streams.sent),
            (counter("sse_dropped", "States replaced by newer ones before they were sent."), streams.dropped),
            (counter("sse_refused", "Pages refused because too many are open."), streams.refused),
            (counter("sse_slow", "Pages let go because they took nothing."), streams.slow),
            (counter("listener_resyncs", "Times that listening to the database began."), board.resyncs),
            (counter("notify_failures", "Notifications this process failed to send."), board.ctx.db.failed_notifies),
            (gauge("database_up", "1 while the database answers."), board.outage.lost_since is None),
        ):
            family.add_metric([], value)
            yield family


def gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    """Return an empty family of figures that go up and down."""
    return GaugeMetricFamily(f"coldharbour_{name}", text, labels=labels)


def counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
    """Return an empty family of figures that only grow; its samples end in _total."""
    return CounterMetricFamily(f"coldharbour_{name}", text, labels=labels)

"""What the pages show, as values: worker states, gaps and events turned into words; pure, no I/O.

The templates receive these values and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec

from coldharbour.destinations import ALPACA_TRADING_HOSTS, Destination
from coldharbour.events import AnyEvent
from coldharbour.lake.completeness.store import Gap
from coldharbour.sections import PAPER_URL
from coldharbour.sessions import Phase
from coldharbour.store import WorkerRow
from coldharbour.supervise import State
from coldharbour.web.formats import plural
from coldharbour.web.sentences import sentence
from coldharbour.web.store import CursorRow, GapTotals, HistoryRow, JournalRow, TapeRow

SILENT_AFTER = timedelta(seconds=10)  # a worker's row older than this says nothing about now
WELL = frozenset({State.READY, State.SLEEPING})

# How grave a state is, and the word that says it beside the colour.
TONES = {
    "ready": "good",
    "sleeping": "idle",
    "starting": "busy",
    "stopped": "idle",
    "retrying": "warn",
    "silent": "warn",
    "absent": "warn",
    "parked": "bad",
    "gave_up": "bad",
}
WORDS = {"gave_up": "gave up", "absent": "not running"}
GRAVITY = ("good", "idle", "busy", "warn", "bad")
MEANINGS = {"idle": "stopped", "busy": "starting", "warn": "impaired", "bad": "needs you"}

decoder = msgspec.json.Decoder(AnyEvent)


@dataclass(frozen=True, slots=True)
class Account:
    """One destination as its card shows it. venue: simulated, paper, live or custom."""

    slug: str
    name: str
    venue: str
    armed: bool
    market: str

    @classmethod
    def of(cls, destination: Destination) -> Account:
        """Return what the page may know of a destination: no key, no secret, no URL."""
        return cls(destination.slug, destination.name, _venue(destination), destination.armed, destination.market)


@dataclass(frozen=True, slots=True)
class WorkerView:
    """One worker in words; `tone` is good, idle, busy, warn or bad."""

    kind: str
    service: str
    state: str
    tone: str
    word: str
    detail: str
    since: datetime | None
    last_success: datetime | None
    last_error: str
    restarts: int
    lag_s: float | None
    updated_at: datetime | None

    @property
    def is_well(self) -> bool:
        return self.state in WELL

    @property
    def trouble(self) -> str:
        """What is wrong now; empty while it is well, even if it was not before."""
        return "" if self.is_well else self.detail or self.last_error


@dataclass(frozen=True, slots=True)
class GapView:
    """One blind time; `until` is None while it lasts or is not healed."""

    id: int
    blind_from: datetime
    until: datetime | None
    reason: str
    orders: int
    fills: int

    @property
    def is_open(self) -> bool:
        return self.until is None

    @property
    def blind(self) -> timedelta | None:
        return self.until - self.blind_from if self.until else None


@dataclass(frozen=True, slots=True)
class JournalView:
    """One domain event as a sentence."""

    id: int
    at: datetime
    tone: str
    text: str


@dataclass(frozen=True, slots=True)
class Health:
    """The state of a group of workers in one word and one sentence."""

    tone: str
    word: str
    text: str


@dataclass(frozen=True, slots=True)
class Market:
    """The market's phase and when it ends; None and None while no calendar is known."""

    phase: Phase | None
    until: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountView:
    """Everything a card shows, read in one transaction."""

    account: Account
    as_of: datetime
    market: Market
    workers: tuple[WorkerView, ...]
    health: Health
    gap_totals: GapTotals
    gaps: tuple[GapView, ...]
    tape: tuple[TapeRow, ...]
    journal: tuple[JournalView, ...]
    history: HistoryRow
    cursors: tuple[CursorRow, ...]


def worker_views(
    rows: Iterable[WorkerRow], expected: Iterable[tuple[str, str]], slug: str, now: datetime
) -> tuple[WorkerView, ...]:
    """Return the workers of an account ("" for the installation), by kind.

    expected: (kind, service) of those that should run. One that never reported is "absent", one that stopped
    reporting is "silent"; a worker that is no longer configured is left out.
    """
    known = {row.kind: row for row in rows if row.destination == slug}
    return tuple(
        _worker(known[kind], now) if kind in known else _absent(kind, service) for kind, service in sorted(expected)
    )


def health(workers: Sequence[WorkerView]) -> Health:
    """Return how the workers are as a whole: what the gravest state means, and who is not well."""
    if not workers:
        return Health("idle", "no workers", "none is configured")
    troubled = sorted(
        (worker for worker in workers if not worker.is_well), key=lambda worker: -GRAVITY.index(worker.tone)
    )
    if not troubled:
        return Health("good", "all well", f"{plural(len(workers), 'worker')} ready")
    tone = troubled[0].tone
    return Health(tone, MEANINGS[tone], ", ".join(f"{worker.kind} {worker.word}" for worker in troubled))


def gap_view(row: Gap) -> GapView:
    """Return a blind time in the page's words."""
    until = (row.blind_to or row.healed_at) if row.healed_at else None
    return GapView(row.id, row.blind_from, until, row.reason, row.orders_recovered, row.fills_recovered)


def journal_view(row: JournalRow) -> JournalView:
    """Tell a domain event in one sentence; one that this version does not know keeps its name."""
    try:
        tone, text = sentence(decoder.decode(row.payload))
    except msgspec.MsgspecError:
        tone, text = "idle", row.kind
    return JournalView(row.id, row.at, tone, text)


def _venue(destination: Destination) -> str:
    if destination.simulated:
        return "simulated"
    if destination.base_url == PAPER_URL:
        return "paper"
    host = destination.base_url.removeprefix("https://")
    return "live" if host in ALPACA_TRADING_HOSTS else "custom"


def _worker(row: WorkerRow, now: datetime) -> WorkerView:
    silent = now - row.updated_at > SILENT_AFTER and row.state != State.STOPPED
    state = "silent" if silent else row.state
    return WorkerView(
        kind=row.kind,
        service=row.service,
        state=state,
        tone=TONES.get(state, "warn"),
        word=WORDS.get(state, state),
        detail=f"no sign of life; it was {row.state}" if silent else row.detail,
        since=row.updated_at if silent else row.since,
        last_success=row.last_success,
        last_error=row.last_error or "",
        restarts=row.restarts,
        lag_s=row.lag_s,
        updated_at=row.updated_at,
    )


def _absent(kind: str, service: str) -> WorkerView:
    return WorkerView(
        kind=kind,
        service=service,
        state="absent",
        tone=TONES["absent"],
        word=WORDS["absent"],
        detail=f"never reported: is the process {service!r} running?",
        since=None,
        last_success=None,
        last_error="",
        restarts=0,
        lag_s=None,
        updated_at=None,
    )

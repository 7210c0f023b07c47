"""The simulated broker: owns its accounts, its market and the passing of time; knows nothing of sockets."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random

from coldharbour.clock import Clock

from .account import SimulatedAccount
from .activities import Activity
from .announcements import Announcement
from .blotter import Blotter
from .bookings import SplitOrder, book_split
from .cashflows import settle_day
from .history import HistoryWriter
from .ids import Ids
from .journal import VERSION, ActivityLine, Header, Journal, Line, OrderLine, SettledLine, SplitLine, Start
from .market import Market
from .matching import Matching
from .quirks import BrokerQuirks
from .refusals import Refused, not_found
from .sessions import Sessions
from .stamps import NEW_YORK, SECOND, moment_of, nanoseconds, new_york_day
from .trader import Trader

__all__ = ["BrokerQuirks", "Refused", "SimulatedAccount", "SimulatedBroker"]

SECRET = "simulator"  # noqa: S105 - the simulated broker's keys are public
CALENDAR_AHEAD = timedelta(days=1200)  # an accelerated clock covers years
WARM_UP = timedelta(days=130)  # of calendar before the history's first day


class SimulatedBroker:
    """An Alpaca of our own: accounts with a year of history, live trading, and a memory between runs.

    seed: decides prices, history and ids. accounts: slug -> first deposit in dollars. clock: read, never
    awaited. history_days: calendar days of generated history before the first start. journal: the file that
    remembers (its name gets the configuration added); None forgets at the end. always_open: from the day of
    the first start on, every day trades around the clock; otherwise New York's calendar holds. trading:
    whether the demo traders act; may be changed at any time. price_step_s: seconds between two moves of the
    prices, for a clock that is turned by hand; 0 for a market that moves at any moment. announced: corporate actions to
    tell of, in memory alone.
    """

    def __init__(
        self,
        *,
        seed: int,
        accounts: Mapping[str, Decimal],
        clock: Clock,
        history_days: int = 365,
        journal: Path | None = None,
        always_open: bool = True,
        trading: bool = True,
        price_step_s: int = 0,
    ) -> None:
        self.seed = seed
        self.trading = trading
        self.announced: list[Announcement] = []
        self.quirks = BrokerQuirks()
        self._clock = clock
        self._journal: Journal | None = None
        past: list[Line] = []
        if journal is not None:
            self._journal = Journal(
                journal, seed=seed, accounts=accounts, history_days=history_days, always_open=always_open
            )
            past = list(self._journal.read())
        now = self.now()
        self.anchor = next((line.anchor for line in past if isinstance(line, Header)), new_york_day(now))
        first = self.anchor - timedelta(days=history_days)
        last = new_york_day(now) + CALENDAR_AHEAD
        self.sessions = Sessions(first - WARM_UP, last, self.anchor if always_open else None)
        self.market = Market(seed, self.sessions, step_s=price_step_s)
        self.accounts = {slug: self._open_account(slug, deposit, first) for slug, deposit in accounts.items()}
        self._settled = {slug: self.anchor - timedelta(days=1) for slug in accounts}
        self._recall(past)
        if self._journal is not None:
            header = Header(VERSION, seed, self.anchor, history_days, always_open, dict(accounts))
            _open_journal(self._journal, None if past else header, Start(now))
        self._resume(now, run=sum(isinstance(line, Start) for line in past))

    def now(self) -> int:
        """Return the clock's moment in nanoseconds since 1970."""
        return nanoseconds(self._clock.now())

    def account_for(self, key_id: str, secret: str) -> SimulatedAccount | None:
        """Return the account of a key pair, None for a wrong one."""
        slug = key_id.removeprefix("SIM-")
        if secret != SECRET or slug == key_id:
            return None
        return self.accounts.get(slug)

    def step(self) -> None:
        """Bring everything to the present: agenda, prices, fills, and the demo traders."""
        now = self.now()
        for account in self.accounts.values():
            account.minutes.begin_step(now)
            account.desk.run_due(now)
            self._settle(account, now)
        traded = self.market.advance(now)
        for slug in self.accounts:
            self._matchings[slug].run(traded, now)
            if self.trading:
                self._traders[slug].act(now)
        self.commit()

    def split(self, order: SplitOrder) -> dict[str, Activity]:
        """Split a stock now, for every account that holds it; return what was booked, by account.

        Prices before stay as they were. No order is adjusted: Alpaca leaves the legs of brackets alone. Raises
        Refused for an unknown symbol.
        """
        if order.symbol not in self.market.assets:
            raise not_found(f"asset not found for {order.symbol}")
        now = self.now()
        for account in self.accounts.values():
            account.minutes.begin_step(now)
        self.market.split(order.symbol, now, order.ratio)
        if self._journal is not None:
            self._journal.add(SplitLine(order.symbol, now, order.ratio))
        booked = {slug: book_split(a.blotter, self.market, order, now) for slug, a in self.accounts.items()}
        self.commit()
        return {slug: activity for slug, activity in booked.items() if activity is not None}

    def commit(self) -> None:
        """Write what changed into the journal, then tell the listeners."""
        for account in self.accounts.values():
            self._write(account)
        if self._journal is not None:
            self._journal.flush()
        for account in self.accounts.values():
            account.blotter.tell()

    def close(self) -> None:
        """Commit and close the journal."""
        self.commit()
        if self._journal is not None:
            self._journal.close()

    def clock_row(self) -> dict[str, object]:
        """GET /v2/clock: times with New York's offset."""
        now = self.now()
        session = self.sessions.open_at(now)
        following = self.sessions.next_to_open(now)
        return {
            "timestamp": self._clock.now().astimezone(NEW_YORK).isoformat(),
            "is_open": session is not None,
            "next_open": _new_york(following.open),
            "next_close": _new_york((session or following).close),
        }

    def calendar(self, start: date, end: date) -> list[dict[str, object]]:
        """GET /v2/calendar: the trading days within both bounds, inclusive."""
        return [session.row() for session in self.sessions.between(start, end)]

    def _open_account(self, slug: str, deposit: Decimal, first: date) -> SimulatedAccount:
        blotter = Blotter(Ids(f"{self.seed}:{slug}:{self.anchor}"), self.quirks)
        account = SimulatedAccount(
            slug,
            blotter=blotter,
            market=self.market,
            sessions=self.sessions,
            now=self.now,
            commit=self.commit,
        )
        days = self.sessions.between(first, self.anchor - timedelta(days=1))
        plan = Random(f"{self.seed}:{slug}:{self.anchor}:plan")
        HistoryWriter(account.desk, self.market, days, plan).write(deposit, self.anchor)
        blotter.book.unwritten.clear()
        blotter.ledger.unwritten.clear()
        return account

    def _recall(self, past: list[Line]) -> None:
        for line in past:
            if isinstance(line, OrderLine):
                self.accounts[line.slug].blotter.book.keep(line.order)
            elif isinstance(line, ActivityLine):
                self.accounts[line.slug].blotter.ledger.add(line.activity)
            elif isinstance(line, SplitLine):
                self.market.split(line.symbol, line.at, line.ratio)
            elif isinstance(line, SettledLine):
                self._settled[line.slug] = line.day
                self.accounts[line.slug].blotter.ledger.take_sales(line.day)
        for account in self.accounts.values():
            account.blotter.book.unwritten.clear()
            account.blotter.ledger.unwritten.clear()

    def _resume(self, now: int, run: int) -> None:
        """Set the live machinery going: new ids, last prices, the agenda of every live order."""
        self._matchings: dict[str, Matching] = {}
        self._traders: dict[str, Trader] = {}
        for slug, account in self.accounts.items():
            blotter, name = account.blotter, f"{self.seed}:{slug}:{self.anchor}:run {run}"
            blotter.ids = Ids(name)
            self._matchings[slug] = Matching(
                blotter, self.market, self.sessions, self.quirks, Random(f"{name}:matching")
            )
            self._traders[slug] = Trader(account.desk, self.market, self.sessions, Random(f"{name}:trader"))
            live = blotter.book.live_orders()
            roots = {order.id: order for order in map(blotter.book.root_of, live)}
            for order in {**roots, **{order.id: order for order in live}}.values():
                account.desk.attend(order, now)
        self.market.advance(now)

    def _settle(self, account: SimulatedAccount, now: int) -> None:
        """Book the days that ended since the last settlement, once each."""
        today = new_york_day(now)
        settled = self._settled[account.slug]
        if settled >= today - timedelta(days=1):
            return
        ended = self.sessions.between(settled + timedelta(days=1), today - timedelta(days=1))
        for session in ended:
            settle_day(account.blotter, self.market, session.day, settled, account.blotter.moment(now))
            settled = session.day
        self._settled[account.slug] = today - timedelta(days=1)
        if self._journal is not None:
            self._write(account)
            self._journal.add(SettledLine(account.slug, self._settled[account.slug]))

    def _write(self, account: SimulatedAccount) -> None:
        book, ledger = account.blotter.book, account.blotter.ledger
        if self._journal is not None:
            for order in book.unwritten.values():
                self._journal.add(OrderLine(account.slug, order))
            for activity in ledger.unwritten:
                self._journal.add(ActivityLine(account.slug, activity))
        book.unwritten.clear()
        ledger.unwritten.clear()


def _open_journal(journal: Journal, header: Header | None, start: Start) -> None:
    journal.open()
    if header is not None:
        journal.add(header)
    journal.add(start)
    journal.flush()


def _new_york(ns: int) -> str:
    return moment_of(ns // SECOND * SECOND).astimezone(NEW_YORK).isoformat()

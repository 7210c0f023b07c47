"""Daily closes of the symbols that an account held: asked of the broker once, kept by market, never guessed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from coldharbour.broker import Bar, BrokerRefused, KeysRefused
from coldharbour.errors import Transient
from coldharbour.metrics.market import Source, store
from coldharbour.metrics.market.store import Answer, AskedSpan, Close, Span
from coldharbour.sessions import NEW_YORK

DAY: Final = timedelta(days=1)
QUARTER: Final = timedelta(days=92)  # the longest: from the first day of any quarter into the next one
LOOKBACK: Final = timedelta(days=10)  # before the first session: who did not trade on it has an older close
RETRY: Final = timedelta(hours=6)  # for a symbol that has no close at all
BARS_A_REQUEST: Final = 10_000  # as many as one page brings
SYMBOLS_A_REQUEST: Final = 200
FORBIDDEN: Final = 403  # what the account's plan does not include; an unknown symbol is another refusal
REFUSED_WAIT_S: Final = 60.0


async def fetch_closes(source: Source, needs: Mapping[str, Span], now: datetime) -> date | None:
    """Ask for the closes that these symbols and days need and that were not asked for yet, and keep the answers.

    Return the earliest day with a close that was not known. A day without a bar has no close, and is not asked for
    again while the symbol has any. Raises Transient, also where the account may not see these bars.
    """
    async with source.db.transaction() as conn:
        known = await store.close_spans(conn, source.market, needs)
    news: list[date | None] = []
    for span, symbols in unasked(needs, known, now).items():
        for some in _portions(symbols, span):
            news += [await _keep(source, answer) async for answer in _ask(source, some, span, now)]
    return min((day for day in news if day), default=None)


def unasked(needs: Mapping[str, Span], known: Mapping[str, AskedSpan], now: datetime) -> dict[Span, list[str]]:
    """Return which symbols to ask for which days: what is asked of a symbol stays in one piece.

    A symbol that has no close at all is asked for everything again after `RETRY`. Quarters are asked whole, so that
    symbols can be asked for together, but never a day behind the last one that any of them needs.
    """
    plan: defaultdict[Span, list[str]] = defaultdict(list)
    latest = max((need.last for need in needs.values()), default=date.min)
    for symbol, need in needs.items():
        for span in _missing(Span(need.first - LOOKBACK, need.last), known.get(symbol), now):
            asked = Span(_quarter(span.first), span.last) if symbol not in known else span
            until = min(_quarter(_quarter(asked.last) + QUARTER) - DAY, latest)
            plan[Span(asked.first, max(asked.last, until))].append(symbol)
    return dict(plan)


def _quarter(day: date) -> date:
    """Return the first day of a day's quarter."""
    return date(day.year, (day.month - 1) // 3 * 3 + 1, 1)


def _missing(wanted: Span, asked: AskedSpan | None, now: datetime) -> Iterator[Span]:
    if asked is None:
        yield wanted
        return
    first, last = asked.span
    if not asked.has_close and now - asked.asked_at >= RETRY:
        yield Span(min(first, wanted.first), max(last, wanted.last))
        return
    if wanted.first < first:
        yield Span(wanted.first, first - DAY)
    if wanted.last > last:
        yield Span(last + DAY, wanted.last)


def _portions(symbols: Sequence[str], span: Span) -> Iterator[Sequence[str]]:
    size = min(max(BARS_A_REQUEST // ((span.last - span.first).days + 1), 1), SYMBOLS_A_REQUEST)
    for start in range(0, len(symbols), size):
        yield symbols[start : start + size]


async def _ask(source: Source, symbols: Sequence[str], span: Span, now: datetime) -> AsyncIterator[Answer]:
    """Yield the broker's answer, or one for each symbol where one of them spoils the request."""
    if source.broker is None:
        return
    try:
        bars = await source.broker.bars(symbols, "1Day", _midnight(span.first), _midnight(span.last), adjustment="raw")
    except KeysRefused:
        raise
    except BrokerRefused as error:
        if error.status == FORBIDDEN:
            raise Transient(f"the broker refuses daily bars: {error.message}", retry_after_s=REFUSED_WAIT_S) from error
        for symbol in symbols if len(symbols) > 1 else ():
            async for answer in _ask(source, [symbol], span, now):
                yield answer
        if len(symbols) == 1:  # no symbol of this broker: it has no close, and its days say so
            yield Answer(symbols, span, (), now)
    else:
        yield Answer(symbols, span, [close for s in symbols for close in _closes(bars.get(s, ()), span)], now)
    source.alive()


async def _keep(source: Source, answer: Answer) -> date | None:
    async with source.db.transaction() as conn:
        return await store.save_answer(conn, source.market, answer)


def _closes(bars: Sequence[Bar], span: Span) -> Iterator[Close]:
    for bar in bars:
        day = bar.at.astimezone(NEW_YORK).date()  # a daily bar is labelled with New York's midnight
        if span.first <= day <= span.last and bar.close > 0:
            yield Close(bar.symbol, day, bar.close)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), NEW_YORK).astimezone(UTC)

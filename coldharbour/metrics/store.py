"""The tables of equity and of the key figures; functions take a connection.

Owns the SQL of this stage but for the market's past; the caller owns the transaction.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from psycopg import AsyncConnection, sql
from psycopg.rows import args_row, class_row, dict_row
from psycopg.types.json import Jsonb

from coldharbour.live.model import ZERO, ClosedTrade, ExitType, Side
from coldharbour.metrics.kpis import EquityFigures, OpenFigures
from coldharbour.metrics.market.store import Span
from coldharbour.metrics.model import DayEnd, EquityPoint, IntradayPoint
from coldharbour.metrics.performance import RATIOS, WINDOWS

CHUNK = 1_000  # rows: some 20 ms of translation, after which others have their turn
ROWS_AT_ONCE = 50  # sessions, each with all that was held

POINT = (
    "session_date", "cash", "market_value", "deposit", "net_flows", "daily_return", "cumulative_return", "drawdown",
    "complete", "provisional", "missing_symbols", "buy_volume", "sell_volume",
)  # fmt: skip
MINUTE = ("session_date", "at", "equity", "profit", "flows", "cumulative_return", "complete")
FRESH = sql.SQL("not stale and (looked_at is null or looked_at >= at + interval '1 minute')")


class Price(NamedTuple):
    """A symbol's newest market price per share, and when it was traded."""

    price: Decimal
    at: datetime


def _table(parent: str, slug: str) -> sql.Identifier:
    return sql.Identifier("accounts", f"{parent}_{slug}")


def _names(columns: Iterable[str], row: str = "") -> sql.Composed:
    prefix = sql.SQL(f"{row}.") if row else sql.SQL("")
    return sql.SQL(", ").join(prefix + sql.Identifier(name) for name in columns)


def _upsert(table: sql.Identifier, columns: Sequence[str], key: str) -> sql.Composed:
    """Return the statement that writes rows by their key and leaves those alone that stand there already."""
    rest = [name for name in columns if name not in ("destination", key)]
    return sql.SQL("""
        insert into {table} as stored ({names}) values ({values}) on conflict (destination, {key}) do update
        set {assignments} where ({stored}) is distinct from ({excluded})
    """).format(
        table=table,
        names=_names(columns),
        values=sql.SQL(", ").join(map(sql.Placeholder, columns)),
        key=sql.Identifier(key),
        assignments=sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in rest),
        stored=_names(rest, "stored"),
        excluded=_names(rest, "excluded"),
    )


async def save_days(conn: AsyncConnection, slug: str, ends: Sequence[DayEnd], first: date | None) -> int:
    """Make the rows from `first` on (None: all) these sessions and no others; return how many rows changed."""
    days = [end.point.session_date for end in ends]
    gone = await conn.execute(
        sql.SQL("""
            delete from {} where destination = %s and session_date <> all(%s)
                and (%s::date is null or session_date >= %s)
        """).format(_table("equity_full", slug)),
        [slug, days, first, first],
    )
    statement = _upsert(_table("equity_full", slug), ["destination", *POINT, *RATIOS, "holdings"], "session_date")
    changed = gone.rowcount
    async with conn.cursor() as cur:
        for start in range(0, len(ends), ROWS_AT_ONCE):
            await cur.executemany(statement, [_day_row(slug, end) for end in ends[start : start + ROWS_AT_ONCE]])
            changed += max(cur.rowcount, 0)
    return changed


def _day_row(slug: str, end: DayEnd) -> dict[str, Any]:
    return {
        "destination": slug,
        **{name: getattr(end.point, name) for name in POINT},
        **end.point.ratios,
        "missing_symbols": list(end.point.missing_symbols),
        "holdings": Jsonb(_holdings(end)),
    }


def _holdings(end: DayEnd) -> dict[str, list[str | None]]:
    return {
        symbol: [str(qty), str(end.prices[symbol]) if symbol in end.prices else None]
        for symbol, qty in sorted(end.quantities.items())
    }


async def day_end(conn: AsyncConnection, slug: str, before: date | None = None) -> DayEnd | None:
    """Return what the session after the newest one before a day goes on from; None: the newest that has closed."""
    query = sql.SQL("""
        select {point}, {ratios}, holdings from {table} where destination = %(slug)s
            and case when %(before)s::date is null then not provisional else session_date < %(before)s end
        order by session_date desc limit 1
    """).format(point=_names(POINT), ratios=_names(RATIOS), table=_table("equity_full", slug))
    async with conn.cursor(row_factory=dict_row) as cur:
        await cur.execute(query, {"slug": slug, "before": before})
        row = await cur.fetchone()
    return None if row is None else _day_end(row, await _returns(conn, slug, row["session_date"]))


def _day_end(row: dict[str, Any], returns: Sequence[float]) -> DayEnd:
    """Return a session's end from its row; growth is multiplied again, in the same order, to be the same number."""
    holdings: dict[str, list[str | None]] = row.pop("holdings")
    growth = peak = 1.0
    for gained in returns:
        growth *= 1 + gained
        peak = max(peak, growth)
    return DayEnd(
        point=_point(row),
        quantities={symbol: Decimal(qty or 0) for symbol, (qty, _) in holdings.items()},
        prices={symbol: Decimal(price) for symbol, (_, price) in holdings.items() if price is not None},
        growth=growth,
        peak=peak,
        returns=tuple(returns[-WINDOWS[-1] :]),
    )


def _point(row: dict[str, Any]) -> EquityPoint:
    ratios = {name: row.pop(name) for name in RATIOS}
    return EquityPoint(**(row | {"missing_symbols": tuple(row["missing_symbols"])}), ratios=ratios)


async def _returns(conn: AsyncConnection, slug: str, through: date) -> list[float]:
    query = sql.SQL("""
        select daily_return from {} where destination = %s and session_date <= %s order by session_date
    """).format(_table("equity_full", slug))
    return [row[0] for row in await (await conn.execute(query, [slug, through])).fetchall()]


async def closed_days(conn: AsyncConnection, slug: str) -> list[date]:
    """Return the sessions whose rows are final, ascending."""
    query = sql.SQL("select session_date from {} where destination = %s and not provisional order by session_date")
    return [row[0] for row in await (await conn.execute(query.format(_table("equity_full", slug)), [slug])).fetchall()]


async def missing_prices(conn: AsyncConnection, slug: str) -> dict[str, Span]:
    """Return the symbols without a price in some sessions, with the first and the last of these."""
    return await _missing(conn, slug, provisional_too=True)


async def unpriced(conn: AsyncConnection, slug: str) -> dict[str, Span]:
    """Return the same of the sessions that have closed: a close may still turn up."""
    return await _missing(conn, slug, provisional_too=False)


async def _missing(conn: AsyncConnection, slug: str, *, provisional_too: bool) -> dict[str, Span]:
    query = sql.SQL("""
        select symbol, min(session_date), max(session_date) from {}, unnest(missing_symbols) as symbol
        where destination = %s and not complete and (%s or not provisional) group by symbol
    """).format(_table("equity_full", slug))
    rows = await (await conn.execute(query, [slug, provisional_too])).fetchall()
    return {symbol: Span(*span) for symbol, *span in rows}


async def market_prices(conn: AsyncConnection, slug: str) -> dict[str, Price]:
    """Return the newest price of every symbol with an open trade that was valued."""
    query = sql.SQL("""
        select distinct on (symbol) symbol, mkt_px, mkt_at from {}
        where destination = %s and mkt_px is not null and mkt_at is not null order by symbol, mkt_at desc
    """).format(_table("open_trades", slug))
    return {symbol: Price(price, at) for symbol, price, at in await (await conn.execute(query, [slug])).fetchall()}


async def save_minutes(
    conn: AsyncConnection, slug: str, points: Sequence[IntradayPoint], *, looked_at: datetime | None = None
) -> int:
    """Write minutes, which are not stale then; return how many changed.

    looked_at: when they were made from the newest prices, None for those from bars.
    """
    columns = ["destination", *MINUTE, "source", "looked_at", "stale"]
    source = "bars" if looked_at is None else "live"
    fixed = {"destination": slug, "source": source, "looked_at": looked_at, "stale": False}
    async with conn.cursor() as cur:
        await cur.executemany(
            _upsert(_table("equity_intraday", slug), columns, "at"),
            [fixed | {name: getattr(point, name) for name in MINUTE} for point in points],
        )
        return max(cur.rowcount, 0)


async def mark_stale(
    conn: AsyncConnection, slug: str, session_date: date, *, since: datetime | None, opening: Decimal
) -> None:
    """Mark the minutes of a session that what is known now contradicts, to be made again from bars.

    since: the first moment of which something new is known. opening: the equity that the session begins with.
    """
    query = sql.SQL("""
        update {} set stale = true where destination = %s and session_date = %s and not stale
            and (date_trunc('minute', %s::timestamptz) <= at or abs(equity - profit - flows - %s) >= 0.005)
    """).format(_table("equity_intraday", slug))
    await conn.execute(query, [slug, session_date, since, opening])


async def fresh_minutes(conn: AsyncConnection, slug: str, session_date: date) -> set[datetime]:
    """Return the minutes of a session that are known as they ended."""
    query = sql.SQL("select at from {} where destination = %s and session_date = %s and {}").format(
        _table("equity_intraday", slug), FRESH
    )
    return {row[0] for row in await (await conn.execute(query, [slug, session_date])).fetchall()}


async def minute_counts(conn: AsyncConnection, slug: str, before: datetime) -> dict[date, int]:
    """Return how many minutes of each session before a moment are known as they ended."""
    query = sql.SQL("""
        select session_date, count(*) filter (where at < %s and {}) from {}
        where destination = %s group by session_date
    """).format(FRESH, _table("equity_intraday", slug))
    return dict(await (await conn.execute(query, [before, slug])).fetchall())


async def prune_minutes(conn: AsyncConnection, slug: str, before: date) -> None:
    """Remove the minutes of sessions before a day."""
    query = sql.SQL("delete from {} where destination = %s and session_date < %s")
    await conn.execute(query.format(_table("equity_intraday", slug)), [slug, before])


async def equity_figures(conn: AsyncConnection, slug: str) -> EquityFigures:
    """Return where equity stands (the twin of `kpis.equity_figures` for tables)."""
    minutes, days = _table("equity_intraday", slug), _table("equity_full", slug)
    async with conn.cursor(row_factory=class_row(IntradayPoint)) as cur:
        query = sql.SQL("select {} from {} where destination = %s order by at desc limit 1")
        await cur.execute(query.format(_names(MINUTE), minutes), [slug])
        intraday = await cur.fetchone()
    daily = await _newest_point(conn, slug, None)
    at = max((known.session_date for known in (intraday, daily) if known), default=None)
    sums = sql.SQL("""
        select min(drawdown), coalesce(sum(buy_volume), 0), coalesce(sum(sell_volume), 0) from {} where destination = %s
    """).format(days)
    row = await (await conn.execute(sums, [slug])).fetchone()
    drawdown, bought, sold = row or (None, ZERO, ZERO)
    return EquityFigures(
        intraday=intraday,
        daily=daily,
        previous=await _newest_point(conn, slug, at) if at else None,
        max_drawdown=drawdown,
        buy_volume=bought,
        sell_volume=sold,
    )


async def _newest_point(conn: AsyncConnection, slug: str, before: date | None) -> EquityPoint | None:
    """Return the newest daily row, or the newest one before a day."""
    query = sql.SQL("""
        select {point}, {ratios} from {table} where destination = %(slug)s
            and (%(before)s::date is null or session_date < %(before)s)
        order by session_date desc limit 1
    """).format(point=_names(POINT), ratios=_names(RATIOS), table=_table("equity_full", slug))
    async with conn.cursor(row_factory=dict_row) as cur:
        await cur.execute(query, {"slug": slug, "before": before})
        row = await cur.fetchone()
    return _point(row) if row else None


async def open_figures(conn: AsyncConnection, slug: str) -> OpenFigures:
    """Return what the open trades add up to; one that has no price yet is left out."""
    query = sql.SQL("""
        select count(*), case when count(*) = 0 then 0 else sum(mkt_value) end,
               case when count(*) = 0 then 0 else sum(profit_loss) end from {} where destination = %s
    """).format(_table("open_trades", slug))
    row = await (await conn.execute(query, [slug])).fetchone()
    return OpenFigures(*row) if row else OpenFigures()


async def flow_sums(conn: AsyncConnection, slug: str) -> dict[str, Decimal]:
    """Return the sum of the cash flows by activity type."""
    cursor = await conn.execute(
        "select type, sum(amount) from accounts.cash_flows where destination = %s group by type", [slug]
    )
    return dict(await cursor.fetchall())


async def closed_version(conn: AsyncConnection, slug: str) -> str:
    """Return a text that differs whenever a closed trade was added, changed or removed."""
    # xmin is the transaction that wrote a row as it stands; reading it costs no more than counting.
    query = sql.SQL("select count(*), coalesce(sum(xmin::text::bigint), 0) from {} where destination = %s")
    row = await (await conn.execute(query.format(_table("closed_trades", slug)), [slug])).fetchone()
    return ":".join(map(str, row or ()))


async def closed_lots(conn: AsyncConnection, slug: str) -> AsyncIterator[list[ClosedTrade]]:
    """Yield the closed trades in chunks of whole lots."""
    query = sql.SQL("""
        select entry_lot_id, exit_order_id, exit_parent_id, symbol, side, qty, entry_time, entry_price, exit_time,
               exit_price, exit_type, pnl_cash, pnl_cash_fifo, diff_pnl, return_pct, duration_sec
        from {} where destination = %s order by entry_lot_id
    """).format(_table("closed_trades", slug))
    held: list[ClosedTrade] = []  # of the newest lot, of which more may come
    async with conn.cursor("closed", row_factory=args_row(_closed_trade)) as cursor:
        await cursor.execute(query, [slug])
        while more := await cursor.fetchmany(CHUNK):
            rows = held + more
            held = [trade for trade in rows if trade.entry_lot_id == rows[-1].entry_lot_id]
            yield rows[: len(rows) - len(held)]
    yield held


def _closed_trade(*row: Any) -> ClosedTrade:
    (lot, exit_order, parent, symbol, side, qty, entry_time, entry_price, exit_time, exit_price, exit_type, pnl,
     fifo, diff, return_pct, duration) = row  # fmt: skip
    return ClosedTrade(
        entry_lot_id=lot, exit_order_id=exit_order, exit_parent_id=parent, symbol=symbol, side=Side(side), qty=qty,
        entry_time=entry_time, entry_price=entry_price, exit_time=exit_time, exit_price=exit_price,
        exit_type=ExitType(exit_type), pnl_cash=pnl, pnl_cash_fifo=fifo, diff_pnl=diff, return_pct=return_pct,
        duration_sec=duration,
    )  # fmt: skip


async def document(conn: AsyncConnection, slug: str, document_id: str) -> dict[str, Any] | None:
    """Return a document of the key figures, None if it was never written."""
    cursor = await conn.execute(
        "select document from accounts.account_metrics where destination = %s and id = %s", [slug, document_id]
    )
    row = await cursor.fetchone()
    return row[0] if row else None


async def save_document(
    conn: AsyncConnection, slug: str, document_id: str, content: Mapping[str, Any], at: datetime
) -> None:
    """Write a document of the key figures."""
    await conn.execute(
        """
        insert into accounts.account_metrics (destination, id, document, updated_at) values (%s, %s, %s, %s)
        on conflict (destination, id) do update set document = excluded.document, updated_at = excluded.updated_at
        """,
        [slug, document_id, Jsonb(content), at],
    )

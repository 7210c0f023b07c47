"""What can be exported: which table stands behind each word, its columns, and its rows in one snapshot; only reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

import psycopg
from psycopg import IsolationLevel, sql

CHUNK = 5_000  # rows

Rows = list[tuple[Any, ...]]


class Kind(Enum):
    """What a column holds, by the name of its type in PostgreSQL; everything else is exported as its text."""

    TEXT = "text"
    NUMBER = "numeric"
    FLOAT = "double precision"
    INTEGER = "bigint"
    MOMENT = "timestamp with time zone"
    DAY = "date"
    FLAG = "boolean"
    TEXTS = "text[]"


class Column(NamedTuple):
    """One column of an export."""

    name: str
    kind: Kind


class Digits(NamedTuple):
    """How many digits the values of a numeric column have at most before and after the point."""

    whole: int
    decimals: int


@dataclass(frozen=True, slots=True)
class Listing:
    """One table to export. order: the columns that sort it. without: columns that say nothing outside."""

    schema: str
    table: str
    order: tuple[str, ...]
    without: frozenset[str] = frozenset({"destination"})


LISTINGS = {
    "trades": Listing("accounts", "closed_trades", ("exit_time", "entry_lot_id", "exit_order_id")),
    "positions": Listing("accounts", "open_trades", ("symbol", "entry_time", "parent_id")),
    "equity": Listing("accounts", "equity_full", ("session_date",)),
    "activities": Listing(
        "account_activities",
        "raw_activities",
        ("transaction_time", "activity_date", "id"),
        frozenset({"destination", "raw_json", "revision"}),
    ),
    "audit": Listing("accounts", "log_breakeven", ("timestamp", "parent_id")),
}


class NoSuchTable(Exception):
    """What was asked for is not kept in this database."""


@contextmanager
def one_moment(conninfo: str) -> Iterator[psycopg.Connection]:
    """Lend a connection all of whose reads see the tables as of one moment."""
    with psycopg.connect(conninfo, application_name="coldharbour/export") as conn:
        conn.isolation_level = IsolationLevel.REPEATABLE_READ
        conn.read_only = True
        yield conn


class Export:
    """One listing of one account, read once. Raises NoSuchTable."""

    def __init__(self, conn: psycopg.Connection, listing: Listing, slug: str) -> None:
        self._conn, self._listing = conn, listing
        self._table = sql.Identifier(listing.schema, f"{listing.table}_{slug}")
        self.columns = self._columns(f"{listing.table}_{slug}")

    def rows(self) -> Iterator[Rows]:
        """Yield all rows in order, in chunks."""
        query = sql.SQL("select {columns} from {table} order by {order}").format(
            columns=sql.SQL(", ").join(map(_selected, self.columns)),
            table=self._table,
            order=sql.SQL(", ").join(map(sql.Identifier, self._listing.order)),
        )
        with self._conn.cursor("export") as cursor:
            cursor.execute(query)
            while chunk := cursor.fetchmany(CHUNK):
                yield chunk

    def digits(self) -> dict[str, Digits]:
        """Return how large and how fine the values of each numeric column are."""
        numbers = [column.name for column in self.columns if column.kind is Kind.NUMBER]
        if not numbers:
            return {}
        measure = sql.SQL("coalesce(max(length(trunc(abs({0}))::text)), 1), coalesce(max(scale({0})), 0)")
        query = sql.SQL("select {measures} from {table}").format(
            measures=sql.SQL(", ").join(measure.format(sql.Identifier(name)) for name in numbers), table=self._table
        )
        row: Sequence[int] = self._conn.execute(query).fetchone() or ()
        return {name: Digits(*row[2 * place : 2 * place + 2]) for place, name in enumerate(numbers)}

    def _columns(self, table: str) -> list[Column]:
        found = self._conn.execute(
            """
            select attname, format_type(atttypid, null) from pg_attribute
            where attrelid = to_regclass(format('%%I.%%I', %s::text, %s::text)) and attnum > 0 and not attisdropped
            order by attnum
            """,
            [self._listing.schema, table],
        ).fetchall()
        if not found:
            raise NoSuchTable(f"{self._listing.schema}.{table}")
        kinds = {kind.value: kind for kind in Kind} | {"integer": Kind.INTEGER}
        return [Column(name, kinds.get(kind, Kind.TEXT)) for name, kind in found if name not in self._listing.without]


def _selected(column: Column) -> sql.Composed:
    cast = sql.SQL("{}::text") if column.kind is Kind.TEXT else sql.SQL("{}")
    return cast.format(sql.Identifier(column.name))

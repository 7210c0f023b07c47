"""Rows as lines of CSV: every digit, times in UTC, and nothing that a spreadsheet would compute; no I/O."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal

from coldharbour.web.listings.store import Column, Rows

COMPUTED = ("=", "+", "-", "@", "\t", "\r")  # what a text begins with that spreadsheets take for a formula


def csv_header(columns: Sequence[Column]) -> bytes:
    """Return the line of the columns' names."""
    return _lines([[column.name for column in columns]])


def csv_lines(rows: Rows) -> bytes:
    """Return one line per row; nothing stands for null."""
    return _lines([_word(value) for value in row] for row in rows)


def plain(value: object) -> object:
    """Return a value as text that loses nothing; what JSON and CSV can say themselves stays as it is."""
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return value.isoformat() if isinstance(value, date) else value


def harmless(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula: an apostrophe before it, where it would.

    >>> harmless("=HYPERLINK(1)"), harmless("KO"), harmless("-1+1")
    ("'=HYPERLINK(1)", 'KO', "'-1+1")
    """
    return f"'{text}" if text.startswith(COMPUTED) else text


def _word(value: object) -> object:
    if isinstance(value, list):
        value = " ".join(map(str, value))
    return harmless(value) if isinstance(value, str) else plain(value)


def _lines(rows: Iterable[Iterable[object]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()

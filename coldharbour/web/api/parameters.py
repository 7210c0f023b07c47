"""What the API's parameters mean: windows, hours and places in a listing; pure, no I/O."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, time

import msgspec
from litestar.exceptions import ValidationException

from coldharbour.sessions import NEW_YORK, MarketSession
from coldharbour.web.api.store import ClosedKey

WINDOW = r"^(all|first_trade|[1-9][0-9]{0,4}d)$"
START = r"^(pre|rth|[01]?[0-9]|2[0-3])$"
NINE_THIRTY = time(9, 30)
NO_CURSOR = "after: take it from the Link header of the page before"

_cursor = msgspec.json.Decoder(tuple[datetime, str, str])


def days_of(window: str) -> int | None:
    """Return the days of a window such as 30d, None for `all` and `first_trade`. Raises ValidationException."""
    if not re.fullmatch(WINDOW[1:-1], window):
        raise ValidationException(f"window: {window!r} is neither all nor first_trade nor a number of days like 30d")
    return int(window.removesuffix("d")) if window[0].isdigit() else None


def window_begin(newest: date, days: int) -> date:
    """Return the first day of a window that ends with the newest one; 1 day is that one alone."""
    return date.fromordinal(max(newest.toordinal() - days + 1, 1))


def check_text(name: str, text: str | None) -> None:
    """Raise ValidationException for a text that the database cannot hold."""
    if text and "\0" in text:
        raise ValidationException(f"{name}: no text has a NUL in it")


def check_start(start: str) -> None:
    """Raise ValidationException unless this says where in a session to begin."""
    if not re.fullmatch(START[1:-1], start):
        raise ValidationException(f"start: {start!r} is neither pre nor rth nor an hour of New York from 0 to 23")


def begin_of(start: str, session_date: date, sessions: Sequence[MarketSession]) -> datetime:
    """Return the moment from which a session is shown: its first, its open, or an hour in New York.

    start: as `check_start` allows it. A session that the calendar no longer has opened at 09:30.
    """
    if start == "rth":
        opens = [session.open_utc for session in sessions if session.session_date == session_date]
        return opens[0] if opens else datetime.combine(session_date, NINE_THIRTY, NEW_YORK)
    return datetime.combine(session_date, time(0 if start == "pre" else int(start)), NEW_YORK)


def cursor_of(key: ClosedKey) -> str:
    """Return the place after a closed trade as an opaque word.

    >>> read_cursor(cursor_of((datetime(2026, 10, 8, 16, tzinfo=UTC), "lot", "exit")))
    (datetime.datetime(2026, 10, 8, 16, 0, tzinfo=datetime.timezone.utc), 'lot', 'exit')
    """
    return base64.urlsafe_b64encode(msgspec.json.encode(key)).decode().rstrip("=")


def read_cursor(word: str) -> ClosedKey:
    """Return the closed trade after which a page begins. Raises ValidationException for any other word."""
    try:
        padded = word.encode("ascii") + b"=" * (-len(word) % 4)
        at, lot, exit_order = _cursor.decode(base64.b64decode(padded, altchars=b"-_", validate=True))
        at = at.replace(tzinfo=at.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError, msgspec.MsgspecError) as error:
        raise ValidationException(NO_CURSOR) from error
    if "\0" in lot + exit_order:  # PostgreSQL knows no such text
        raise ValidationException(NO_CURSOR)
    return at, lot, exit_order

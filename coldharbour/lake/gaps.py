"""Blindness: when the order stream has told us too little, and what must be asked again; pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from coldharbour.lake.model import ActivityRow

AUDIBLE = frozenset({"new", "accepted", "partially_filled", "filled"})
OVERLAP = timedelta(seconds=60)
NEWS_GRACE = timedelta(seconds=3)


def refetch_from(alive: Iterable[datetime], now: datetime) -> datetime:
    """Return the moment from which REST must be read again after a blind time.

    alive: moments up to which the stream is known to have delivered; the earliest counts, less an overlap,
    since a silent connection is noticed late, and re-reading is harmless while a hole is not.
    """
    return min([*alive, now]) - OVERLAP


def is_mute(newest_news: datetime | None, heard_at: datetime, noticed_at: datetime, now: datetime) -> bool:
    """Say whether the broker did something that an open stream should have told us by now.

    newest_news: the newest order change or fill that REST shows. heard_at: the newest change the stream told
    of, or when it started to listen. noticed_at: when we saw those news in REST. A short grace from then on lets a
    frame that is on its way arrive, or one that waits in the socket because we were held up ourselves.
    """
    return newest_news is not None and newest_news > heard_at and now - noticed_at > NEWS_GRACE


def newest_audible(
    orders: Iterable[tuple[str, datetime]], fills: Iterable[ActivityRow], known: datetime | None
) -> datetime | None:
    """Return the newest moment among changes that a healthy stream always tells of, `known` included.

    The broker is silent about some endings: a sibling's cancel, a replaced take-profit. Those prove nothing.
    Source: Alpaca's trade_updates, missing sibling events.
    """
    moments = [at for status, at in orders if status in AUDIBLE]
    moments += [fill.transaction_time for fill in fills if fill.transaction_time is not None]
    return max([*moments, known] if known else moments, default=None)

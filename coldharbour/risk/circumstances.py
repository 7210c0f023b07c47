"""What is known of an account besides its lots when a move is decided, read anew each time; judges none of it."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, time, timedelta

from coldharbour.accounts import AccountContext
from coldharbour.risk.announced import Announcements
from coldharbour.risk.flattening import store as flattens
from coldharbour.risk.holds import ACCOUNT_WINDOW, Circumstances
from coldharbour.risk.intents import store as intents
from coldharbour.risk.lots import store as lots
from coldharbour.sessions import NEW_YORK, Schedule

FAR = timedelta(days=7)  # for the next session, where the calendar ends


async def circumstances_of(
    ctx: AccountContext, announced: Announcements, symbols: Collection[str], sessions: Schedule
) -> Circumstances:
    """Return what keeps moves of these symbols back: corporate actions, earlier moves, positions that are closed."""
    now, slug, today = ctx.clock.now(), ctx.destination.slug, announced.today
    midnight = datetime.combine(today, time(), NEW_YORK)
    async with ctx.db.transaction() as conn:
        moves = await lots.share_moves(conn, slug, today, midnight)
        attempts = await intents.attempts(conn, slug, min(midnight, now - ACCOUNT_WINDOW))
        flattening = await flattens.under_way(conn, slug)
    session = sessions.after(today)
    booked = {move.symbol: move.day for move in moves}
    news = {move.symbol: f"{move.kind} of {move.symbol} on {move.day}" for move in moves if move.is_news}
    frozen = announced.frozen(symbols, session.session_date if session else today + FAR, booked) | news
    return Circumstances(
        now=now, session_since=midnight, frozen=frozen, attempts=attempts, flattening=flattening
    )  # fmt: skip

"""Corporate actions that the broker announces for symbols with protected lots: asked once a day; moves nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date, timedelta

import anyio
import structlog

from coldharbour.broker import Broker, BrokerRefused, CorporateAction, Priority
from coldharbour.clock import Clock
from coldharbour.errors import Transient
from coldharbour.sessions import NEW_YORK

LOOK_BACK = timedelta(days=7)  # for one whose day is over and which the account does not show
LOOK_AHEAD = timedelta(days=30)  # the broker may book it that long after its day
RETRY_S = 60.0
NO_RIGHT = (401, 403)  # keys that the trading API takes may still have no right to this

log = structlog.get_logger(__name__)


def freezing(actions: Iterable[CorporateAction], today: date, following: date, booked: date | None) -> str:
    """Return which announced action keeps a symbol's stops where they are, "" if none does.

    following: the day of the next session. booked: the day of the newest corporate action that the account's
    activities show, None without one. Frozen from the session before its day until the account shows it; a day that
    is over for longer than a week freezes nothing, since not every action changes every account.
    """
    for action in sorted(actions, key=lambda action: action.day):
        is_near = today <= action.day <= following
        is_missing = today - LOOK_BACK <= action.day < today and (booked is None or booked < action.day)
        if is_near or is_missing:
            return f"{action.kind} of {action.symbol} announced for {action.day}"
    return ""


class Announcements:
    """What was announced for symbols of one account, as the broker said it today.

    Whoever was not answered knows nothing, and a symbol of which nothing is known is frozen. An account that is refused
    the question goes by its activities alone, and so does a symbol of which the broker will not be asked.
    """

    def __init__(self, broker: Broker, clock: Clock) -> None:
        self._broker, self._clock, self._turn = broker, clock, anyio.Lock()
        self._asked: dict[str, date] = {}
        self._known: dict[str, list[CorporateAction]] = {}
        self._tried_s: float | None = None
        self._failing = False

    @property
    def today(self) -> date:
        """The day in New York."""
        return self._clock.now().astimezone(NEW_YORK).date()

    def is_known(self, symbols: Collection[str]) -> bool:
        """Say whether the broker was asked about all of these symbols today."""
        return not self._unknown(symbols, self.today)

    async def learn(self, symbols: Collection[str]) -> bool:
        """Ask about the symbols that were not asked of today; say whether anything was learned."""
        async with self._turn:
            today, now_s = self.today, self._clock.monotonic()
            unknown = self._unknown(symbols, today)
            has_just_failed = self._failing and self._tried_s is not None and now_s - self._tried_s < RETRY_S
            if not unknown or has_just_failed:
                return False
            self._tried_s = now_s
            try:
                found = await self._ask(unknown, today)
            except Transient as error:
                self._note(str(error))
                return False
            self._note("")
            for symbol in unknown:
                self._asked[symbol] = today
                self._known[symbol] = [action for action in found if action.symbol == symbol]
            return True

    def frozen(self, symbols: Iterable[str], following: date, booked: Mapping[str, date]) -> dict[str, str]:
        """Return why symbols are frozen, those alone that are. following, booked: as in `freezing`, by symbol."""
        today = self.today
        reasons = {
            symbol: freezing(self._known[symbol], today, following, booked.get(symbol))
            if self._asked.get(symbol) == today
            else f"the broker has not said yet whether shares of {symbol} change"
            for symbol in symbols
        }
        return {symbol: why for symbol, why in reasons.items() if why}

    async def _ask(self, symbols: Sequence[str], today: date) -> Sequence[CorporateAction]:
        try:
            return await self._broker.corporate_actions(
                symbols, today - LOOK_BACK, today + LOOK_AHEAD, priority=Priority.HEAL
            )
        except BrokerRefused as error:
            if error.status not in NO_RIGHT and len(symbols) > 1:  # one that is odd must not speak for the others
                return [action for symbol in symbols for action in await self._ask([symbol], today)]
            log.warning("announcements.refused", error=str(error), symbols=len(symbols))
            return ()

    def _unknown(self, symbols: Collection[str], today: date) -> list[str]:
        return [symbol for symbol in symbols if self._asked.get(symbol) != today]

    def _note(self, error: str) -> None:
        if error and not self._failing:
            log.warning("announcements.unknown", error=error)
        elif self._failing and not error:
            log.info("announcements.known_again")
        self._failing = bool(error)

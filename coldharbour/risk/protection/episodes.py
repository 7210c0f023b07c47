"""Episodes without a live stop: when one becomes an alarm, what changes in it, when it ends; a pure comparison."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from coldharbour.risk.protection.model import Episode, Exposure


@dataclass(frozen=True, slots=True)
class Changes:
    """What a look changes. saved: episodes that are new or differ. gone: those that ended before they were an alarm.

    raised, healed: alarms that begin and end with this look. due_at: when the next one would begin.
    """

    saved: tuple[Episode, ...] = ()
    gone: tuple[Exposure, ...] = ()
    raised: tuple[Exposure, ...] = ()
    healed: tuple[Exposure, ...] = ()
    due_at: datetime | None = None

    def __bool__(self) -> bool:
        return bool(self.saved or self.gone or self.healed)


def changes(known: Iterable[Episode], found: Iterable[Exposure], now: datetime, grace: timedelta) -> Changes:
    """Return what a look changes about the open episodes.

    known: those that are open. found: what has no live stop now. grace: how long looks must see it before it is an
    alarm, since legs take a moment to be placed or replaced, and a lot may be behind the lake for as long. It is
    counted by our clock, from the first look: then neither a late message nor the broker's clock makes an alarm. An
    episode keeps the moment it began with, and ends only when nothing of it is bare any more.
    """
    opened, seen = {each.exposure.key: each for each in known}, {each.key: each for each in found}
    current = [_renewed(opened.get(key), exposure, now, grace) for key, exposure in seen.items()]
    ended = [each for key, each in opened.items() if key not in seen]
    return Changes(
        saved=tuple(each for each in current if each != opened.get(each.exposure.key)),
        gone=tuple(each.exposure for each in ended if each.raised_at is None),
        raised=tuple(each.exposure for each in current if each.raised_at == now),
        healed=tuple(each.exposure for each in ended if each.raised_at is not None),
        due_at=min((each.found_at + grace for each in current if each.raised_at is None), default=None),
    )


def _renewed(known: Episode | None, found: Exposure, now: datetime, grace: timedelta) -> Episode:
    episode = Episode(found, now) if known is None else replace(known, exposure=_with_begin(found, known.exposure))
    is_due = episode.raised_at is None and now - episode.found_at >= grace
    return replace(episode, raised_at=now) if is_due else episode


def _with_begin(found: Exposure, known: Exposure) -> Exposure:
    return replace(found, since=known.since)

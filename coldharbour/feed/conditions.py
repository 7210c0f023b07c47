"""Trade conditions: whether a trade may set a symbol's last price, by the exchange's codes; knows no price."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Flag

from coldharbour.feed.model import Conditions

MAX_KNOWN = 2_048  # combinations that are remembered; the real tape has some two hundred


class Needs(Flag):
    """What must hold for a trade to set the last price; the needs of all its codes add up."""

    NOTHING = 0
    TAPE_C = 1
    EXTENDED_HOURS = 2
    IMPOSSIBLE = 4


# Source: alpaca-api.md 6.3, the rule by which minute bars close. 8 is neutral; S and 1 are not classified there.
_NEEDS = {
    **dict.fromkeys(" @FEO56XKLADYS18", Needs.NOTHING),
    "": Needs.NOTHING,  # no code at all
    "B": Needs.TAPE_C,  # bunched there, an average price on tapes A and B
    "T": Needs.EXTENDED_HOURS,  # form T: sets no price in regular hours
    **dict.fromkeys("WIMQ9CNRGPZ4HUV7", Needs.IMPOSSIBLE),
}


def needs(conditions: Conditions, excluded: Iterable[str] = ()) -> Needs:
    """Return what a trade with these codes needs to set the last price: the strictest code decides.

    conditions: a list of codes, one text whose every letter is a code, or None; a trade without a code has the
    code "". excluded: codes that the operator rules out. A code that nobody knows rules it out as well.
    Source: alpaca-api.md 6.3.

    >>> needs(["@", "T"]), needs(["@", "I"]), needs("@F", excluded=["F"])
    (<Needs.EXTENDED_HOURS: 2>, <Needs.IMPOSSIBLE: 4>, <Needs.IMPOSSIBLE: 4>)
    """
    found = Needs.NOTHING
    for code in tuple(conditions or ()) or ("",):
        found |= Needs.IMPOSSIBLE if code in excluded else _NEEDS.get(code, Needs.IMPOSSIBLE)
    return found


def may_set_price(needed: Needs, *, tape: str, regular_hours: bool) -> bool:
    """Return whether a trade with these needs may set the last price. tape: "" where it is not known."""
    if Needs.IMPOSSIBLE in needed:
        return False
    if Needs.TAPE_C in needed and tape != "C":
        return False
    return not (Needs.EXTENDED_HOURS in needed and regular_hours)


class ConditionRule:
    """`needs` for one operator's exclusions, remembered by combination of codes, of which there are few."""

    def __init__(self, excluded: Iterable[str]) -> None:
        self._excluded = frozenset(excluded)
        self.known: dict[Conditions, Needs] = {}

    def needs(self, conditions: Conditions) -> Needs:
        """Return what a trade with these codes needs to set the last price."""
        if conditions not in self.known:
            if len(self.known) >= MAX_KNOWN:  # a publisher that makes codes up
                self.known.clear()
            found = needs(conditions, self._excluded)
            self.known[conditions] = Needs.IMPOSSIBLE if Needs.IMPOSSIBLE in found else found
        return self.known[conditions]

"""The names of account activities: which the broker documents, and which change profit; never looks at one."""

from __future__ import annotations

from collections.abc import Iterable, Set
from typing import Final

FILL: Final = "FILL"
# They change profit. Every other cash type moves the balance and never the return (domain.md 6).
PERFORMANCE: Final = frozenset({
    "DIV", "DIVCGL", "DIVCGS", "DIVNRA", "DIVROC", "DIVTXEX", "DIVWH", "INT", "INTPNL", "FEE", "CFEE", "PTC", "PTR",
    "DIVFEE", "DIVFT", "DIVTW", "INTNRA", "INTTW", "CGD", "CIL",
})  # fmt: skip
# Shares that come from or go to another account, and shares that become other shares.
TRANSFERS: Final = frozenset({"JNLS", "ACATS"})
CORPORATE_ACTIONS: Final = frozenset({"SPLIT", "SSP", "SSO", "SPIN", "SC", "NC", "MA", "REORG"})
EXTERNAL: Final = frozenset({
    "CSD", "CSW", "JNL", "JNLC", "ACATC", "TRANS", "MISC", "FOPT", "OCT", "OPASN", "OPCA", "OPCSH", "OPEXC", "OPEXP",
    "OPTRD", "OPXRC", "EXTRD", "FXTRD", "MEM", "SWP", "VOF", "WH",
})  # fmt: skip
CASH: Final = PERFORMANCE | EXTERNAL


class NoSuchType(ValueError):
    """A list of activity types that cannot be meant as it is written."""


def performance_types(written: Iterable[str]) -> frozenset[str]:
    """Return the activity types that change profit, from what an operator wrote.

    written: names replace the usual list; names that begin with + or - add to it and take from it; nothing leaves
    it as it is. Case does not matter. Raises NoSuchType for a name the broker does not document, for one that moves
    no cash of its own, and for a mixture of both ways. Source: domain.md 6.

    >>> sorted(performance_types(["DIV", "FEE"])), "SWP" in performance_types(["+swp", "-PTC"])
    (['DIV', 'FEE'], True)
    """
    words = [word.strip().upper() for word in written]
    if not words:
        return PERFORMANCE
    changes = [word for word in words if word[:1] in ("+", "-")]
    if changes and len(changes) < len(words):
        plain = next(word for word in words if word not in changes)
        raise NoSuchType(f"mixes {plain} with {changes[0]}: write + or - before each name, or before none")
    for word in words:
        _check(word.lstrip("+-"), CASH)
    if not changes:
        return frozenset(words)
    added = {word[1:] for word in words if word.startswith("+")}
    return PERFORMANCE - {word[1:] for word in words if word.startswith("-")} | added


def _check(name: str, known: Set[str]) -> None:
    if name == FILL or name in TRANSFERS | CORPORATE_ACTIONS:
        raise NoSuchType(f"shares move with {name}, which is neither profit nor deposit: leave it out")
    if name not in known:
        raise NoSuchType(f"unknown activity type {name!r}: known are {', '.join(sorted(known))}")

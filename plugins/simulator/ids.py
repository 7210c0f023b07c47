"""Ids that a seed repeats: owns their random source; knows nothing of what they name."""

from __future__ import annotations

from itertools import count
from random import Random

CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class Ids:
    """A seeded source of UUIDs, ULIDs and small chances.

    Two sources with one name give the same ids; a restarted simulator must name its source differently.
    """

    def __init__(self, name: str) -> None:
        self.chance = Random(name)
        self._ulids = count(self.chance.getrandbits(60))

    def uuid(self) -> str:
        """Return a lower-case UUID of version 4."""
        bits = f"{self.chance.getrandbits(128):032x}"
        variant = "89ab"[int(bits[16], 16) & 3]
        return f"{bits[:8]}-{bits[8:12]}-4{bits[13:16]}-{variant}{bits[17:20]}-{bits[20:]}"

    def ulid(self, at: int) -> str:
        """Return a ULID of a moment (nanoseconds); later calls sort later."""
        number = ((at // 1_000_000) << 80) | next(self._ulids)
        return "".join(CROCKFORD[(number >> shift) & 31] for shift in range(125, -1, -5))

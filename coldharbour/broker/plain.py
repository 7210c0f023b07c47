"""Rows written in the usual way, read at once: most of a history is; never a word about what is wrong with a row.

What is read here says what patient reading (`translate.py`) would say of it; every other row is left to that.
"""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from operator import attrgetter
from typing import Annotated, Any

import msgspec

Slices = list[msgspec.Raw] | None  # nested rows, each to be read from its own exact text

UTC_ONLY = {dt.UTC}

_TIE = re.compile(rb"\.\d{6}50*\D")  # a stamp half-way between two microseconds, which msgspec always rounds up


class PlainText:
    """How one kind of row is read at once: no empty text for a number, every stamp in UTC and none of them a tie."""

    def __init__(self, kind: type[msgspec.Struct], **slices: Any) -> None:
        fields = [field for field in msgspec.structs.fields(kind) if field.name not in {"raw", *slices}]
        required: list[Any] = [(field.name, _strict(field)) for field in fields if field.required]
        optional: list[Any] = [(field.name, _strict(field), field.default) for field in fields if not field.required]
        nested: list[Any] = [(name, part, None) for name, part in slices.items()]
        row = msgspec.defstruct(kind.__name__, required + optional + nested, gc=False)
        self._json = msgspec.json.Decoder(row)
        self._names = row.__struct_fields__
        self._numbers = attrgetter(*(field.name for field in fields if holds(field.type, Decimal)))
        self._moments = attrgetter(*(field.name for field in fields if holds(field.type, dt.datetime)))

    def read(self, raw: bytes) -> dict[str, Any] | None:
        """Return the fields, the nested ones as slices; None where patience is needed.

        Raises msgspec.DecodeError or ValueError for what is no JSON in UTF-8.
        """
        raw.isascii() or raw.decode()  # unknown fields are skipped unseen
        if _TIE.search(raw):
            return None
        try:
            row = self._json.decode(raw)
        except msgspec.ValidationError:
            return None
        zones = {moment.tzinfo for moment in self._moments(row) if moment is not None}
        if zones - UTC_ONLY or not all(map(Decimal.is_finite, filter(None, self._numbers(row)))):
            return None
        return dict(zip(self._names, msgspec.structs.astuple(row), strict=True))


def holds(annotation: Any, known: type) -> bool:
    """Whether a field of this type holds a value of that one."""
    return annotation is known or known in getattr(annotation, "__args__", ())


def _strict(field: msgspec.structs.FieldInfo) -> Any:
    """Return the type of a field without what patience is for: stamps that name no zone, empty text for nothing."""
    if holds(field.type, dt.datetime):
        only: Any = Annotated[dt.datetime, msgspec.Meta(tz=True)]
    elif holds(field.type, str) and field.default != "":
        only = Annotated[str, msgspec.Meta(min_length=1)]
    else:
        return field.type
    return only if field.required else only | None

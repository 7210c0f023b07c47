"""A part's HTML in pieces, table rows above all, and what must be sent when only some of them changed; pure, no I/O.

A piece is a `<tr>` or `<p>` with an id. Whatever cannot be told piece by piece is for the caller to send whole.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import groupby

from coldharbour.web.events import Change, partial

PIECE = re.compile(r'<(tr|p) id="([^"]*)".*?</\1>', re.DOTALL)
BODY = re.compile(r"(?<=<tbody>).*?(?=</tbody>)", re.DOTALL)
PLAIN = re.compile(r"[A-Za-z][\w-]*", re.ASCII)  # an id that may stand in a selector as it is
WORTH_IT = 0.5  # of the whole: a longer change is no change


@dataclass(frozen=True, slots=True)
class Pieces:
    """HTML taken apart. rows: by table body, in order. frame: everything around the pieces; it must stay the same."""

    html: str
    pieces: dict[str, str]
    rows: tuple[tuple[str, ...], ...]
    frame: str


def take_apart(html: str) -> Pieces:
    """Return the pieces of a part.

    >>> apart = take_apart('<p id="note">1</p><tbody><tr id="a"><td>x</td></tr></tbody>')
    >>> apart.pieces, apart.rows, apart.frame
    ({'note': '<p id="note">1</p>', 'a': '<tr id="a"><td>x</td></tr>'}, (('a',),), '<p id="note"><tbody></tbody>')
    """
    found = list(PIECE.finditer(html))
    pieces = {piece[2]: piece[0] for piece in found}
    if len(pieces) < len(found) or any(piece[0].count(f"<{piece[1]}") > 1 for piece in found):
        return Pieces(html, {}, (), html)  # an id twice, or a table within a table
    rows = tuple(tuple(piece[2] for piece in PIECE.finditer(body)) for body in BODY.findall(html))
    bare = BODY.sub(lambda body: PIECE.sub("", body[0]).strip(), html)
    return Pieces(html, pieces, rows, PIECE.sub(r'<\1 id="\2">', bare))


def change(before: Pieces, after: Pieces, told: Collection[str], same: Collection[str]) -> Change | None:
    """Return what turns one state of a part into another on a page, None where the whole must be sent.

    told: pieces of which cells were told since `before`, so that the page shows something else than `before`.
    same: pieces that the page shows as they are in `after`, whatever was told.
    """
    kept = before.pieces.keys() & after.pieces.keys()
    altered = [
        name for name in after.pieces
        if name in kept and name not in same and (name in told or before.pieces[name] != after.pieces[name])
    ]  # fmt: skip
    gone = [name for name in before.pieces if name not in kept]
    added = [name for name in after.pieces if name not in kept]
    names = [*altered, *gone, *added]
    if before.frame != after.frame or not _are_rows_in_order(before, after) or not all(map(PLAIN.fullmatch, names)):
        return None
    inserted = [_insertion(after, run) for run in _runs(after, kept)]
    if None in inserted:
        return None
    deleted = [partial(name, "", "delete") for name in gone]
    replaced = [partial(name, after.pieces[name]) for name in altered]
    html = "".join([*deleted, *replaced, *filter(None, inserted)])
    return Change(html, frozenset(names)) if len(html) < WORTH_IT * len(after.html) else None


def _are_rows_in_order(before: Pieces, after: Pieces) -> bool:
    """Say whether the rows that stay are in the order that they were in, each in its own table body."""
    pairs = zip(before.rows, after.rows, strict=True)
    return all([row for row in old if row in after.pieces] == [row for row in new if row in before.pieces]
               for old, new in pairs)  # fmt: skip


def _runs(after: Pieces, kept: Collection[str]) -> Iterable[list[str]]:
    """Return the new rows, those in one piece that follow each other."""
    for rows in after.rows:
        yield from (list(run) for is_kept, run in groupby(rows, kept.__contains__) if not is_kept)


def _insertion(after: Pieces, run: list[str]) -> str | None:
    """Return new rows to be put below the row that is above them, or above the one below; None if neither will do."""
    [rows] = [rows for rows in after.rows if run[0] in rows]
    html = "".join(after.pieces[name] for name in run)
    first, last = rows.index(run[0]), rows.index(run[-1])
    if first > 0 and PLAIN.fullmatch(rows[first - 1]):
        return partial(rows[first - 1], html, "afterend")
    if last + 1 < len(rows) and PLAIN.fullmatch(rows[last + 1]):
        return partial(rows[last + 1], html, "beforebegin")
    return None

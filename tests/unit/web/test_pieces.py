"""A part in pieces: what is sent turns one state of a table into the next, and touches nothing else."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from coldharbour.web.events import Change, Streams, html_frame, json_frame, message
from coldharbour.web.pieces import change, take_apart

Rows = dict[str, str]
PARTIAL = re.compile(r'<hx-partial hx-target="#([^"]+)" hx-swap="([^"]+)">(.*?)</hx-partial>', re.DOTALL)
ROW = re.compile(r'<tr id="([^"]+)"><td>(.*?)</td></tr>')
NAMES = [f"row-{number}" for number in range(9)]
TABLES = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["1", "2"]))


def table(rows: Rows, note: str = "") -> str:
    """Return a part with a note, a table and more around them than rows ever are."""
    body = "\n".join(f'<tr id="{name}"><td>{text}</td></tr>' for name, text in rows.items())
    return f'<section><p id="note">{note}</p><table><tbody>\n{body}\n</tbody></table>{"." * 3000}</section>'


def applied(shown: Rows, found: Change) -> Rows:
    """Return the rows of a page, by id, after it did what it was told, as the browser does."""
    rows = dict(shown)
    for target, swap, html in PARTIAL.findall(found.html):
        assert target in shown  # the browser looks for every target before it begins
        new = dict(ROW.findall(html))
        if swap == "delete":
            del rows[target]
        elif swap == "outerMorph":
            rows |= new
        else:
            items = list(rows.items())
            place = list(rows).index(target) + (swap == "afterend")
            rows = dict(items[:place]) | new | dict(items[place:])
    return rows


@given(TABLES, TABLES)
def test_what_is_sent_makes_the_new_table_out_of_the_old_one(old: Rows, new: Rows) -> None:
    old, new = dict(sorted(old.items())), dict(sorted(new.items()))

    found = change(take_apart(table(old)), take_apart(table(new)), (), ())

    if found is None:
        assert new
        assert not old.keys() & new.keys()  # there is no row to put the new ones beside
    else:
        assert list(applied(old, found).items()) == list(new.items())


def sent(old: str, new: str, told: tuple[str, ...] = (), same: tuple[str, ...] = ()) -> list[str] | None:
    """Return the ids of what a page is sent, None for all of it."""
    found = change(take_apart(old), take_apart(new), told, same)
    return None if found is None else sorted(found.rows)


def test_only_what_differs_from_the_page_is_sent() -> None:
    old, new = table({"a": "1", "b": "1", "c": "1"}, "3 lots"), table({"a": "1", "b": "2", "c": "1"}, "three lots")

    assert sent(old, new) == ["b", "note"]
    assert sent(old, new, told=("a",)) == ["a", "b", "note"]  # the page shows something newer than `old` there
    assert sent(old, new, told=("a", "b"), same=("a", "b")) == ["note"]  # and shows it as it is in `new`
    assert sent(old, old) == []


def test_what_cannot_be_told_in_pieces_is_sent_whole() -> None:
    assert sent(table({"a": "1"}), table({"a": "1"}).replace("<section>", "<section class='new'>")) is None
    assert sent(table({"a": "1", "b": "1"}), table({"b": "1", "a": "1"})) is None  # the order changed
    assert sent(table({"a": "1"}), table({"a": "1", "b c": "1"})) is None  # no selector finds such an id
    assert sent(table({"a::1": "1"}), table({"a::1": "1", "b": "1"})) is None  # nor such a one to put a row beside
    assert sent(table({"a::1": "1", "c": "1"}), table({"a::1": "1", "b": "1", "c": "1"})) == ["b"]  # beside the other
    nested = table({"a": "<table><tr><td></td></tr></table>"})
    assert sent(nested, nested.replace("<td></td>", "<td>1</td>")) is None
    assert sent(table(dict.fromkeys("abc", "1"), "." * 9000), table(dict.fromkeys("abc", "1"))) == ["note"]
    long = "." * 9000
    assert sent(table({"a": "1"}), table({"a": long})) is None  # the change is longer than the rest


def test_a_page_that_has_not_taken_a_state_is_sent_the_whole_of_the_next_one() -> None:
    streams, found = Streams(limit=1), Change("<hx-partial>a</hx-partial>", {"a"})
    whole = [html_frame("part", str(number)) for number in range(3)]
    with streams.connect("paper") as client:
        streams.publish(["paper"], "part", whole[0])
        assert client.take() == whole[0]

        streams.publish(["paper"], "part", whole[1], found)
        assert client.take() == message(found.html)

        streams.publish(["paper"], "part", whole[0], found)
        streams.publish(["paper"], "part", whole[2], found)
        assert client.take() == whole[2]


def test_of_cells_that_were_not_sent_yet_those_of_replaced_rows_are_older_and_go() -> None:
    streams, found = Streams(limit=1), Change("<hx-partial>a</hx-partial>", {"a"})
    with streams.connect("paper") as client:
        streams.patch("paper", "part", {"a": {"pl": ("+1.00",)}, "b": {"pl": ("+2.00",)}})

        streams.publish(["paper"], "part", html_frame("part", "1"), found)

        assert client.take() == message(found.html) + json_frame("px", {"b": {"pl": ("+2.00",)}})

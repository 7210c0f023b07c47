"""Slugs: whatever a destination is called, its slug is a name that PostgreSQL and a URL can carry."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import coldharbour
from coldharbour.destinations import slug_for

IDENTIFIER = re.compile(r"[a-z_][a-z0-9_]*", re.ASCII)
names = st.text(max_size=80)


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Cold Harbour v1.0", "cold_harbour_v1_0"),
        ("7up", "d_7up"),
        ("", "dest"),
        ("--", "dest"),
        ("__a__b__", "a_b"),
        ("Swing / Short", "swing_short"),
        ("Zürich", "z_rich"),
    ],
)
def test_a_slug_follows_the_published_rule(name: str, slug: str) -> None:
    assert slug_for(name) == slug


@given(names)
@example("\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}")
@example("\N{ARABIC-INDIC DIGIT THREE}a")
@example("\N{KELVIN SIGN}")
def test_a_slug_is_always_a_lower_case_identifier(name: str) -> None:
    assert IDENTIFIER.fullmatch(slug_for(name))


@given(names)
def test_a_slug_is_its_own_slug(name: str) -> None:
    slug = slug_for(name)

    assert slug_for(slug) == slug


@given(names)
def test_a_slug_has_no_edge_and_no_run_of_underscores(name: str) -> None:
    slug = slug_for(name)

    assert slug == slug.strip("_")
    assert "__" not in slug


@given(st.from_regex(r"\A[a-z][a-z0-9]*(_[a-z0-9]+)*\Z"))
def test_a_name_that_is_a_slug_already_stays_as_it_is(name: str) -> None:
    assert slug_for(name) == name


@given(st.text("abcxyz019", min_size=1), st.text("abcxyz019", min_size=1))
def test_case_never_separates_two_destinations(left: str, right: str) -> None:
    name = f"{left} {right}"

    assert slug_for(name.upper()) == slug_for(name)


def test_other_programs_can_import_it() -> None:
    assert coldharbour.slug_for("Paper") == "paper"

"""Paths: names and indexes only; each with a column of its own."""

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tallybook.kernel.errors import Invalid
from tallybook.kernel.jsonpath import column_name, column_path, parse_path, spell, steps
from tallybook.kernel.limits import NAME_CHARS_MAX, PATH_STEPS_MAX

NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
TRICKY = st.text(st.sampled_from("_xe0129aA.'\"[]\\ \n$ü"), max_size=8)
STEPS = st.lists(NAMES | TRICKY | st.integers(0, 10**6), max_size=PATH_STEPS_MAX)


@given(STEPS)
def test_spelling_and_parsing_are_inverse(parts):
    path = spell(parts)
    assume(len(path) <= NAME_CHARS_MAX)
    assert steps(path) == tuple(parts)
    assert parse_path(path) == path


@given(STEPS, st.sampled_from("nt"))
def test_a_column_names_its_path(parts, twin):
    path = spell(parts)
    assume(len(path) <= NAME_CHARS_MAX)
    name = column_name(path, twin)
    assert column_path(name) == path
    assert re.fullmatch(r"[nt]_[a-z0-9_]+", name), "no quoting, no case"


@given(STEPS, STEPS)
def test_two_paths_never_share_a_column(one, other):
    paths = spell(one), spell(other)
    assume(max(map(len, paths)) <= NAME_CHARS_MAX)
    assert (column_name(paths[0], "t") == column_name(paths[1], "t")) == (one == other)


@given(st.text(st.sampled_from("nt_xe019af"), max_size=12))
def test_a_name_that_is_a_column_is_the_name_of_its_path(name):
    try:
        path = column_path(name)
    except Invalid:
        return
    assert column_name(path, name[0]) == name


@pytest.mark.parametrize(
    ("given_text", "canonical"),
    [
        ("$", "$"),
        ("$.bytes", "$.bytes"),
        ("$['bytes']", "$.bytes"),
        ('$["bytes"]', "$.bytes"),
        ("$.a.b[0]", "$.a.b[0]"),
        ("$[007]", "$[7]"),
        ("$.größe", "$['größe']"),
        (r"$['it\'s']", r"$['it\'s']"),
        ('$["it\'s"]', r"$['it\'s']"),
        ("$['']", "$['']"),
        ("$.http-status", "$.http-status"),
    ],
)
def test_one_canonical_spelling(given_text, canonical):
    assert parse_path(given_text) == canonical


@pytest.mark.parametrize(
    "text",
    [
        "",
        "bytes",
        ".bytes",
        "$bytes",
        "$.",
        "$..a",
        "$.*",
        "$[*]",
        "$[-1]",
        "$[0:2]",
        "$[?(@.a)]",
        "$.a b",
        "$['a",
        "$[a]",
        "$.a[",
        "$[\u0661]",
        "$.a; DROP TABLE x",
        "$." + "a" * NAME_CHARS_MAX,
        "$" + ".a" * (PATH_STEPS_MAX + 1),
    ],
)
def test_anything_else_is_refused(text):
    with pytest.raises(Invalid) as caught:
        parse_path(text)
    assert caught.value.field == "path"


def test_a_path_whose_canonical_spelling_is_too_long_is_refused_at_the_door():
    with pytest.raises(Invalid):
        parse_path("$." + "ü" * (NAME_CHARS_MAX - 2))


def test_columns_are_named_after_paths():
    assert column_name(parse_path("$.bytes"), "n") == "n_bytes"
    assert column_name(parse_path("$.size['Total Sum'][0]"), "t") == (
        "t_size___x54_otal_x20__x53_um___0"
    )
    assert column_name(parse_path("$"), "t") == "t__root"
    assert column_name(parse_path("$['']"), "t") == "t__e"


@pytest.mark.parametrize(
    "name", ["", "n", "n_", "x_a", "n_A", "t_a_", "t__x110000_", "t_a_0", "t__x61_"]
)
def test_no_other_name_is_a_column(name):
    with pytest.raises(Invalid):
        column_path(name)

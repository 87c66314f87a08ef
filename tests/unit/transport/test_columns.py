"""Typed columns: what a path leads to, and what a value is worth, one by one or all together."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallybook.kernel.decimals import measure
from tallybook.kernel.jsonpath import column_name, parse_path
from tallybook.transport.columns import ColumnSet, number_array, text_array, text_of, typed_arrays

NUMBERS = st.one_of(
    st.integers(-(10**40), 10**40).map(str),
    st.decimals(allow_nan=False, allow_infinity=False).map(str),
    st.from_regex(r"[+-]?[0-9]{0,25}\.?[0-9]{0,40}([eE][+-]?[0-9]{1,11})?", fullmatch=True),
    st.text("0123456789.eE+-_ xNa\u0661\uff12", max_size=12),
    st.sampled_from(["1e-999999999", "0e-2147483648", "NaN", "Infinity", "-0", "1e20", "0x1f", ""]),
)
JSON_NUMBERS = st.one_of(
    st.integers(-(10**30), 10**30).map(str),
    st.from_regex(r"-?(0|[1-9][0-9]{0,24})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,10})?", fullmatch=True),
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
CELLS = st.one_of(
    st.none(),
    st.sampled_from([b"null", b"true", b"false", b"{}", b"[1]", b'{"a":1}']),
    JSON_NUMBERS.map(str.encode),
    (NUMBERS | TEXTS).map(lambda text: json.dumps(text).encode()),
    TEXTS.map(lambda text: json.dumps(text, ensure_ascii=False).encode()),
)


def text_of_json(cell):
    """Return a dimension's text, the slow and plain way."""
    if cell is None:
        return None
    value = json.loads(cell, parse_int=str, parse_float=str)
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else None


@given(st.lists(CELLS, max_size=8) | st.lists(JSON_NUMBERS.map(str.encode), max_size=8))
def test_numbers_together_are_what_each_measures(cells):
    array, rounded = number_array(cells)
    texts = [None if cell in {b"true", b"false"} else text_of_json(cell) for cell in cells]
    expected = [(None, False) if text is None else measure(text) for text in texts]
    assert array.to_pylist() == [value for value, _ in expected]
    assert rounded == [i for i, (_, was) in enumerate(expected) if was]


@given(
    st.lists(CELLS, max_size=8)
    | st.lists(JSON_NUMBERS.map(str.encode), max_size=8)
    | st.lists(TEXTS.map(lambda text: json.dumps(text, ensure_ascii=False).encode()), max_size=8)
)
def test_texts_together_are_what_each_spells(cells):
    expected = [text_of_json(cell) for cell in cells]
    assert text_array(cells).to_pylist() == expected
    assert [text_of(cell) for cell in cells] == expected


def columns(*paths):
    found = [parse_path(path) for path in paths]
    return ColumnSet({column_name(path, "t"): path for path in found})


@pytest.mark.parametrize(
    ("path", "cell"),
    [
        ("$.a", b'{"b":[1,{"c":2}]}'),
        ("$.a.b", b'[1,{"c":2}]'),
        ("$.a.b[0]", b"1"),
        ("$.a.b[1].c", b"2"),
        ("$.a.b[2]", None),
        ("$.a.b.c", None),
        ("$.a[0]", None),
        ("$.missing", None),
        ("$.missing.more", None),
        ("$.n", b"null"),
        ("$.n.x", None),
        ("$[0]", None),
        ("$", None),
        ("$['']", b'"empty"'),
        ("$['\"']", b'"quote"'),
        (r"$['\\']", b'"backslash"'),
        ("$['\t']", b'"tab"'),
        ("$['ü']", b'"umlaut"'),
        ("$['a.b']", b'"dot"'),
    ],
)
def test_a_path_leads_to_its_value_or_nowhere(path, cell):
    data = (
        '{"a":{"b":[1,{"c":2}]},"n":null,"":"empty","\\"":"quote","\\\\":"backslash",'
        '"\\t":"tab","ü":"umlaut","a.b":"dot"}'
    ).encode()
    for _ in range(2):  # a shape is learned by the first and used by the second
        found = columns(path).cells([data, b"null", b"{}"])
        assert found == [[cell, None, None]]


@given(st.lists(st.dictionaries(TEXTS, st.integers() | TEXTS, max_size=4) | st.none(), max_size=5))
def test_the_checked_way_reads_the_same_cells(datas):
    keys = sorted({key for data in datas if data for key in data})[:3]
    raw = [json.dumps(d, separators=(",", ":"), ensure_ascii=False).encode() for d in datas]
    made = ColumnSet(
        {f"t_{i}": parse_path(f"$[{json.dumps(k)}]") for i, k in enumerate(keys) if _ok(k)}
    )
    for _ in range(2):
        checked = made.checked_cells(raw)
        assert checked is None or checked == made.cells(raw)


def _ok(key):
    return key.isalnum()


def test_flags_name_the_rows_that_were_rounded():
    made = ColumnSet({"n_a": parse_path("$.a"), "n_b": parse_path("$.b")})
    cells = [[b"1", b"0.1234567890125", None], [b"1e-13", b"2", b'"x"']]
    arrays, rounded = typed_arrays(made, cells)
    assert rounded == {0, 1}
    assert [str(v) for v in arrays[0].to_pylist()[:2]] == ["1.000000000000", "0.123456789012"]
    assert arrays[1].to_pylist()[2] is None


def test_no_columns_cost_nothing():
    assert ColumnSet({}).cells([b"{}", b"null"]) == []
    assert len(ColumnSet({})) == 0

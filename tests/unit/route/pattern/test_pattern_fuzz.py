"""The compiled matcher against one written independently, on generated patterns and events."""

import contextlib
import json
import time
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tallybook.kernel.errors import Invalid
from tallybook.route.pattern.compile import Matcher
from tallybook.route.pattern.explain import misses
from tallybook.route.pattern.parse import parse_pattern
from tallybook.route.record import Record, document_of, envelope
from tallybook.route.rule import Rule
from tallybook.route.table import RoutingTable
from tests.support.naive_patterns import matches

NAMES = st.sampled_from(["a", "b", "c", "type", "d.e"])
TEXTS = st.one_of(
    st.sampled_from(["", "a", "ab", "aab", "AB", "Straße", "STRASSE", "*", "\\", "é", "É"]),
    st.sampled_from(["10.0.0.1", "10.0.0.77", "010.0.0.1", "::1", "0:0::1", "2001:db8::1"]),
    st.text("ab*\\É", max_size=4),
)
NUMBERS = st.one_of(
    st.integers(-3, 3),
    st.decimals(-2, 2, places=1),
    st.sampled_from([12345678901234567890, 12345678901234567891, Decimal("1E-6")]),
)
LEAVES = st.one_of(TEXTS, NUMBERS, st.booleans(), st.none())


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\")


WILDCARDS = st.text("ab*", max_size=6).filter(lambda t: "**" not in t)
STRINGS = st.one_of(
    st.fixed_dictionaries({"prefix": TEXTS}),
    st.fixed_dictionaries({"suffix": TEXTS}),
    st.fixed_dictionaries({"prefix": st.fixed_dictionaries({"equals-ignore-case": TEXTS})}),
    st.fixed_dictionaries({"suffix": st.fixed_dictionaries({"equals-ignore-case": TEXTS})}),
    st.fixed_dictionaries({"equals-ignore-case": TEXTS}),
    st.fixed_dictionaries({"wildcard": WILDCARDS}),
    st.fixed_dictionaries({"exactly": TEXTS}),
)
BUT_TEXTS = st.one_of(
    TEXTS,
    st.lists(TEXTS, min_size=1, max_size=3),
    NUMBERS,
    st.lists(NUMBERS, min_size=1, max_size=3),
    st.fixed_dictionaries({"prefix": st.lists(TEXTS.filter(bool), min_size=1, max_size=2)}),
    st.fixed_dictionaries({"suffix": TEXTS.filter(bool)}),
    st.fixed_dictionaries({"equals-ignore-case": st.lists(TEXTS, min_size=1, max_size=2)}),
    st.fixed_dictionaries({"wildcard": WILDCARDS}),
)
RANGES = st.one_of(
    st.tuples(st.sampled_from(["=", "<", "<=", ">", ">="]), NUMBERS).map(list),
    st.tuples(st.sampled_from([">", ">="]), NUMBERS, st.sampled_from(["<", "<="]), NUMBERS)
    .filter(lambda r: r[1] < r[3])
    .map(list),
)
CONDITIONS = st.one_of(
    LEAVES,
    STRINGS,
    st.fixed_dictionaries({"anything-but": BUT_TEXTS}),
    st.fixed_dictionaries({"numeric": RANGES}),
    st.fixed_dictionaries({"exists": st.booleans()}),
    st.fixed_dictionaries(
        {"cidr": st.sampled_from(["10.0.0.0/24", "0.0.0.0/0", "::/0", "2001:db8::/32", "::1/128"])}
    ),
)
FIELDS = st.lists(CONDITIONS, min_size=1, max_size=3)


def _objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    plain = st.dictionaries(NAMES, inner, min_size=1, max_size=2)
    return st.one_of(
        plain,
        st.tuples(plain, st.lists(plain, min_size=2, max_size=2)).map(
            lambda t: t[0] | {"$or": t[1]}
        ),
    )


PATTERNS = _objects(st.one_of(FIELDS, FIELDS, _objects(st.one_of(FIELDS, _objects(FIELDS)))))
EVENTS = st.dictionaries(
    NAMES,
    st.recursive(
        LEAVES,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)
        ),
        max_leaves=6,
    ),
    max_size=4,
)


def text_of(value: Any) -> str:
    """Return a value as JSON, decimals to the letter."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(k)}:{text_of(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(text_of, value)) + "]"
    return str(value) if isinstance(value, Decimal) else json.dumps(value)


@settings(max_examples=300)
@given(PATTERNS, EVENTS)
@example({"a": {"b": [{"exists": False}]}}, {"a": [{"b": 1}, {}]})
@example(
    {"a": {"b": ["a"]}, "$or": [{"a": {"c": ["b"]}}, {"b": ["a"]}]}, {"a": [{"b": "a"}, {"c": "b"}]}
)
def test_the_compiled_matcher_agrees_with_a_naive_one(pattern: Any, event: Any) -> None:
    try:
        parsed = parse_pattern(text_of(pattern))
    except Invalid:
        return
    matcher, document = Matcher(parsed), document_of(text_of(event).encode())
    wanted = matches(pattern, event)
    assert matcher.matches(document) is wanted
    assert (not misses(matcher, document)) is wanted


@settings(max_examples=80)
@given(st.lists(PATTERNS, min_size=1, max_size=6), EVENTS, st.sampled_from(["a", "ab", "t"]))
def test_an_index_of_rules_finds_what_each_rule_alone_finds(
    patterns: list[Any], data: Any, kind: str
) -> None:
    rules = []
    for number, pattern in enumerate(patterns):
        text = text_of({"data": pattern} if number % 2 else {"type": ["a", "t"], "data": pattern})
        rules.append(Rule(tenant="t", key=str(number), version=1, pattern=text, targets=("x",)))
    record = Record(
        tenant="t", id="1", source="s", type=kind, subject=None, time_us=0, received_us=0,
        ext=None, data=text_of(data), commit_seq=1, key=b"0" * 16,
    )  # fmt: skip
    table = RoutingTable(rules)
    broken = {each.rule.key for each in table.broken}
    document = document_of(envelope(record))
    wanted = [
        rule.key
        for rule in rules
        if rule.key not in broken and Matcher(parse_pattern(rule.pattern)).matches(document)
    ]
    assert [rule.key for rule in table.matching(record)] == wanted


@given(st.text("ab*\\", max_size=12), st.text("ab*\\", max_size=12))
def test_wildcards_refuse_or_agree(wildcard: str, text: str) -> None:
    try:
        parsed = parse_pattern(json.dumps({"a": [{"wildcard": wildcard}]}))
    except Invalid:
        return
    assert Matcher(parsed).matches({"a": text}) is matches(
        {"a": [{"wildcard": wildcard}]}, {"a": text}
    )


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda b: b.decode("latin-1")))
def test_any_text_is_a_pattern_or_is_refused(text: str) -> None:
    with contextlib.suppress(Invalid):
        parse_pattern(text)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 5_000 + "1" + "}" * 5_000,
        '{"a":' * 40 + '["x"]' + "}" * 40,
        '{"a":["' + "x" * 20_000 + '"]}',
        '{"a":[1e99999999999999999999]}',
        '{"a":[NaN]}',
        '{"a":["x"],"a":["y"]}',
        '{"a":{"b":["x"],"b":["y"]}}',
        '{"a":[{"prefix":"x","prefix":"y"}]}',
        '{"$or":[' + ",".join(['{"a":["x"]}'] * 1001) + "]}",
        "{" + ",".join(f'"f{n}":{{"$or":[{{"a":[1]}},{{"b":[1]}}]}}' for n in range(11)) + "}",
        '{"a":[{"wildcard":"' + "*a" * 65 + '"}]}',
        '{"$or":[{"prefix":["a"]},{"b":["x"]}]}',
    ],
    ids=lambda text: f"{len(text)}-{text[:16]}",
)
def test_what_is_too_much_is_refused_at_once(text: str) -> None:
    begun = time.process_time()
    with pytest.raises(Invalid) as refused:
        parse_pattern(text)
    assert refused.value.code == "bad-pattern"
    assert time.process_time() - begun < 2


def test_no_string_makes_a_wildcard_slow() -> None:
    wildcard = "*a" * 60 + "*b"
    matcher = Matcher(parse_pattern(json.dumps({"a": [{"wildcard": wildcard}]})))
    begun = time.process_time()
    assert not matcher.matches({"a": "a" * 60_000})
    assert time.process_time() - begun < 0.5

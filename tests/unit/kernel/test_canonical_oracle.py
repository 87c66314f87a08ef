"""The JSON that is written in one pass, against what is spelled out slowly."""

import json
from decimal import Decimal
from typing import Any

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from tallybook.kernel.decimals import encode_plain, plain

texts = st.one_of(
    st.text(st.characters(exclude_categories=("Cs",))),
    st.text('E+-0123456789".\\eé\u2028\x00\x7f', max_size=12),
)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    texts,
    st.decimals(allow_nan=False, allow_infinity=False),
)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=30,
)


def spelled(value: Any, *, ordered: bool) -> Any:
    """Return a value with its decimals as texts without an exponent, its keys in order if asked."""
    match value:
        case Decimal():
            return plain(value) if "E" in str(value) else str(value)
        case dict():
            items = [(key, spelled(inner, ordered=ordered)) for key, inner in value.items()]
            return dict(sorted(items, key=lambda item: item[0].encode()) if ordered else items)
        case list():
            return [spelled(inner, ordered=ordered) for inner in value]
        case _:
            return value


@given(values)
@example({"é": Decimal("1E-7"), "a\u2028": '1E+2"', "E": Decimal("-0E+3")})
@example([Decimal("4E-9"), "ü" * 20_000])
def test_one_pass_says_what_the_slow_way_says(value: Any) -> None:
    for order in (None, "sorted"):
        body = encode_plain(value, order=order)  # type: ignore[arg-type]
        slowly = spelled(value, ordered=order is not None)
        assert body == msgspec.json.encode(slowly)
        found = json.loads(body, object_pairs_hook=list)
        assert found == json.loads(json.dumps(slowly), object_pairs_hook=list)

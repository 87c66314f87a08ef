"""The note on a parcel survives its headers; what is malformed is no note and no error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallybook.collect.sending.parcel import (
    Parcel,
    Waiting,
    edge_name,
    headers_of,
    nearest_name,
    note_of,
)
from tallybook.kernel.errors import Invalid

NUMBER = st.integers(0, 10**15)
INSTANT = st.integers(0, 4_000_000_000_000_000)
NAME = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True).filter(
    lambda name: name not in {"rules", "certificates"}
)


@given(
    NAME,
    st.none() | st.from_regex(r"[0-9a-f]{1,32}", fullmatch=True),
    st.integers(1, 10**15),
    st.integers(0, 4000),
    st.builds(
        Waiting,
        first=NUMBER,
        batches=NUMBER,
        events=NUMBER,
        bytes=NUMBER,
        oldest_us=st.none() | INSTANT,
    ),
    INSTANT,
)
def test_a_note_comes_out_as_it_went_in(
    name: str, incarnation: str | None, number: int, part: int, waiting: Waiting, at: int
) -> None:
    parcel = Parcel(
        edge=name,
        incarnation=incarnation,
        number=number if incarnation else 0,
        part=part if incarnation else 0,
        agent="0.1.0",
        waiting=waiting,
    )
    headers = headers_of(parcel, at)
    note = note_of(headers)
    assert note is not None
    assert (note.parcel, note.sent_us) == (parcel, at)
    assert all(value.isascii() and value.isprintable() for value in headers.values())


@given(
    st.dictionaries(
        st.sampled_from(
            ["tallybook-edge", "tallybook-sequence", "tallybook-sent-at", "tallybook-agent",
             "tallybook-waiting"]
        ),
        st.text(max_size=40) | st.sampled_from(["a:0", "a:1.2.3", "first=x batches=-1", "web-1"]),
    )
)  # fmt: skip
def test_whatever_stands_in_the_headers_a_note_never_fails(headers: dict[str, str]) -> None:
    note = note_of(headers)
    assert note is None or note.parcel.number >= 0


@pytest.mark.parametrize("text", ["", "rules", "certificates", "a b", "ä", "-x", "a" * 129, "a/b"])
def test_what_cannot_name_an_edge(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        edge_name(text)
    assert refused.value.code == "bad-edge-name"
    assert note_of({"tallybook-edge": text}) is None


@given(st.text(max_size=200))
def test_any_machine_gets_a_name(text: str) -> None:
    assert edge_name(nearest_name(text))

"""The worked cases of EventBridge's pattern language, artefacts of the reference put right."""

import json
from typing import Any

import pytest

from tallybook.kernel.errors import Invalid
from tallybook.route.pattern.compile import Matcher
from tallybook.route.pattern.explain import misses
from tallybook.route.pattern.parse import parse_pattern
from tallybook.route.record import document_of
from tests.golden.vectors import FOLDER, identity, require


class Literal:
    """A number as it is written in the file."""

    def __init__(self, text: str) -> None:
        """Keep the text."""
        self.text = text


def text_of(value: Any) -> str:
    """Return a value as JSON, its numbers to the letter."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(k)}:{text_of(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(text_of, value)) + "]"
    return value.text if isinstance(value, Literal) else json.dumps(value)


def loaded(name: str) -> list[dict[str, Any]]:
    """Return the cases of a file; none where it is absent."""
    path = FOLDER / name
    if not path.exists():
        return []
    found: list[dict[str, Any]] = json.loads(
        path.read_text(encoding="utf-8"), parse_float=Literal, parse_int=Literal
    )
    return found


CASES = loaded("event_patterns.json")
INVALID = loaded("event_patterns_invalid.json")


def test_the_cases_are_there() -> None:
    require()
    assert len(CASES) == 221
    assert len(INVALID) == 29


@pytest.mark.parametrize("case", CASES, ids=identity)
def test_case(case: dict[str, Any]) -> None:
    matcher = Matcher(parse_pattern(text_of(case["pattern"])))
    document = document_of(text_of(case["event"]).encode())
    wanted = case.get("recommended", case["matches"])
    assert matcher.matches(document) is wanted
    assert (misses(matcher, document) == []) is wanted


ACCEPTED = {"inv-cidr-mask-128"}
"""Refused by the reference; recommended: accepted."""


@pytest.mark.parametrize("case", INVALID, ids=identity)
def test_invalid_case(case: dict[str, Any]) -> None:
    if case["id"] in ACCEPTED:
        parse_pattern(case["pattern_text"])
        return
    with pytest.raises(Invalid) as refused:
        parse_pattern(case["pattern_text"])
    assert refused.value.code == "bad-pattern"
    assert refused.value.field

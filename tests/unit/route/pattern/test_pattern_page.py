"""Every row of docs/algorithms/patterns.md is matched, and every refusal is refused there."""

import re
from pathlib import Path

import pytest

from tallybook.kernel.errors import Invalid
from tallybook.route.pattern.compile import Matcher
from tallybook.route.pattern.parse import parse_pattern
from tallybook.route.record import document_of

PAGE = Path(__file__).parents[4] / "docs" / "algorithms" / "patterns.md"


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the table under a heading, code marks taken off."""
    text = PAGE.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip().strip("`") for cell in line[1:-1].split(" | ")] for line in lines]


VALUES = rows("Values and expressions")
EVENTS = rows("Arrays, absence, objects")
REFUSED = rows("Refused")


def test_the_tables_are_read() -> None:
    assert (len(VALUES), len(EVENTS), len(REFUSED)) == (38, 17, 19)
    assert re.fullmatch(r"(yes|no)+", "".join(row[2] for row in [*VALUES, *EVENTS]))


@pytest.mark.parametrize(("field", "value", "wanted"), VALUES)
def test_value(field: str, value: str, wanted: str) -> None:
    matcher = Matcher(parse_pattern(f'{{"v": {field}}}'))
    assert matcher.matches(document_of(f'{{"v": {value}}}'.encode())) is (wanted == "yes")


@pytest.mark.parametrize(("pattern", "event", "wanted"), EVENTS)
def test_event(pattern: str, event: str, wanted: str) -> None:
    matcher = Matcher(parse_pattern(pattern))
    assert matcher.matches(document_of(event.encode())) is (wanted == "yes")


@pytest.mark.parametrize(("pattern", "field"), REFUSED)
def test_refusal(pattern: str, field: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_pattern(pattern)
    assert refused.value.field is not None
    assert refused.value.field.startswith(field)

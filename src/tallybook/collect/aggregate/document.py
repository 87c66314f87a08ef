"""Rules of aggregation as a TOML file: `[[rules]]` tables in order."""

import tomllib

import msgspec

from tallybook.collect.aggregate.rule import EdgeRule, checked
from tallybook.kernel.errors import Invalid


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    rules: tuple[EdgeRule, ...] = ()


def parse_rules(text: str) -> tuple[EdgeRule, ...]:
    """Return the rules that a TOML text declares; raises Invalid."""
    try:
        found = msgspec.convert(tomllib.loads(text), _Document)
    except tomllib.TOMLDecodeError as error:
        raise Invalid(f"the rules are not TOML: {error}", field="rules") from error
    except msgspec.ValidationError as error:
        raise Invalid(f"the rules: {error}", field="rules") from error
    return checked(found.rules)

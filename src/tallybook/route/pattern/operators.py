"""Match expressions: `{"prefix": "a"}` and the like, and plain values."""

from collections.abc import Callable, Mapping
from decimal import Decimal
from ipaddress import IPv4Network, IPv6Address, IPv6Network
from typing import Any

from tallybook.route.pattern.reading import Members, refuse
from tallybook.route.pattern.terms import (
    Affix,
    AnythingBut,
    Beyond,
    Cidr,
    Condition,
    Equal,
    Exists,
    IgnoreCase,
    Number,
    Numeric,
    SameAddress,
    SameNumber,
    SameWord,
    Wildcard,
    address_of,
)

WILDCARD_STARS_MAX = 64


def condition(value: Any, path: str) -> Condition:
    """Return what one element of a field's list says.

    Args:
        value: as `read_json` gives it.
        path: where it stands, for refusals.

    Raises:
        Invalid: it is not of the language.
    """
    if isinstance(value, Members):
        return _expression(value, path)
    if value is None or isinstance(value, bool):
        return SameWord({None: "null", True: "true", False: "false"}[value])  # type: ignore[arg-type]
    if isinstance(value, list):
        message = "a list in a list matches nothing: write its values side by side"
        raise refuse(message, path)
    return _same(value, path)


def _same(value: Any, path: str) -> Equal | SameAddress | SameNumber:
    if isinstance(value, str):
        address = address_of(value)
        return SameAddress(address) if isinstance(address, IPv6Address) else Equal(value)
    return SameNumber(_number(value, path))


def _expression(members: Members, path: str) -> Condition:
    if len(members) != 1:
        message = f"a match expression has one key, this has {len(members)}: one expression each"
        raise refuse(message, path)
    name, value = members[0]
    if name not in _OPERATORS:
        known = ", ".join(_OPERATORS)
        raise refuse(f"'{name}' is no match expression; there are {known}", path)
    return _OPERATORS[name](value, f"{path}.{name}")


def _text(value: Any, path: str) -> str:
    if not isinstance(value, str):
        raise refuse("this must be a string: put it in quotes", path)
    return value


def _number(value: Any, path: str) -> Number:
    if isinstance(value, Beyond):
        raise refuse(f"{value.text[:40]} is beyond every number that can be compared", path)
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise refuse("this must be a number, without quotes", path)
    return value


def _exactly(value: Any, path: str) -> Condition:
    return Equal(_text(value, path))


def _prefix(value: Any, path: str) -> Condition:
    return _affix("prefix", value, path)


def _suffix(value: Any, path: str) -> Condition:
    return _affix("suffix", value, path)


def _affix(kind: Any, value: Any, path: str) -> Affix:
    if not isinstance(value, Members):
        return Affix(kind, _text(value, path))
    if len(value) != 1 or value[0][0] != "equals-ignore-case":
        raise refuse(f'inside {kind} only {{"equals-ignore-case": "…"}} is allowed', path)
    return Affix(kind, _text(value[0][1], f"{path}.equals-ignore-case"), ignore_case=True)


def _ignore_case(value: Any, path: str) -> IgnoreCase:
    return IgnoreCase(_text(value, path))


def _wildcard(value: Any, path: str) -> Wildcard:
    text = _text(value, path)
    parts, at = [""], 0
    while at < len(text):
        if text[at] == "*":
            if text[at + 1 : at + 2] == "*":
                raise refuse("two stars side by side mean no more than one: write one", path)
            parts.append("")
        elif text[at] == "\\":
            at += 1
            if text[at : at + 1] not in {"*", "\\"}:
                raise refuse("a backslash must be followed by * or by a backslash", path)
            parts[-1] += text[at]
        else:
            parts[-1] += text[at]
        at += 1
    if len(parts) > WILDCARD_STARS_MAX + 1:
        raise refuse(f"a wildcard has at most {WILDCARD_STARS_MAX} stars", path)
    return Wildcard(text, tuple(parts))


def _exists(value: Any, path: str) -> Exists:
    if not isinstance(value, bool):
        raise refuse("exists is true or false", path)
    return Exists(value)


def _cidr(value: Any, path: str) -> Cidr:
    text = _text(value, path)
    base, slash, bits = text.partition("/")
    address = address_of(base)
    fit = slash and bits.isascii() and bits.isdecimal() and len(bits) <= 3
    if address is None or not fit or int(bits) > address.max_prefixlen:
        message = f"'{text[:60]}' is no block of addresses such as 10.0.0.0/8 or 2001:db8::/32"
        raise refuse(message, path)
    network = IPv6Network if isinstance(address, IPv6Address) else IPv4Network
    return Cidr(network((address, int(bits)), strict=False))


_BOUNDS = {">": ("low", True), ">=": ("low", False), "<": ("high", True), "<=": ("high", False)}


def _numeric(value: Any, path: str) -> Numeric:
    if not isinstance(value, list) or len(value) not in {2, 4}:
        message = 'numeric is a list such as ["=", 5], [">", 0] or [">", 0, "<=", 5]'
        raise refuse(message, path)
    signs = [value[at] for at in range(0, len(value), 2)]
    numbers = [_number(value[at], f"{path}[{at}]") for at in range(1, len(value), 2)]
    if signs == ["="]:
        return Numeric(low=numbers[0], high=numbers[0])
    for at, sign in enumerate(signs):
        if not isinstance(sign, str) or sign not in _BOUNDS:
            raise refuse("a comparison is one of =, >, >=, <, <=", f"{path}[{2 * at}]")
    if [_BOUNDS[sign][0] for sign in signs] not in (["low"], ["high"], ["low", "high"]):
        raise refuse('a range names its lower bound first: [">", 0, "<=", 5]', path)
    bounds: dict[str, Any] = {}
    for sign, number in zip(signs, numbers, strict=True):
        side, is_open = _BOUNDS[sign]
        bounds |= {side: number, f"{side}_open": is_open}
    if len(signs) == 2 and numbers[0] >= numbers[1]:
        message = "the lower bound must be below the upper one; one number alone is '='"
        raise refuse(message, path)
    return Numeric(**bounds)


def _anything_but(value: Any, path: str) -> AnythingBut:
    if not isinstance(value, Members):
        return AnythingBut(_plain_values(value, path))
    if len(value) != 1 or value[0][0] not in _INSIDE_ANYTHING_BUT:
        known = ", ".join(_INSIDE_ANYTHING_BUT)
        raise refuse(f"inside anything-but there is one of {known}", path)
    name, inner = value[0]
    path = f"{path}.{name}"
    texts = inner if isinstance(inner, list) else [inner]
    if not texts:
        raise refuse("an empty list excludes nothing: leave the expression out", path)
    if name in {"prefix", "suffix"} and "" in texts:
        raise refuse(f"every string has the empty {name}: nothing would be left", path)
    make = _INSIDE_ANYTHING_BUT[name]
    return AnythingBut(tuple(make(text, f"{path}[{at}]") for at, text in enumerate(texts)))


def _plain_values(value: Any, path: str) -> Any:
    values = value if isinstance(value, list) else [value]
    wrong = [v for v in values if isinstance(v, bool | Members | list) or v is None]
    if wrong or not values:
        raise refuse("anything-but takes strings or numbers, one or a list of them", path)
    if len({isinstance(v, str) for v in values}) > 1:
        message = "anything-but takes strings or numbers, not both: two rules can say it"
        raise refuse(message, path)
    return tuple(_same(v, f"{path}[{at}]") for at, v in enumerate(values))


def _plain_affix(kind: str) -> Callable[[Any, str], Affix]:
    def make(value: Any, path: str) -> Affix:
        return Affix(kind, _text(value, path))  # type: ignore[arg-type]

    return make


_INSIDE_ANYTHING_BUT: Mapping[str, Callable[[Any, str], Affix | IgnoreCase | Wildcard]] = {
    "prefix": _plain_affix("prefix"),
    "suffix": _plain_affix("suffix"),
    "equals-ignore-case": _ignore_case,
    "wildcard": _wildcard,
}

_OPERATORS: Mapping[str, Callable[[Any, str], Condition]] = {
    "exactly": _exactly,
    "prefix": _prefix,
    "suffix": _suffix,
    "equals-ignore-case": _ignore_case,
    "wildcard": _wildcard,
    "anything-but": _anything_but,
    "numeric": _numeric,
    "exists": _exists,
    "cidr": _cidr,
}

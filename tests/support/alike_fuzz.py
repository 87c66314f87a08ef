"""Events that are spelled alike, and nearly so: near misses for the roads that cut columns out.

    python -m tests.support.alike_fuzz --seconds 3600 --seed 1

prints how many cases ran; the first that breaks a law is printed and ends it. A case is its seed,
and what the cases before it taught, since the seed that begins its hundred.
"""

import argparse
import random
import re
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from tallybook.kernel.errors import Invalid
from tallybook.transport import accept as road
from tallybook.transport import sifted
from tallybook.transport.accept import AcceptLimits
from tallybook.transport.alike import alike, split
from tallybook.transport.codec import decode, encode
from tallybook.transport.columns import ColumnSet
from tallybook.transport.rows import Rows

NOW_US = 1_795_219_200_000_000
LIMITS = AcceptLimits(event_bytes_max=1_500, request_events_max=40, request_bytes_max=40_000)
PATHS = {
    "n_a": "$.a", "t_a": "$.a", "n_a__b": "$.a.b", "t_a__b": "$.a.b", "t_c": "$.c", "n_c": "$.c",
    "t_l__0_": "$.l[0]", "n_l__1___a": "$.l[1].a", "t_u": "$['ü']", "t_root": "$",
}  # fmt: skip
TAUGHT = 100
"""Cases that share what was learned; then all is forgotten."""
BARE = (
    "1", "0", "-0", "1.0", "-1.5", "1e5", "1E5", "1e-7", "1E+400", "-0.0", "0.1234567890123456",
    "9" * 25, "9" * 45, "9223372036854775807", "9223372036854775808", "100000000000000000000",
    "true", "false", "null", "1e999999999", "0e0",
)  # fmt: skip
WRONG = (
    "01", "1.", ".5", "-", "+1", "1e", "tru", "nul", "NaN", "Infinity", "0x10", "1 ", " 1", "1_0",
    "--1", "1,2", "{}", "[]", "[1]", '{"a":1}', '{"b":1,"b":2}', '[{"a":1},2]', "1}", "{1", "1]",
    '"', '"x"', "1\t", "e", "1}}", "1},{", "f", "1 1", "truefalse", "1e5e",
)  # fmt: skip
TEXTS = (
    "x", "", "ü", "𝄞" * 3, "a,b", "{}", "}{", "[1]", ":", "null", "17", "1.5", " 1", "1 ", "007",
    "1e5", "1e400", "-0", "NaN", "+5", "0x1F", "1_000", "\x7f", "\u2028", "\ufeff", "\u0661",
    "y" * 300, "y" * 1024, "ü" * 600, "ü" * 1025, "y" * 1025, "tallybook.unparsed",
    "io.tallybook.unparsed", "t,", "}}", "1" * 40,
)  # fmt: skip
TIMES = (
    "2026-11-01T00:00:00Z", "2026-11-01T00:00:00z", "2026-11-01t00:00:00Z", "2026-11-01 00:00:00Z",
    "2026-11-01T00:00:00.5Z", "2026-11-01T00:00:00.123456789Z", "2026-11-01T00:00:00.Z",
    "2026-11-01T05:30:00+05:30", "2026-11-01T00:00:00-00:00", "2026-11-01T00:00:60Z",
    "2016-12-31T23:59:60Z", "2026-11-01T24:00:00Z", "2026-02-29T00:00:00Z", "2026-11-01T00:00Z",
    "0000-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-11-01", "",
    "+2026-11-01T00:00:00Z", "02026-11-01T00:00:00Z", "2026-11-01T00:00:00,5Z", "2026-W01-1",
    "2026-11-01T00:00:00 Z", "2026-11-01T00:00:00.000000Z", "2026-11-01T00:00:00+24:00",
    "-001-11-01T00:00:00Z", "2026-11-01T00:00:00ZZ", "2026-11-01T000000Z", "2026-11-0100:00:00Z",
    "2026-11-01T00:00:00.1234567Z", "2026-11-21T23:59:59Z", "2026-12-30T00:00:00Z",
)  # fmt: skip
DATAS = (
    '{"a":#}', '{"a":@,"c":#}', '{"a":{"b":#},"c":@}', '{"a":{"b":@,"c":#}}', "{}", "null",
    '{"l":["@","@"],"c":#}'.replace('"@"', "@"), '{"l":[@,{"a":#}]}', '{"l":[{"a":#},{"a":#}]}',
    '{"l":[[@],{"a":@}],"c":{}}', '{"ü":@,"a":#,"b":#}', '{"a":#,"b":#,"c":#}', '{"a":[],"c":#}',
    '{"a":{"a":{"b":#}},"b":{"a":#}}', '{"b":[{"a":#,"c":@}],"a":@}', '{"a":true,"c":"@@"}',
    '{"c":{"a":#},"a":#}', '{"l":[1,2],"a":#}', '{"l":[@,[]],"a":#}',
)  # fmt: skip
HEADS = (
    '"specversion":"1.0"', '"id":^', '"source":@', '"type":@', '"subject":@', '"subject":null',
    '"time":~', '"time":null', '"datacontenttype":"application/json"', '"datacontenttype":null',
    '"dataschema":@', '"trace":#', '"data_base64":"e30="', '"specversion":"0.3"',
    '"datacontenttype":@', '"specversion":1.0',
)  # fmt: skip
_SLOT = re.compile(r"[#@^~]")
_TOKEN = re.compile(r'"[^"]*"|[^\s{}\[\]:,"]+|[{}\[\]:,]')


def template(chosen: random.Random) -> str:
    """Return how some events are spelled, with a mark for each value."""
    parts = list(HEADS[:4])
    parts += [HEADS[i] for i in (4, 6, 8) if chosen.random() < 0.4]
    if chosen.random() < 0.1:
        parts.append(chosen.choice(HEADS))
    if chosen.random() < 0.9:
        parts.append(f'"data":{chosen.choice(DATAS)}')
    if chosen.random() < 0.5:
        chosen.shuffle(parts)
    text = "{" + ",".join(parts) + "}"
    return text if chosen.random() < 0.7 else text.replace(",", ", ").replace(":", ": ")


def filled(chosen: random.Random, spelled: str) -> str:
    """Return an event of a spelling."""
    usual = chosen.random() < 0.85

    def value(mark: re.Match[str]) -> str:
        match mark[0]:
            case "^":
                return f'"{chosen.randrange(50)}"'
            case "@":
                return f'"{"x" if usual else chosen.choice(TEXTS)}"'
            case "~":
                return f'"{TIMES[0] if usual else chosen.choice(TIMES)}"'
            case _:
                rare = chosen.random()
                if rare < 0.01:
                    return chosen.choice(WRONG)
                return f'"{chosen.choice(TEXTS)}"' if rare < 0.1 else chosen.choice(BARE)

    return _SLOT.sub(value, spelled)


def _swapped(chosen: random.Random, text: str) -> str:
    """Exchange two tokens."""
    found = [token.span() for token in _TOKEN.finditer(text)]
    if len(found) < 2:
        return text
    (a, b), (c, d) = sorted(chosen.sample(found, 2))
    return text[:a] + text[c:d] + text[b:c] + text[a:b] + text[d:]


def _moved(chosen: random.Random, text: str) -> str:
    """Take a few tokens out and put them in elsewhere."""
    found = [token.span() for token in _TOKEN.finditer(text)]
    if len(found) < 4:
        return text
    first = chosen.randrange(len(found) - 1)
    last = min(len(found) - 1, first + chosen.randrange(5))
    a, b = found[first][0], found[last][1]
    piece, rest = text[a:b], text[:a] + text[b:]
    at = chosen.randrange(len(rest) + 1)
    return rest[:at] + piece + rest[at:]


def _repeated(chosen: random.Random, text: str) -> str:
    """Give a key another's name."""
    keys = list(re.finditer(r'"([^"]*)"\s*:', text))
    if not keys:
        return text
    one, other = chosen.choice(keys), chosen.choice(keys)
    return text[: one.start(1)] + other[1] + text[one.end(1) :]


def _another(chosen: random.Random, text: str) -> str:
    """Put something else in place of a token."""
    found = [token.span() for token in _TOKEN.finditer(text)]
    if not found:
        return text
    a, b = chosen.choice(found)
    new = chosen.choice((*WRONG, *BARE, *[f'"{t}"' for t in TEXTS], "{", "}", "[", "]", ",", ":"))
    return text[:a] + new + text[b:]


def _spaced(chosen: random.Random, text: str) -> str:
    at = chosen.randrange(len(text) + 1)
    return text[:at] + chosen.choice((" ", "  ", "\t", "\n", "\x00", "\\u0041", "/**/")) + text[at:]


def _byte(chosen: random.Random, text: str) -> str:
    at = chosen.randrange(len(text))
    return text[:at] + chosen.choice('{}[],:" 01-.etfn"abx') + text[at + chosen.randrange(2) :]


MUTATIONS: tuple[Callable[[random.Random, str], str], ...] = (
    _swapped, _moved, _repeated, _repeated, _another, _another, _spaced, _byte, _byte,
)  # fmt: skip


def case(chosen: random.Random, known: list[str]) -> bytes:
    """Return a request of events that are spelled alike, or nearly."""
    if not known or chosen.random() < 0.1:
        known.append(template(chosen))
    several = [chosen.choice(known) for _ in range(chosen.choice((1, 1, 2, 3)))]
    events = [filled(chosen, chosen.choice(several)) for _ in range(chosen.choice((2, 3, 6)))]
    for _ in range(chosen.choice((0, 0, 1, 1, 1, 2, 3))):
        which = chosen.randrange(len(events))
        if events[which]:
            events[which] = chosen.choice(MUTATIONS)(chosen, events[which])
    body = "[" + chosen.choice((",", ",", ", ", " ,")).join(events) + "]"
    if chosen.random() < 0.03:
        body = _spaced(chosen, body)
    raw = body.encode()
    if chosen.random() < 0.02:
        at = chosen.randrange(len(raw))
        raw = raw[:at] + chosen.choice((b"\xff", b"\xc0\x80", b"\xed\xa0\x80")) + raw[at:]
    return raw


def made(*, compiled: bool) -> ColumnSet:
    """Return columns whose values are found by the compiled pass, or by comparing spellings."""
    columns = ColumnSet(PATHS)
    if not compiled:
        columns.find = None
    return columns


def check(bodies: list[bytes], columns: ColumnSet) -> str:
    """Compare the rows of bodies that came together with those of the careful road.

    Raises:
        AssertionError: something was taken that is refused there, or became another row.
    """
    parts = [split(body, LIMITS, columns) for body in bodies]
    kept = [(body, part) for body, part in zip(bodies, parts, strict=True) if part is not None]
    if not kept:
        return "left"
    taken = alike("t", [part for _, part in kept], NOW_US, columns, LIMITS)
    if taken is None:
        return "left"
    expected = Rows(columns)
    for body, _ in kept:
        rows, refused = road._careful("t", road.events_of(body, LIMITS), NOW_US, columns, LIMITS)
        assert not refused, f"what is refused elsewhere was taken: {refused}"
        expected.extend(rows)
    found, wanted = decode(encode(taken)), decode(encode(expected))
    assert found.schema == wanted.schema
    assert found.to_pydict() == wanted.to_pydict(), "another road, other rows"
    found.validate(full=True)
    return "taken"


def check_sifted(body: bytes, columns: ColumnSet) -> None:
    """Compare what is made of a body whose odd events are sifted out with what `accept` makes.

    Raises:
        AssertionError: another answer, or another row.
    """

    def answer(take: Callable[..., tuple[Any, list[road.Refusal]]]) -> object:
        try:
            rows, refused = take("t", body, NOW_US, columns, LIMITS)
        except Invalid as error:
            return error.code, error.message
        found = decode(encode(rows))
        return found.schema, found.to_pydict(), refused

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sifted, "EVENTS_MIN", 1)
        assert answer(sifted.accept_many) == answer(road.accept)


def run(first: int, count: int, *, compiled: bool = True) -> dict[str, int]:
    """Check so many cases from a seed on; return what became of them."""
    told: dict[str, int] = {}
    columns, known = made(compiled=compiled), list[str]()
    for seed in range(first, first + count):
        if seed % TAUGHT == 0:
            columns, known = made(compiled=compiled), []
        chosen = random.Random(seed)
        bodies = [case(chosen, known) for _ in range(chosen.choice((1, 1, 1, 2)))]
        try:
            said = check(bodies, columns)
            if compiled:
                check_sifted(b",".join(bodies).replace(b"],[", b","), columns)
        except Exception:
            print(f"seed {seed}: {bodies!r}", flush=True)
            raise
        told[said] = told.get(said, 0) + 1
    return told


def main(argv: list[str]) -> int:
    """Run cases until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--spelled", action="store_true", help="as where nothing is compiled")
    asked = parser.parse_args(argv)
    ends, seed, told = time.monotonic() + asked.seconds, asked.seed, dict[str, int]()
    while time.monotonic() < ends:
        for said, times in run(seed, TAUGHT, compiled=not asked.spelled).items():
            told[said] = told.get(said, 0) + times
        seed += TAUGHT
    print(seed - asked.seed, "cases", told)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

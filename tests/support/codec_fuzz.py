"""Bytes that a hostile or broken client might send, and what must hold of whatever they become.

    python -m tests.support.codec_fuzz --seconds 3600 --seed 1

prints how many cases ran; the first that breaks a law is printed and ends it. A case is its seed.
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Callable
from typing import Any

from tallybook.kernel.errors import Invalid
from tallybook.transport import accept as road
from tallybook.transport.accept import AcceptLimits, Refusal, accept
from tallybook.transport.alike import alike, split
from tallybook.transport.codec import decode, encode
from tallybook.transport.columns import ColumnSet
from tallybook.transport.rows import Rows

NOW_US = 1_795_219_200_000_000
LIMITS = AcceptLimits(event_bytes_max=2_000, request_events_max=40, request_bytes_max=40_000)
COLUMNS = ColumnSet({"n_bytes": "$.bytes", "n_a__b": "$.a.b", "t_path": "$.path", "t_u": "$['ü']"})
SPELLED = ColumnSet(COLUMNS.paths)
SPELLED.find = None
CODES = {"too-large", "malformed"}
WORDS = (
    b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"\\u0000", b"\\ud800", b"\\udc00\\ud800",
    b"\\ud83d\\ude00", b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xef\xbb\xbf",
    b"\x00", b"null", b"true", b"NaN", b"Infinity", b"-Infinity", b"1e999999999", b"-0",
    b"1E+400", b"0.1e-999999", b"9" * 400, b"01", b"1.", b".5", b"0x10", b"'", b"/**/", b"//\n",
    b'"id"', b'"source"', b'"type"', b'"specversion"', b'"1.0"', b'"data"', b'"data_base64"',
    b'"time"', b'"subject"', b'"datacontenttype"', b'"application/json"', b'"application/xml"',
    b'"dataschema"', b'"traceparent"', b'"2026-01-01T00:00:00Z"', b'"9999-12-31T23:59:59Z"',
    b'"0000-00-00T99:99:99+99:99"', b'"2016-12-31T23:59:60Z"', b'"bytes"', b'"a"', b'"b"',
    b"[" * 40, b'{"a":' * 40, b"]" * 40, b"}" * 40, b"\r\n\t ", b'"tallybook.unparsed"',
    b'"code"', b'"message"', b'"eyJhIjoxfQ=="', b'""', b"x" * 300, "\u2028ü𝄞".encode(),
)  # fmt: skip


def seeded(random_: random.Random) -> bytes:
    """Return a request that is nearly always good."""
    return json.dumps(
        [_event(random_, number) for number in range(random_.randint(1, 4))],
        ensure_ascii=random_.random() < 0.5,
        separators=random_.choice([(",", ":"), (", ", ": ")]),
    ).encode("utf-8", "surrogatepass")


def _event(random_: random.Random, number: int) -> dict[str, Any]:
    event: dict[str, Any] = {"specversion": "1.0", "id": f"e{number}", "source": "/s", "type": "t"}
    if random_.random() < 0.5:
        event["time"] = random_.choice(["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.5+05:30"])
    if random_.random() < 0.5:
        rare = random_.random() < 0.05
        event["subject"] = random_.choice(["\ud800", "x" * 1025] if rare else ["c1", "ü", ""])
    if random_.random() < 0.8:
        data = _value(random_, 3)
        event["data"] = data if random_.random() < 0.1 else {"bytes": data, "a": {"b": data}}
    if random_.random() < 0.2:
        event[random_.choice(["traceparent", "n", "datacontenttype"])] = random_.choice(
            ["x", 5, True, None, "application/json"]
        )
    return event


def _value(random_: random.Random, depth: int) -> Any:
    kind = random_.randrange(9 if depth else 6)
    keys = ("bytes", "a", "b", "path", "ü", "\x00", "'")
    match kind:
        case 0:
            return random_.choice([None, True, False])
        case 1:
            return random_.choice([0, -1, 10**30, 2**63, 0.1, 1e300, -1e-300])
        case 2 | 3:
            rare = random_.random() < 0.03
            return "\udfff" if rare else random_.choice(["", "1.5", "-0", "1e400", "ü", "x" * 50])
        case 4 | 5:
            return random_.randint(-(10**6), 10**6)
        case 6:
            return [_value(random_, depth - 1) for _ in range(random_.randrange(4))]
        case _:
            return {
                random_.choice(keys): _value(random_, depth - 1)
                for _ in range(random_.randrange(4))
            }


def _insert(random_: random.Random, body: bytes) -> bytes:
    at = random_.randint(0, len(body))
    return body[:at] + random_.choice(WORDS) + body[at:]


def _replace(random_: random.Random, body: bytes) -> bytes:
    at = random_.randint(0, len(body))
    return body[:at] + random_.choice(WORDS) + body[at + random_.randint(0, 8) :]


def _flip(random_: random.Random, body: bytes) -> bytes:
    if not body:
        return body
    changed = bytearray(body)
    changed[random_.randrange(len(body))] ^= 1 << random_.randrange(8)
    return bytes(changed)


def _cut(random_: random.Random, body: bytes) -> bytes:
    at, to = sorted((random_.randint(0, len(body)), random_.randint(0, len(body))))
    return body[:at] + body[to:] if random_.random() < 0.7 else body[:at]


def _repeat(random_: random.Random, body: bytes) -> bytes:
    at = random_.randint(0, len(body))
    piece = body[at : at + random_.randint(1, 60)]
    to = random_.randint(0, len(body))
    return body[:to] + piece * random_.randint(1, 4) + body[to:]


MUTATIONS: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    _insert, _insert, _replace, _replace, _flip, _cut, _repeat,
)  # fmt: skip


def case(seed: int) -> bytes:
    """Return the request of a seed."""
    random_ = random.Random(seed)
    body = seeded(random_)
    for _ in range(random_.choice([0, 0, 0, 1, 1, 1, 2, 2, 3, 6])):
        body = random_.choice(MUTATIONS)(random_, body)
    return body


def check(body: bytes, subjects: frozenset[str] | None = None) -> str:
    """Check every law of accept and its codec on a body; return what became of it.

    Raises:
        AssertionError: one does not hold.
    """
    try:
        rows, refused = accept("t", body, NOW_US, COLUMNS, LIMITS, subjects)
    except Invalid as error:
        return _expected(error.code)
    _check_rows(body, rows, [refusal.index for refusal in refused])
    table = decode(encode(rows)) if len(rows) else None
    if table is not None:
        assert table["data"].to_pylist() == [data.decode() for data in rows.datas]
        assert table["problem"].to_pylist() == rows.problems
        assert table["ext"].to_pylist() == rows.exts
    if subjects is None:
        _check_same_on_the_careful_road(body, rows, table)
        for columns in (COLUMNS, SPELLED):
            _check_same_where_columns_are_cut_out(body, refused, table, columns)
    return "refused" if refused else "accepted"


def _expected(code: str) -> str:
    assert code in CODES, code
    return code


def _check_rows(body: bytes, rows: Rows, refused: list[int]) -> None:
    count = len(rows)
    assert {len(column) for column in rows.cells} <= {count}
    assert refused == sorted(set(refused)), "by index, each once"
    assert all(0 <= index < count for index in refused)
    good = [number for number in range(count) if rows.problems[number] is None]
    assert not set(refused) & set(good)
    if not good:
        return
    read = json.loads(body.decode(), object_pairs_hook=_once, parse_int=str, parse_float=str) if (
        not refused and count == len(good)
    ) else None  # fmt: skip
    for number in good:
        assert 0 < len(rows.ids[number]) <= 1024
        assert 0 < len(rows.sources[number]) <= 1024
        json.loads(rows.datas[number].decode(), object_pairs_hook=_once, parse_int=str,
                   parse_constant=_never)  # fmt: skip
        if read is not None:
            event = read[number]
            assert (event["id"], event["source"], event["type"]) == (
                rows.ids[number], rows.sources[number], rows.types[number],
            )  # fmt: skip


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    assert len(found) == len(pairs), "a key twice was accepted"
    return found


def _never(word: str) -> Any:
    raise AssertionError(f"{word} was accepted")


def _check_same_on_the_careful_road(body: bytes, rows: Rows, table: Any) -> None:
    again, _ = road._careful("t", road.events_of(body, LIMITS), NOW_US, COLUMNS, LIMITS)
    assert len(again) == len(rows)
    if table is not None:
        assert decode(encode(again)).to_pydict() == table.to_pydict(), "two roads, two rows"


def _check_same_where_columns_are_cut_out(
    body: bytes, refused: list[Refusal], table: Any, columns: ColumnSet
) -> None:
    """Take the road of many events with this one body, and with its events twice."""
    part = split(body, LIMITS, columns)
    if part is None:
        return
    once = alike("t", [part], NOW_US, columns, LIMITS)
    again = alike("t", [part, part], NOW_US, columns, LIMITS)
    if once is None or again is None:
        return
    assert not refused, "what is refused elsewhere was taken"
    found = decode(encode(once)).to_pydict()
    assert found == table.to_pydict(), "another road, other rows"
    twice = {name: values * 2 for name, values in found.items()}
    assert decode(encode(again)).to_pydict() == twice
    assert len(once) == part.events
    assert once.data_bytes <= len(body)


def main(argv: list[str]) -> int:
    """Run cases until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(argv)
    ends, seed, told = time.monotonic() + asked.seconds, asked.seed, dict[str, int]()
    while time.monotonic() < ends:
        body = case(seed)
        try:
            said = check(body, frozenset({"c1"}) if seed % 5 == 0 else None)
        except Exception:
            print(f"seed {seed}: {body!r}", flush=True)
            raise
        told[said] = told.get(said, 0) + 1
        seed += 1
        if seed % 100_000 == 0:
            print(seed - asked.seed, told, flush=True)
    print(seed - asked.seed, "cases", told)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

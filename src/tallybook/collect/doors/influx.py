r"""Influx line protocol: each line is a record of a measurement with tags, fields and a time.

    measurement,tag=a,other=b field=1i,level=0.5,text="x",up=true 1700000000000000000

Integers end in `i` or `u`; other numbers keep their digits. A line that cannot be read is told by
its number, the others count.

Source: InfluxDB 2 line protocol reference.
"""

import re
from collections.abc import Iterator

import msgspec

from tallybook.collect.doors.point import Bad, Decoded, Label, Point, fingerprint
from tallybook.kernel.decimals import parse_decimal, plain
from tallybook.kernel.errors import Invalid

PRECISIONS = {"ns": 1, "n": 1, "us": 1_000, "u": 1_000, "ms": 1_000_000, "s": 1_000_000_000,
              "m": 60_000_000_000, "h": 3_600_000_000_000}  # fmt: skip
LINES_MAX = 100_000
LINE_CHARS_MAX = 64 * 1024
_INTEGER = re.compile(r"-?\d+i\Z")
_UNSIGNED = re.compile(r"\d+u\Z")
_FLOAT = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\Z")
_TRUTHS = {
    **dict.fromkeys(("t", "T", "true", "True", "TRUE"), b"true"),
    **dict.fromkeys(("f", "F", "false", "False", "FALSE"), b"false"),
}
_SPECIAL = re.compile(r"\\([,= \\])")
_QUOTED = re.compile(r'\\(["\\])')


class _Bad(Exception):
    """A line cannot be read; the message says why."""


def points(body: bytes, precision: str, now_us: int) -> Decoded:
    """Return the records of a request.

    Args:
        body: lines, decompressed.
        precision: of times: ns, us, ms, s, m or h.
        now_us: receipt time, for lines without one.
    """
    if precision not in PRECISIONS:
        message = f"precision must be one of {', '.join(PRECISIONS)}"
        raise Invalid(message, code="invalid", field="precision")
    found: list[Point] = []
    bad: list[Bad] = []
    for number, line in _lines(body):
        if len(found) + len(bad) >= LINES_MAX:
            message = f"the request has more than {LINES_MAX} lines; send smaller batches"
            raise Invalid(message, code="too-large", field="body")
        try:
            found.append(_record(line.decode(), PRECISIONS[precision], now_us, number))
        except (_Bad, UnicodeDecodeError) as error:
            piece = line.decode("utf-8", "backslashreplace")
            bad.append(
                Bad(code="line-malformed", message=str(error), piece=piece, place=f"line {number}")
            )
    return Decoded(points=tuple(found), bad=tuple(bad))


def _lines(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield line numbers and lines; a line end within a quoted text belongs to it."""
    parts, start = body.split(b"\n"), 1
    held: list[bytes] = []
    for number, part in enumerate(parts, 1):
        if not held:
            start = number
        held.append(part)
        line = b"\n".join(held) if len(held) > 1 else part
        if b'"' in line and _open(line) and number < len(parts) and len(held) < 64:
            continue
        held = []
        stripped = line.strip(b" \t\r")
        if stripped and not stripped.startswith(b"#"):
            yield start, stripped


def _open(line: bytes) -> bool:
    """Whether a quoted text of the line's fields goes on after its end."""
    inside, escaped = False, False
    for byte in line:
        if escaped:
            escaped = False
        elif byte == 0x5C:
            escaped = True
        elif byte == 0x22:
            inside = not inside
    return inside


def _record(line: str, unit_ns: int, now_us: int, number: int) -> Point:
    if len(line) > LINE_CHARS_MAX:
        raise _Bad("the line is too long")
    head, fields, time = _parts(line)
    measurement, tags = _head(head)
    values = _fields(fields)
    stamped = time == ""
    # Two lines of one series and instant with the same fields are one; with others, another.
    key = fingerprint("fields", "", dict.fromkeys(values, "")).hex()[:12]
    if stamped:
        key = f"{now_us}-{number}-{key}"
    return Point(
        name=measurement,
        labels=tags,
        kind="record",
        time_us=now_us if stamped else _time(time, unit_ns),
        fields=values,
        stamped=stamped,
        key=key,
    )


def _time(text: str, unit_ns: int) -> int:
    if not text.lstrip("-").isdecimal() or not text.isascii() or len(text) > 20:
        raise _Bad(f"'{text[:40]}' is no timestamp")
    return int(text) * unit_ns // 1000


def _parts(line: str) -> tuple[str, str, str]:
    """Return measurement with tags, fields, and the time, '' for none."""
    cuts: list[int] = []
    quoted = escaped = False
    for at, char in enumerate(line):
        if escaped:
            escaped = False
        elif char == "\\":
            escaped = True
        elif char == '"' and cuts:
            quoted = not quoted
        elif char == " " and not quoted and (not cuts or line[at - 1] != " " or cuts[-1] != at - 1):
            cuts.append(at)
    if quoted:
        raise _Bad("a quoted text has no end")
    pieces = [line[a:b].strip(" ") for a, b in zip([0, *cuts], [*cuts, len(line)], strict=True)]
    pieces = [piece for piece in pieces if piece]
    if not 2 <= len(pieces) <= 3:
        raise _Bad("a line is 'measurement,tags fields time'")
    return pieces[0], pieces[1], pieces[2] if len(pieces) == 3 else ""


def _split(text: str, mark: str) -> list[str]:
    """Return the parts between unescaped marks outside quoted texts."""
    parts, start = [], 0
    quoted = escaped = False
    for at, char in enumerate(text):
        if escaped:
            escaped = False
        elif char == "\\":
            escaped = True
        elif char == '"':
            quoted = not quoted
        elif char == mark and not quoted:
            parts.append(text[start:at])
            start = at + 1
    return [*parts, text[start:]]


def _head(text: str) -> tuple[str, dict[str, Label]]:
    if '"' not in text and "\\" not in text:
        name, *pairs = text.split(",")
        found = [pair.partition("=") for pair in pairs]
    else:
        name, *pairs = _unquoted_split(text, ",")
        found = [_pair(pair) for pair in pairs]
    tags: dict[str, Label] = {}
    for key, mark, value in found:
        if not (key and mark and value):
            raise _Bad("a tag needs a name and a value")
        if key in tags:
            raise _Bad(f"the tag '{key[:80]}' occurs twice")
        tags[_plain(key)] = _plain(value)
    if not name:
        raise _Bad("the measurement has no name")
    return _plain(name), tags


def _unquoted_split(text: str, mark: str) -> list[str]:
    """Return the parts between unescaped marks; quotes mean nothing in names and tags."""
    return [part.replace("\0", '"') for part in _split(text.replace('"', "\0"), mark)]


def _pair(text: str) -> tuple[str, str, str]:
    key, *rest = _unquoted_split(text, "=")
    return key, "=" if rest else "", "=".join(rest)


def _fields(text: str) -> dict[str, msgspec.Raw]:
    values: dict[str, msgspec.Raw] = {}
    for piece in _split(text, ","):
        key, *rest = _split(piece, "=")
        if not key or not rest:
            raise _Bad("a field needs a name and a value")
        name = _plain(key)
        if name in values:
            raise _Bad(f"the field '{name[:80]}' occurs twice")
        values[name] = msgspec.Raw(_value("=".join(rest)))
    return values


def _value(text: str) -> bytes:
    if text[:1] == '"':
        if len(text) < 2 or not text.endswith('"'):
            raise _Bad("a quoted text has no end")
        return msgspec.json.encode(_QUOTED.sub(r"\1", text[1:-1]))
    if text in _TRUTHS:
        return _TRUTHS[text]
    if _INTEGER.match(text) or _UNSIGNED.match(text):
        text = text[:-1]
    number = parse_decimal(text) if _FLOAT.match(text) else None
    if number is None or number.copy_abs() >= 1 << 1024:
        raise _Bad(f"'{text[:40]}' is no value of a field")
    return plain(number).encode()


def _plain(text: str) -> str:
    return _SPECIAL.sub(r"\1", text) if "\\" in text else text

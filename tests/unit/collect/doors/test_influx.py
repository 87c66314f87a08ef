"""Line protocol: what the reference allows, what it forbids, and times of every precision."""

import json

import pytest

from tallybook.collect.doors.influx import points
from tallybook.kernel.errors import Invalid

NOW = 1_800_000_000_000_000


def one(line, precision="ns"):
    decoded = points(line.encode(), precision, NOW)
    assert not decoded.bad, decoded.bad
    (found,) = decoded.points
    return found


def fields(found):
    return {name: json.loads(bytes(raw)) for name, raw in found.fields.items()}


READ = [
    ("m f=1i 1", "m", {}, {"f": 1}),
    ("m f=-5i 1", "m", {}, {"f": -5}),
    ("m f=18446744073709551615u 1", "m", {}, {"f": 18446744073709551615}),
    ("m f=1 1", "m", {}, {"f": 1}),
    ("m f=1.50 1", "m", {}, {"f": 1.5}),
    ("m f=.5,g=+2.,h=1e3,i=-1E-3 1", "m", {}, {"f": 0.5, "g": 2, "h": 1000, "i": -0.001}),
    ("m a=t,b=T,c=true,d=True,e=TRUE 1", "m", {}, dict.fromkeys("abcde", True)),
    ("m a=f,b=F,c=false,d=False,e=FALSE 1", "m", {}, dict.fromkeys("abcde", False)),
    ('m f="a b,c=d" 1', "m", {}, {"f": "a b,c=d"}),
    (r'm f="a \"b\" \\ c" 1', "m", {}, {"f": r'a "b" \ c'}),
    ('m f="" 1', "m", {}, {"f": ""}),
    ("m f=1 ", "m", {}, {"f": 1}),
    (r"my\ m\,x,t\=a=b\ c,u=v f\ g=1 1", "my m,x", {"t=a": "b c", "u": "v"}, {"f g": 1}),
    (r'm,q="x y=1 1'.replace(" y", r"\ y"), "m", {"q": '"x y=1'}, None),
    ('m,q="x" f=1 1', "m", {"q": '"x"'}, {"f": 1}),
    (r"m,path=C:\dir f=1 1", "m", {"path": r"C:\dir"}, {"f": 1}),
    ('"m" f=1 1', '"m"', {}, {"f": 1}),
    ("m  f=1  7", "m", {}, {"f": 1}),
]


@pytest.mark.parametrize(("line", "name", "tags", "values"), READ)
def test_what_a_line_says(line, name, tags, values):
    if values is None:
        assert points(line.encode(), "ns", NOW).bad
        return
    found = one(line)
    assert (found.name, dict(found.labels), fields(found)) == (name, tags, values)


FORBIDDEN = [
    "m",
    "m 1",
    "m f= 1",
    "m =1 1",
    "m f=1,f=2 1",
    "m,t= f=1 1",
    "m,=v f=1 1",
    "m,t f=1 1",
    "m,t=1,t=2 f=1 1",
    ",t=1 f=1 1",
    "m f=NaN 1",
    "m f=inf 1",
    "m f=1.5i 1",
    "m f=-1u 1",
    "m f=abc 1",
    'm f="abc 1',
    'm f="a"b 1',
    "m f=1 1.5",
    "m f=1 later",
    "m f=1 1 1",
    "m f=1e400 1",
    'm,"t=v f="x 1',
]


@pytest.mark.parametrize("line", FORBIDDEN)
def test_what_no_line_says(line):
    decoded = points(f"ok f=1 1\n{line}\n".encode(), "ns", NOW)
    assert [point.name for point in decoded.points] == ["ok"]
    assert [bad.place for bad in decoded.bad] == ["line 2"]
    assert decoded.bad[0].code == "line-malformed"


def test_bytes_that_are_no_text_are_shown_as_they_are():
    (bad,) = points(b"m f=\xff 1", "ns", NOW).bad
    assert bad.piece == r"m f=\xff 1"


@pytest.mark.parametrize(
    ("precision", "time", "us"),
    [("ns", 1_700_000_000_123_456_789, 1_700_000_000_123_456), ("us", 5, 5), ("ms", 5, 5_000),
     ("s", 5, 5_000_000), ("m", 2, 120_000_000), ("h", 1, 3_600_000_000), ("s", -1, -1_000_000)],
)  # fmt: skip
def test_times_in_their_precision(precision, time, us):
    assert one(f"m f=1 {time}", precision).time_us == us


def test_a_precision_that_is_none_is_refused():
    with pytest.raises(Invalid, match="precision"):
        points(b"m f=1 1", "day", NOW)


def test_comments_blank_lines_and_texts_over_lines():
    body = b'# said\n\n  \nm f="a\nb" 1\r\nn f=1 2'
    decoded = points(body, "ns", NOW)
    assert [point.name for point in decoded.points] == ["m", "n"]
    assert fields(decoded.points[0]) == {"f": "a\nb"}


def test_a_text_that_never_ends_spoils_few_lines():
    body = b'm f="open 1\n' + b"n f=1 1\n" * 200
    decoded = points(body, "ns", NOW)
    assert len(decoded.bad) == 1
    assert len(decoded.points) > 130


def test_a_line_without_a_time_is_stamped_and_never_taken_for_another():
    decoded = points(b"m f=1\nm f=1", "ns", NOW)
    assert [point.stamped for point in decoded.points] == [True, True]
    assert len({point.key for point in decoded.points}) == 2


def test_the_same_instant_with_other_fields_is_another_record():
    decoded = points(b"m f=1 1\nm g=1 1\nm f=2 1", "ns", NOW)
    keys = [point.key for point in decoded.points]
    assert keys[0] == keys[2] != keys[1]


def test_bounds():
    with pytest.raises(Invalid, match="lines"):
        points(b"m f=1 1\n" * 100_001, "ns", NOW)
    assert points(b"m f=" + b"1" * 70_000, "ns", NOW).bad

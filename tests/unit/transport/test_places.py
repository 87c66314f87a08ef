"""The compiled pass over a body: what it takes is JSON, and it says where the values stand."""

import itertools
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest

from tallybook.kernel.jsonpath import parse_path
from tallybook.transport import places
from tallybook.transport.columns import ColumnSet
from tallybook.transport.places import ATTRIBUTES, DATA, finding, joined

ROOT = Path(__file__).parents[3]
COMPILER = shutil.which("cc")
HEAD = b'{"specversion":"1.0","id":"1","source":"/s","type":"t"'
DEPTH_MAX, KEYS_MAX = 16, 64

if not places.COMPILED:
    assert COMPILER is None, "there is a C compiler, and the package was built without it"
    pytest.skip("the package was built without a C compiler", allow_module_level=True)

ONE = places.Finder((("v",),))


def at_path(rows: bytes) -> int:
    """Return the first event's number in the row of the one path."""
    return int.from_bytes(rows[4 * (DATA + 1) : 4 * (DATA + 2)], sys.byteorder, signed=True)


FIND = finding(["$.v", "$.v", "$.l[1].a", "$['']", "$"])


def found(body: bytes, events_max: int = 100, event_bytes_max: int = 5_000):
    return FIND(body, events_max, event_bytes_max)


def with_data(data: bytes) -> bytes:
    return b"[" + HEAD + b',"data":' + data + b"}]"


def value(text: bytes) -> bytes | None:
    """Return what is found at `$.v` where the value is spelled so; None where it is not taken."""
    body = with_data(b'{"v":' + text + b"}")
    told = ONE.find(body, 1, len(body), 1024)
    if told is None:
        return None
    _, starts, ends, _ = told
    return body[at_path(starts) : at_path(ends)]


def test_where_everything_stands():
    event = (
        HEAD
        + b', "time" : "2026", "subject":"c", "data": {"v":[{"v":1},{"a":2}],"l":[0,{"a":"x"}]}}'
    )
    body = b"[" + event + b" , " + HEAD + b',"subject":null,"datacontenttype":"application/json"}]'
    told = found(body)

    def texts(row):
        places_ = zip(told.starts[row], told.ends[row], strict=True)
        return [None if start < 0 else body[start:end] for start, end in places_]

    assert [texts(row) for row in range(len(ATTRIBUTES))] == [
        [b"1", b"1"], [b"/s", b"/s"], [b"t", b"t"], [b"c", None], [b"2026", None],
    ]  # fmt: skip
    assert texts(DATA) == [b'{"v":[{"v":1},{"a":2}],"l":[0,{"a":"x"}]}', None]
    assert [texts(row) for row in range(DATA + 1, DATA + 6)] == [
        [None] * 2, [None] * 2, [b'"x"', None], [None] * 2, [None] * 2,
    ]  # fmt: skip
    assert told.declared.tolist() == [False, True]
    assert body[told.events[1] :].startswith(HEAD)


def test_bodies_behind_each_other():
    one, two = with_data(b'{"v":1}'), b"[" + HEAD + b"}]"
    both = joined([(found(one), 0), (found(two), len(one))])
    assert both.starts[0].tolist() == [
        one.index(b'1","source'),
        len(one) + two.index(b'1","source'),
    ]
    assert both.starts[DATA].tolist() == [one.index(b'{"v"'), -1]
    assert both.ends[DATA].tolist() == [len(one) - 2, -1]
    assert both.events.tolist() == [1, len(one) + 1]


def test_numbers_are_those_of_json():
    for size in range(1, 6):
        for letters in itertools.product("-01.eE+", repeat=size):
            text = "".join(letters)
            try:
                json.loads(text, parse_int=str, parse_float=str)
            except ValueError:
                assert value(text.encode()) is None, text
            else:
                assert value(text.encode()) == text.encode()


@pytest.mark.parametrize("text", ["true", "false", "null", '""', '"x"', '"x y {]"', "1e999999999"])
def test_values(text):
    assert value(text.encode()) == text.encode()


@pytest.mark.parametrize(
    "text",
    ["tru", "truex", "True", "nul", "nulll", "NaN", "Infinity", "", "1 2", "'x'", '"x', "{", "[",
     "[1,]", '{"a":1,}', '{"a"}', "{a:1}", '{"a":}', "[,1]", "[1 2]", '"\\n"', '"\t"', "\x001",
     "+1", '{"a":1 "b":2}', '{"a":1,"b":1,"a":1}', '{"":1,"":2}', "{1:2}", "// 1", "\n1", "\t1"],
)  # fmt: skip
def test_what_is_not_taken(text):
    assert value(text.encode()) is None


def test_text_is_utf_8():
    """All pairs of the bytes at which a rule begins or ends, in the middle of plain text too."""
    edges = [0x20, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0,
             0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF]  # fmt: skip
    for size in (1, 2, 3, 4):
        for letters in itertools.product(
            edges if size < 3 else edges[1::2] if size < 4 else edges[3::3], repeat=size
        ):
            for around in (b"%b", b"123456%b89012345"):
                text = b'"' + around % bytes(letters) + b'"'
                try:
                    text.decode()
                except UnicodeDecodeError:
                    assert value(text) is None, text
                else:
                    assert value(text) == text


def test_every_byte_at_every_place_of_a_word():
    for byte, at in itertools.product(range(128), range(18)):
        text = b'"' + b"x" * at + bytes([byte]) + b"x" * (17 - at) + b'"'
        assert (value(text) == text) == (byte >= 0x20 and byte not in b'"\\'), (byte, at)


def test_bounds():
    deep = DEPTH_MAX - 2  # the data and the value itself
    assert value(b"[" * deep + b"1" + b"]" * deep) == b""  # taken, but no text is at the path
    assert found(with_data(b'{"v":' + b"[" * deep + b"1" + b"]" * deep + b"}")) is not None
    assert found(with_data(b'{"v":' + b"[" * (deep + 2) + b"]" * (deep + 2) + b"}")) is None
    assert found(with_data(b"{" + b",".join(b'"k%d":1' % i for i in range(KEYS_MAX)) + b"}"))
    many = b"{" + b",".join(b'"k%d":1' % i for i in range(KEYS_MAX + 1)) + b"}"
    assert found(with_data(many)) is None
    one = HEAD + b"}"
    assert found(b"[" + one + b"," + one + b"]", events_max=1) is None
    assert found(b"[" + one + b"]", event_bytes_max=len(one)) is not None
    assert found(b"[" + one + b"]", event_bytes_max=len(one) - 1) is None
    assert found(b"[" + HEAD.replace(b'"1"', b'"%b"' % (b"i" * 1024)) + b"}]") is not None
    assert found(b"[" + HEAD.replace(b'"1"', b'"%b"' % (b"i" * 1025)) + b"}]") is None


@pytest.mark.parametrize("key", [b"id", b"source", b"type", b"specversion"])
def test_what_every_event_has(key):
    event = json.loads(HEAD + b"}")
    for wrong in ({}, {key.decode(): None}, {key.decode(): ""}, {key.decode(): 1}):
        rest = {name: text for name, text in event.items() if name != key.decode()}
        assert found(json.dumps([{**rest, **wrong}]).encode()) is None


@pytest.mark.parametrize(
    "more",
    [b'"id":"2"', b'"traceparent":"x"', b'"data":[1]', b'"data":"x"', b'"data":1', b'"time":""',
     b'"subject":""', b'"datacontenttype":"application/xml"', b'"dataschema":"x"', b'"Id":"x"',
     b'"time":1', b'"subject":{}', b'"data":{"v":1},"data":null', b'"data_base64":"e30="'],
)  # fmt: skip
def test_what_an_event_has_not(more):
    assert found(b"[" + HEAD + b"," + more + b"}]") is None


def test_every_shorter_body_is_refused():
    body = b" [ " + HEAD + ',"data":{"v":[1.5e-3,true,null,"ü𝄞"],"l":[{},[]]} } ] '.encode()
    assert found(body) is not None
    whole = len(body.rstrip())
    for size in range(len(body)):
        assert (found(body[:size]) is not None) == (size >= whole), body[:size]
    assert found(body + b"x") is None
    assert found(body + b"\0") is None


def test_many_events_and_many_paths():
    paths = [f"$.k{i}" for i in range(200)]
    find = finding(paths)
    events = [HEAD + b',"data":{"k%d":%d}}' % (i % 200, i) for i in range(3_000)]
    body = b"[" + b",".join(events) + b"]"
    told = find(body, 5_000, 5_000)
    assert told.starts.shape == (DATA + 1 + 200, 3_000)
    for row in range(200):
        has = np.flatnonzero(told.starts[DATA + 1 + row] >= 0)
        assert has.tolist() == list(range(row, 3_000, 200))


def test_wrong_arguments():
    with pytest.raises(TypeError):
        places.Finder((["a"],))
    with pytest.raises(TypeError):
        places.Finder(((1.5,),))
    with pytest.raises(TypeError):
        places.Finder(((),)).find("[]", 1, 1, 1)


@pytest.mark.parametrize("path", ["$.v[99999999999999999999]", "$.v['\ud800'][0]"])
def test_a_path_that_no_value_can_stand_at_keeps_no_other_from_its_values(path):
    body = with_data(b'{"v":[7]}')
    columns = ColumnSet({"n_a": parse_path(path), "n_b": parse_path("$.v[0]")})
    told = columns.find(body, 1, len(body))
    assert told.starts[DATA + 1].tolist() == [-1]
    assert body[told.starts[DATA + 2][0] : told.ends[DATA + 2][0]] == b"7"


@pytest.mark.slow(90)
def test_no_byte_is_touched_that_is_not_its_own(tmp_path):
    """The same pass, built with the compiler's sanitizers, over searched near misses."""
    assert COMPILER is not None, "install a C compiler"
    made = tmp_path / "_places.abi3.so"
    include = sysconfig.get_paths()["include"]
    sources = sorted((ROOT / "src/tallybook/transport").glob("_*.c"))
    checks = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    command = [COMPILER, *checks, "-fPIC", "-shared", f"-I{include}", *sources, "-o", made]
    subprocess.run(command, check=True)
    libraries = [
        subprocess.run(
            [COMPILER, f"-print-file-name={name}"], check=True, capture_output=True, text=True
        ).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    watched = {"LD_PRELOAD": " ".join(libraries), "ASAN_OPTIONS": "detect_leaks=0"}
    for search in ("alike_fuzz", "codec_fuzz"):
        subprocess.run(
            [sys.executable, "-m", "tests.support.sanitized", made, f"tests.support.{search}",
             "--seconds", "30", "--seed", "40000"],
            check=True, cwd=ROOT, env={**os.environ, **watched}, timeout=300,
        )  # fmt: skip

"""Log formats as a server's configuration spells them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallybook.collect.formats import apache, envoy, nginx
from tallybook.collect.formats.choice import ends_whole, log_format
from tallybook.collect.formats.declared import VARIABLES_MAX, Variable, compiled
from tallybook.collect.lines import Line, Record
from tallybook.kernel.errors import Invalid
from tallybook.kernel.problem import Problem

COMBINED = (
    '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent'
    ' "$http_referer" "$http_user_agent"'
)


def read(name: str, line: str, pattern: str | None = None, subject: str | None = None):
    found = log_format(name, pattern, subject).parse(line)
    assert isinstance(found, Record), found
    return found, json.loads(bytes(found.data))


def problem(name: str, line: str, pattern: str | None = None) -> str:
    found = log_format(name, pattern).parse(line)
    assert isinstance(found, Problem), found
    return found.code


@pytest.mark.parametrize(
    "line",
    [
        '1.2.3.4 - - [17/May/2015:10:05:03 +0200] "GET /a?b HTTP/1.1" 200 512 "-" "x y"',
        '1.2.3.4 - bob [17/May/2015:10:05:03 +0000] "-" 400 0 "http://r/" "q\\"q"',
        '1.2.3.4 - - [17/May/2015:10:05:03 +0000] "\\x16\\x03" 400 - "-" "-"',
    ],
)
def test_combined_said_as_a_format_reads_like_combined(line):
    ready = log_format("combined").parse(line)
    for declared in (log_format("nginx", COMBINED), log_format("apache", "combined")):
        found = declared.parse(line)
        assert isinstance(ready, Record)
        assert isinstance(found, Record)
        assert (found.subject, found.time, found.type) == (ready.subject, ready.time, ready.type)
        told, said = json.loads(bytes(found.data)), json.loads(bytes(ready.data))
        expected = 0 if said["bytes"] == 0 and told["bytes"] is None else told["bytes"]
        assert expected == said["bytes"]
        assert {k: v for k, v in told.items() if k not in {"bytes", "ident"}} == {
            k: v for k, v in said.items() if k != "bytes"
        }


def test_an_nginx_statement_with_json_escapes():
    statement = r"""
        log_format usage escape=json '{"t":"$time_iso8601","a":"$remote_addr","r":"$request",'
            '"s":$status,"b":$bytes_sent,"rt":$request_time,"up":"$upstream_response_time",'
            '"tenant":"$http_x_tenant"}';
    """
    line = (
        '{"t":"2026-11-21T08:00:00+00:00","a":"10.0.0.1","r":"GET /x HTTP/2.0","s":200,"b":1234,'
        '"rt":0.010,"up":"0.1, 0.2","tenant":"ac\\"me"}'
    )
    record, data = read("nginx", line, statement, "http_x_tenant")
    assert record.subject == 'ac"me'
    assert b'"request_time":0.010' in bytes(record.data)
    assert data["bytes"] == data["bytes_sent"] == 1234
    assert data["upstream_response_time"] == "0.1, 0.2"
    assert data["client"] == "10.0.0.1"


def test_upstream_lists_and_forwarded_chains_without_quotes():
    pattern = (
        "$remote_addr $msec $request_method $request_uri $status $upstream_addr"
        " $http_x_forwarded_for"
    )
    line = "1.2.3.4 1447000000.123 GET /a 200 10.0.0.1:80, 10.0.0.2:80 9.9.9.9, 8.8.8.8"
    record, data = read("nginx", line, pattern)
    assert record.time == "2015-11-08T16:26:40.123000Z"
    assert data["upstream_addr"] == "10.0.0.1:80, 10.0.0.2:80"
    assert data["http_x_forwarded_for"] == "9.9.9.9, 8.8.8.8"


def test_apache_directives():
    statement = (
        r'LogFormat "%v:%p %a %l %u %{sec}t %m %U%q %H %>s %!200b %I %O'
        r' \"%{Referer}i\" \"%{User-Agent}i\" %D %{ms}T \"%{X-Tenant}i\" \"%{id}C\" 100%%" usage'
    )
    line = (
        'a.example:443 1.2.3.4 - bob 1447000000 GET /x?y=1 HTTP/1.1 200 512 300 700 "-" "curl"'
        ' 1234 1 "acme" "s1" 100%'
    )
    record, data = read("apache", line, statement, "http_x_tenant")
    assert record.subject == "acme"
    assert data["path"] == "/x?y=1"
    assert (data["bytes"], data["request_length"], data["bytes_sent"]) == (512, 300, 700)
    assert (data["duration_us"], data["duration_ms"]) == (1234, 1)
    assert (data["cookie_id"], data["user"], data["server_port"]) == ("s1", "bob", 443)
    assert log_format("apache", statement).complete_at_end


def test_envoy_by_default_and_by_its_own_string():
    line = (
        '[2016-04-15T20:17:00.310Z] "POST /api HTTP/2" 0 DC 154 0 226 - "10.0.35.28, 10.1.1.1"'
        ' "nsq2http" "cc21d9b0" "locations" "tcp://10.0.2.1:80"'
    )
    record, data = read("envoy", line)
    assert record.subject == "10.1.1.1"
    assert (data["status"], data["bytes"], data["bytes_received"]) == (0, 0, 154)
    assert data["response_flags"] == "DC"
    nobody, _ = read("envoy", line.replace("10.0.35.28, 10.1.1.1", "-"))
    assert nobody.subject is None
    pattern = (
        "%START_TIME(%s.%3f)% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %REQ(:METHOD)%"
        " %RESPONSE_CODE% %RESP(X-UNITS)% %REQ(X-TENANT):20% 5%%\\n"
    )
    own, told = read("envoy", "1447000000.310 1.2.3.4 GET 200 7 acme 5%", pattern)
    assert own.subject == "1.2.3.4"
    assert (told["sent_http_x_units"], told["http_x_tenant"]) == ("7", "acme")


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("", "line-empty"),
        ("1.2.3.4 nonsense", "line-malformed"),
        ('1.2.3.4 - - [17/Xyz/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 5 "-" "x"', "line-time"),
        ('1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 5 "-" "x',
         "line-unfinished"),
        ('1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 5 "-" "x" more',
         "line-malformed"),
        (f'{"x" * 2000} - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 5 "-" "x"',
         "line-field"),
    ],
)  # fmt: skip
def test_a_line_that_does_not_match_to_the_last_character_is_a_problem(line, code):
    assert problem("nginx", line, COMBINED) == code


@pytest.mark.parametrize(
    ("name", "pattern", "subject", "message"),
    [
        ("nginx", None, None, "needs `pattern`"),
        ("apache", None, None, "needs `pattern`"),
        ("combined", "$x", None, "fixed form"),
        ("json", None, "x", "fixed form"),
        ("nope", None, None, "not one of"),
        ("nginx", "$remote_addr$msec", None, "touch"),
        ("nginx", "$remote_addr $status", None, "no time"),
        ("nginx", "$msec", "tenant", "no 'tenant'"),
        ("nginx", "x" * 5000, None, "characters"),
        ("apache", "x" * 5000, None, "characters"),
        ("envoy", "x" * 5000, None, "characters"),
        ("nginx", "log_format x nothing;", None, "no quoted strings"),
        ("nginx", "".join(f"$a{n} " for n in range(VARIABLES_MAX + 1)), None, "variables"),
        ("apache", "%t %Z", None, "no directive"),
        ("apache", "%t %~", None, "no directive"),
        ("apache", "%t 5% %h", None, "no directive"),
        ("apache", "%{%d}t", None, "cannot be read"),
        ("apache", "%t %{days}T", None, "no duration"),
    ],
)
def test_a_format_that_cannot_be_read_is_refused_before_any_line(name, pattern, subject, message):
    with pytest.raises(Invalid, match=message):
        log_format(name, pattern, subject)


def test_times_that_apache_may_write():
    assert read("apache", "2026-11-21T08:00:00+0000 1.2.3.4 7", "%{%FT%T%z}t %h %b")[0].time
    assert read("apache", "21/Nov/2026:08:00:00 +0000|7", "%{begin:%d/%b/%Y:%H:%M:%S %z}t|%b")


def test_a_last_line_is_whole_where_its_format_ends_with_text():
    form = log_format("nginx", COMBINED)
    whole = b'1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 5 "-" "x"'
    assert ends_whole(Line(0, len(whole), whole, "d", len(whole)), form)
    assert not ends_whole(Line(0, 20, whole[:20], "d", 20), form)
    assert not log_format("nginx", "$msec $bytes_sent").complete_at_end


def test_the_first_of_two_that_say_the_same_wins_and_paths_take_their_query():
    parse = compiled("x", [Variable("time", "moment"), " ", Variable("path"), " ",
                           Variable("query"), " ", Variable("path")])  # fmt: skip
    found = parse("2026-11-21T08:00:00Z /a b=1 /z")
    assert isinstance(found, Record)
    assert json.loads(bytes(found.data))["path"] == "/a?b=1"


TEXT = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x2FFF, exclude_characters='"\\\x7f'), max_size=30
)


@given(
    agent=TEXT, referer=TEXT, size=st.integers(0, 10**18 - 1), status=st.integers(100, 599),
    length=st.decimals(0, 10**6, allow_nan=False, allow_infinity=False, places=3),
)  # fmt: skip
def test_what_a_server_writes_is_read_back(agent, referer, size, status, length):
    pattern = COMBINED + " rt=$request_time"
    line = (
        f'1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" {status} {size}'
        f' "{referer or "-"}" "{agent or "-"}" rt={length}'
    )
    record, data = read("nginx", line, pattern)
    assert (data["bytes"], data["status"]) == (size, status)
    assert data["user_agent"] == (agent if agent not in {"", "-"} else None)
    assert data["referer"] == (referer if referer not in {"", "-"} else None)
    assert f'"request_time":{length}'.encode() in bytes(record.data)


@given(st.text(max_size=200))
def test_no_line_raises(line):
    for form in (
        log_format("nginx", COMBINED),
        log_format("envoy"),
        log_format("apache", "common"),
    ):
        assert form.parse(line) is not None


def test_tokens_keep_every_literal():
    assert nginx.tokens("a${msec}b$status")[0] == "a"
    assert apache.tokens("%%")[1] == "%"
    assert envoy.tokens("%%x")[0] == "%x"

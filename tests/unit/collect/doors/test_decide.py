"""What a request adds: events, identities, counts, and what goes to quarantine."""

import json
import re
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallybook.collect.doors.decide import decide, prepare
from tallybook.collect.doors.influx import points as lines
from tallybook.collect.doors.point import Bad, Decoded, Point
from tallybook.collect.doors.rules import NO_RULES, DoorRules, SeriesRule, checked, like, mapped
from tallybook.kernel.errors import Invalid

S = 1_000_000
NOW = 1_800_000_000 * S
LATEST = NOW + 60 * S
BORN = NOW - 3_600 * S


def point(value, at=0, kind="counter", **more):
    given = {"name": "m", "labels": {"instance": "i"}, **more}
    return Point(kind=kind, time_us=NOW + at * S, value=Decimal(value), **given)


class Door:
    """A door with its standings, request after request."""

    def __init__(self, door="prometheus", rules=NO_RULES, room=1000, only=None):
        self.door, self.rules, self.room, self.known = door, rules, room, {}
        self.only = only

    def send(self, *points, bad=(), **more):
        decoded = Decoded(points=points, bad=tuple(bad), **more)
        prepared = prepare("default", self.door, self.rules, decoded, LATEST, self.only)
        known = {key: self.known[key] for key in prepared.keys if key in self.known}
        decision = decide(prepared, known, BORN, self.room)
        self.known |= {key: body for key, (_, body) in decision.standings.items()}
        self.room -= decision.made
        return decision

    def data(self, *points, **more):
        return [json.loads(bytes(e.data)) for e in self.send(*points, **more).events]


def test_growth_is_an_event_with_its_labels():
    door = Door()
    decision = door.send(point(5), point(8, 10))
    (event,) = decision.events
    assert json.loads(bytes(event.data)) == {
        "value": 3, "since": "2027-01-15T08:00:00Z", "instance": "i"
    }  # fmt: skip
    assert (event.type, event.subject, event.source) == ("m", "i", "door:prometheus")
    assert event.time == "2027-01-15T08:00:10Z"
    assert decision.tally == {"baseline": 1, "events": 1}


def test_the_order_within_a_request_is_that_of_time():
    assert [d["value"] for d in Door().data(point(8, 10), point(5), point(9, 20))] == [3, 1]


def test_labels_that_have_the_names_of_figures_are_told_apart():
    door = Door()
    labels = {"value": "v", "sum": "s", "plain": "p"}
    (found,) = door.data(point(7, kind="level", labels=labels))
    assert found == {"value": 7, "label_value": "v", "label_sum": "s", "plain": "p"}


def test_a_series_without_labels():
    assert Door().data(point(7, kind="level", labels={})) == [{"value": 7}]


def test_a_histogram_has_count_and_sum():
    door = Door("otlp")
    start = NOW - 5 * S
    (found,) = door.data(point(7, sum=Decimal("2.5"), start_us=start))
    assert (found["count"], found["sum"]) == (7, 2.5)
    (found,) = door.data(point(3, kind="delta", sum=Decimal("1.5"), start_us=start))
    assert (found["count"], found["sum"], found["since"]) == (3, 1.5, "2027-01-15T07:59:55Z")


def test_identities_are_of_series_and_instant():
    door = Door("otlp")
    one = point(1, kind="delta", start_us=NOW - 5 * S)
    ids = [
        door.send(sample).events[0].id
        for sample in (
            one,
            one,
            point(1, kind="delta", start_us=NOW - 6 * S),
            point(1, kind="level"),
            point(1, kind="level", labels={"instance": "j"}),
        )
    ]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 4


def test_series_of_two_tenants_are_two():
    keys = {
        prepare(tenant, "otlp", NO_RULES, Decoded(points=(point(1),)), LATEST).works[0].key
        for tenant in ("a", "b")
    }
    assert len(keys) == 2


EVIDENCE = [
    ("process_start_time_seconds", {"job": "j", "instance": "i"}),
    ("m_created", {"job": "j", "instance": "i", "path": "/"}),
]


@pytest.mark.parametrize(("name", "labels"), EVIDENCE)
@pytest.mark.parametrize("late", [False, True])
def test_evidence_of_other_series_explains_a_fall(name, labels, late):
    own = {"job": "j", "instance": "i", "path": "/"}

    def counter(value, at):
        return point(value, at, name="m_total", labels=own)

    start = point((NOW + 5 * S) / Decimal(S), 10, kind="evidence", name=name, labels=labels)
    door = Door()
    door.send(counter(100, 0))
    total = 0
    for request in ([counter(3, 10)], [start, counter(4, 20)]) if late else (
        [counter(3, 10), start], [counter(4, 20)],
    ):  # fmt: skip
        total += sum(found["value"] for found in door.data(*request))
    assert total == 4


def test_evidence_that_is_none_is_left_alone():
    door = Door()
    labels = {"job": "j", "instance": "i"}
    for value in (0, -1, 5, 4):
        start = point(value, kind="evidence", name="process_start_time_seconds", labels=labels)
        decision = door.send(start)
    assert decision.standings == {}
    assert decision.tally == {"evidence": 1, "events": 0}


def test_a_fall_is_said_with_its_series():
    door = Door()
    door.send(point(100))
    decision = door.send(point(3, 10))
    assert decision.tally["fell"] == 1
    assert decision.examples["fell"] == 'm {"instance":"i"}'


def test_too_many_series_are_refused_and_the_known_go_on():
    door = Door(room=1)
    door.send(point(1))
    decision = door.send(point(2, 1), point(1, 1, labels={"instance": "new"}))
    assert (decision.refused, decision.lost, decision.stored) == (1, 1, 1)


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (point(1, 61), "time-in-future"),
        (point(-1), "counter-negative"),
        (point("1e20", kind="level"), "value-out-of-range"),
        (point("inf", kind="level"), "value-out-of-range"),
        (point(1, sum=Decimal("1e21")), "value-out-of-range"),
        (point(1, name=""), "name-missing"),
    ],
)
def test_what_can_never_be_counted_moves_no_baseline(wrong, code):
    door = Door()
    decision = door.send(wrong)
    assert decision.standings == {}
    (event,) = decision.events
    report = json.loads(bytes(event.data))
    assert (event.type, report["code"]) == ("io.tallybook.unparsed", code)
    assert decision.lost == 1
    assert decision.stored == 0


def test_the_same_piece_has_the_same_identity_in_quarantine():
    bad = [Bad(code="c", message="m", piece="p", place="line 1"),
           Bad(code="c", message="m", piece="p", place="line 2"),
           Bad(code="c", message="m", piece="p", key="1")]  # fmt: skip
    ids = [event.id for event in Door().send(bad=bad).events]
    assert ids[0] == ids[1] != ids[2]


def test_more_digits_than_twelve_are_rounded_before_they_are_subtracted():
    door = Door()
    door.send(point("0.1000000000004"))
    (found,) = door.data(point("0.3000000000016", 10))
    assert found["value"] == 0.200000000002


def test_envelopes_pass_through():
    decision = Door("logs").send(envelopes=(b"{}",))
    assert decision.envelopes == (b"{}",)
    assert decision.stored == 1


def records(body, rules=NO_RULES, door=None):
    door = door or Door("influx", rules)
    decoded = lines(body.encode(), "ns", NOW)
    return door.send(*decoded.points).events


def test_a_record_has_tags_and_fields():
    (event,) = records('m,host=h,a=tag a=1i,b="x" 1800000000000000000')
    assert json.loads(bytes(event.data)) == {"host": "h", "label_a": "tag", "a": 1, "b": "x"}


def test_fields_that_a_rule_counts_become_series():
    rules = DoorRules(series=[SeriesRule(match="net.bytes_*", kind="counter")])
    door = Door("influx", rules)
    records('net,host=h bytes_in=5i,bytes_out=2i,text="x" 1800000000000000000', door=door)
    events = records('net,host=h bytes_in=9i,bytes_out="no" 1800000001000000000', door=door)
    assert {event.type: json.loads(bytes(event.data)).get("value") for event in events} == {
        "net.bytes_in": 4, "net": None
    }  # fmt: skip


def test_a_record_without_a_time_is_stamped_on_arrival():
    (event,) = records("m f=1")
    assert event.time is None


MATCHED = [
    ([], ("m", "i", "counter")),
    ([SeriesRule(match="other")], ("p.m", "i", "counter")),
    ([SeriesRule(match="m", type="t")], ("t", "i", "counter")),
    ([SeriesRule(match="*", kind="level")], ("p.m", "i", "level")),
    (
        [SeriesRule(match="m", labels={"instance": "j*"}), SeriesRule(type="u")],
        ("u", "i", "counter"),
    ),
    ([SeriesRule(labels={"none": "*"}, action="drop")], ("p.m", "i", "counter")),
    ([SeriesRule(subject=["job", "none"])], ("p.m", None, "counter")),
    ([SeriesRule(match="m", action="drop")], None),
]


@pytest.mark.parametrize(("series", "expected"), MATCHED)
def test_the_first_rule_that_matches_decides(series, expected):
    rules = DoorRules(prefix="p." if series else "", series=series)
    found = mapped("prometheus", rules, point(1))
    assert (found and (found.type, found.subject, found.kind)) == expected


def test_what_no_rule_matches_may_be_left_out():
    rules = DoorRules(unmatched="drop", series=[SeriesRule(match="a*")])
    decision = Door(rules=rules).send(point(1), point(1, name="abc", kind="level"))
    assert [event.type for event in decision.events] == ["abc"]
    assert decision.tally["dropped"] == 1


def test_replicas_are_one_series():
    door = Door()
    for at, replica in ((0, "a"), (1, "b"), (2, "a")):
        door.send(point(at, at, labels={"instance": "i", "__replica__": replica}))
    assert len(door.known) == 1


def test_evidence_is_evidence_whatever_the_rules_say():
    rules = DoorRules(series=[SeriesRule(kind="level")])
    found = mapped("prometheus", rules, point(1, kind="evidence"))
    assert found is not None
    assert found.kind == "evidence"


def test_the_subject_is_the_first_label_that_says_something():
    labels = {"service.name": "shop", "host.name": "", "service.instance.id": None}
    found = mapped("otlp", NO_RULES, point(1, labels=labels))
    assert found is not None
    assert found.subject == "shop"


@pytest.mark.parametrize(
    ("door", "rules"),
    [
        ("none", NO_RULES),
        ("otlp", DoorRules(series=[SeriesRule()] * 201)),
        ("otlp", DoorRules(prefix="x" * 300)),
        ("otlp", DoorRules(series=[SeriesRule(match="")])),
        ("otlp", DoorRules(series=[SeriesRule(type="")])),
        ("otlp", DoorRules(subject=["x"] * 100)),
    ],
)
def test_rules_are_checked(door, rules):
    with pytest.raises(Invalid):
        checked(door, rules)


def test_a_pattern_says_what_it_says():
    rules = DoorRules(series=[SeriesRule(match="a.b*c**d", action="drop")])
    matched = [
        name
        for name in ("a.bcd", "a.bxxcyyd", "axbcd", "a.bcd2", "a.b\nc\nd")
        if mapped("otlp", rules, point(1, name=name)) is None
    ]
    assert matched == ["a.bcd", "a.bxxcyyd", "a.b\nc\nd"]


def test_the_rules_of_the_guide_are_rules(pytestconfig):
    guide = (pytestconfig.rootpath / "docs" / "guides" / "front-doors.md").read_text()
    blocks = re.findall(r"^```json\n(.*?)^```", guide, re.MULTILINE | re.DOTALL)
    (rules,) = [block for block in blocks if '"series"' in block]
    checked("prometheus", msgspec.json.decode(rules, type=DoorRules))


@given(st.text("ab*", max_size=8), st.text("ab", max_size=12))
def test_patterns_fit_as_regular_expressions_do(pattern, text):
    expression = re.escape(pattern).replace(r"\*", ".*")
    assert like(text, pattern) == bool(re.fullmatch(expression, text))


def test_a_pattern_that_would_take_for_ever_does_not():
    assert not like("a" * 4096, "*a" * 100 + "b")


# ---------------------------------------------------------------- keys for some subjects


def test_what_is_of_another_subject_is_told_and_kept_and_moves_no_baseline():
    door = Door()
    door.send(point(5))
    door.only = {"mine"}
    decision = door.send(point(9, 10), point(7, 10, labels={"instance": "mine"}))
    (bad,) = decision.bad
    assert (bad.code, bad.message) == (
        "forbidden",
        "the API key may not send events of 'i'",
    )
    assert json.loads(bad.piece)["labels"] == {"instance": "i"}
    assert decision.tally == {"baseline": 1, "bad": 1, "events": 0}
    door.only = None
    assert [data["value"] for data in door.data(point(11, 20))] == [6]


def test_what_names_no_subject_is_nobodys():
    (bad,) = Door(only={"mine"}).send(point(1, labels={}, kind="level")).bad
    assert bad.message == "the API key may not send events of no subject"


@pytest.mark.parametrize(
    ("labels", "subject", "known"),
    [
        ({"instance": "mine", "job": "j"}, None, 1),
        ({"instance": "i", "job": "j", "customer": "mine"}, ["customer"], 0),
    ],
)
def test_a_bound_key_tells_of_no_other_targets_start(labels, subject, known):
    rules = DoorRules(subject=subject)
    start = point(1_799_999_000, kind="evidence", name="process_start_time_seconds", labels=labels)
    assert len(Door(rules=rules, only={"mine"}).send(start).standings) == known
    assert len(Door(rules=rules).send(start).standings) == 1


def test_complete_events_are_kept_to_the_subjects_too():
    mine, theirs = (b'{"specversion":"1.0","subject":"%s"}' % one for one in (b"mine", b"x"))
    twice = b'{"subject":"mine","subject":"x"}'
    sent = (mine, theirs, twice, b'{"subject":5}', b"{}")
    decision = Door("logs", only={"mine"}).send(envelopes=sent)
    assert decision.envelopes == (mine,)
    assert [bad.piece for bad in decision.bad] == [piece.decode() for piece in sent[1:]]
    assert (decision.stored, decision.lost) == (1, 4)
    assert Door("logs").send(envelopes=sent).envelopes == sent


def test_two_records_of_others_are_two_pieces_with_all_they_said():
    more = {"kind": "record", "labels": {"host": "i"}}
    fields = {"n": msgspec.Raw(b"1")}
    one, two = (point(0, fields=fields, key=key, **more) for key in "ab")
    decision = Door("logs", only={"mine"}).send(one, two)
    assert len({event.id for event in decision.events}) == 2
    assert json.loads(decision.bad[0].piece)["fields"] == {"n": 1}

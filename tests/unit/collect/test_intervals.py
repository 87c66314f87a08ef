"""Files of meters: NEM12 beside the field's own reader, CSV under declared columns."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallybook.collect.intervals.columns import Columns
from tallybook.collect.intervals.files import IntervalFile
from tallybook.collect.intervals.interval import canonical
from tallybook.kernel.errors import Invalid, Unavailable

VALUES = [f"{n}.{n:03d}" for n in range(48)]


def day(date: str, quality: str = "A", values: list[str] = VALUES) -> str:
    return f"300,{date},{','.join(values)},{quality},,,20040202120025,\n"


def nem(*records: str, suffix: str = "E1", unit: str = "kWh", length: str = "30") -> str:
    head = (
        f"100,NEM12,200405011135,MDA1,Ret1\n200,VABD000163,E1Q1,1,{suffix},N1,M1,{unit},{length},\n"
    )
    return head + "".join(records) + "900\n"


def read(text: str, columns: Columns | None = None, **more):
    form = "nem12" if columns is None else "csv"
    work = IntervalFile(text.encode(), form, "meter:m", told=columns, **more)
    found = [json.loads(piece, parse_float=Decimal) for piece in work.pieces()]
    good = [event for event in found if event["type"] == "meter.interval"]
    bad = [event["data"]["message"] for event in found if event not in good]
    return good, bad, work


def values(events) -> list[Decimal]:
    return [Decimal(event["data"]["value"]) for event in events]


def test_a_day_of_nem12():
    events, bad, work = read(nem(day("20040201"), "500,O,S0,20040202120025,\n"))
    assert not bad
    assert values(events) == [Decimal(value) for value in VALUES]
    first, last = events[0], events[-1]
    assert first["time"] == "2004-01-31T14:00:00Z"  # midnight at UTC+10
    assert last["data"]["until"] == "2004-02-01T14:00:00Z"
    assert first["subject"] == "VABD000163"
    assert first["id"] == "VABD000163/E1/2004-01-31T14:00:00Z"
    assert first["data"] == {
        "register": "E1", "quality": "A", "direction": "receive", "serial": "M1", "unit": "kWh",
        "until": "2004-01-31T14:30:00Z", "value": 0,
    }  # fmt: skip
    work.check_whole()


def test_the_fields_own_reader_reads_the_same(tmp_path):
    nemreader = pytest.importorskip("nemreader")
    path = tmp_path / "a.csv"
    path.write_text(nem(day("20040201"), day("20040202", "S52")))
    theirs = nemreader.read_nem_file(str(path)).readings["VABD000163"]["E1"]
    events, _, _ = read(path.read_text())
    assert [float(v) for v in values(events)] == [r.read_value for r in theirs]


def test_qualities_decide_what_counts():
    text = nem(
        day("20040201", "E"), day("20040202", "V"), "400,1,20,E52,,\n400,21,48,A,,\n",
        day("20040203", "N", [""] * 48),
    )  # fmt: skip
    events, bad, work = read(text)
    assert not bad
    assert len(events) == 28
    assert work.left_out == {"quality E": 68, "quality N": 48}
    assert len(read(text, qualities=("A", "E"))[0]) == 96


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (day("20040230"), "no date"),
        (day("20040201", "Z"), "no quality"),
        (day("20040201", values=VALUES[:47]), "no quality"),
        (day("20040201", values=VALUES[:30]), "48 values"),
        (day("20040201", values=["x", *VALUES[1:]]), "value 1 is not a number"),
        (day("20040201", values=["-1", *VALUES[1:]]), "value 1 is not a number"),
        (day("20040201", "V"), "do not cover"),
        (day("20040201", "V") + "400,1,90,A,,\n", "400"),
        (day("20040201", "V") + "400,x,9,A,,\n", "400"),
        (day("20040201", "V") + "400\n", "400"),
        ("999,x\n", "no record"),
        ("200,a\n" + day("20040201"), "9 fields"),
        ("200,,,,E1,,,kWh,30\n", "needs NMI"),
        ("200,n,,,E1,,,kWh,7\n", "interval length"),
    ],
)
def test_a_bad_record_goes_to_quarantine_and_the_others_count(record, said):
    events, bad, work = read(nem(day("20031231"), record))
    assert said in bad[0]
    assert len(events) == 48
    assert work.bad == len(bad)


def test_what_is_no_nem12_file_or_was_cut_off():
    with pytest.raises(Invalid, match="100,NEM12"):
        read("hello\n")
    with pytest.raises(Unavailable, match="900"):
        IntervalFile(b"100,NEM12\n300,1", "nem12", "m").check_whole()
    with pytest.raises(Invalid, match="UTF-8"):
        IntervalFile(b"\xff\xfe", "nem12", "m")
    assert read(nem("400,1,2,A,,\n"))[0] == []


def test_energies_are_kilowatt_hours():
    assert canonical("MWh", Decimal("1.5")) == ("kWh", Decimal(1500))
    assert canonical("wh", Decimal(5)) == ("kWh", Decimal("0.005"))
    assert canonical("KVARH", Decimal(5)) == ("kvarh", Decimal(5))
    assert canonical(" m3 ", Decimal(5)) == ("m3", Decimal(5))
    assert values(read(nem(day("20040201"), unit="MWh"))[0])[1] == 1001


LONG = Columns(meter="id", time="at", values={"import": "kWh", "export": "kWh"},
               zone="Europe/London", keep=("site",))  # fmt: skip


def test_long_csv_under_declared_columns():
    text = (
        "id,at,import,export,site\nm1,2026-01-01T00:00:00,1.50,,A\nm1,2026-07-01 00:30,2,0.25,A\n"
        "m2,2026-07-01T00:00:00Z,3,1,B\n\nm3,yesterday,1,1,C\nm3,2026-01-01,x,1,C\nm3,1\n"
        ",2026-01-01T00:00:00,1,1,D\nm3,2026-01-01T00:00:00,1e30,1,C\n"
    )
    events, bad, _ = read(text, LONG)
    assert [(e["id"], e["data"]["value"]) for e in events] == [
        ("m1/import/2026-01-01T00:00:00Z", Decimal("1.5")),
        ("m1/import/2026-06-30T23:30:00Z", 2),
        ("m1/export/2026-06-30T23:30:00Z", Decimal("0.25")),
        ("m2/import/2026-07-01T00:00:00Z", 3),
        ("m2/export/2026-07-01T00:00:00Z", 1),
    ]
    assert events[0]["data"]["site"] == "A"
    assert [text.split(":")[0] for text in bad] == [
        "'yesterday' is no time in the declared form", "import",
        "the row has 2 cells; the heading has 5",
        "the row names no meter", "import",
    ]  # fmt: skip


def test_the_hour_that_a_change_of_clocks_repeats_and_the_one_it_skips():
    told = Columns(meter_name="m", time="at", values={"v": "kWh"}, zone="Europe/London",
                   time_format="%d/%m/%Y %H:%M", time_is="end", decimal=",",
                   delimiter=";")  # fmt: skip
    rows = ["25/10/2026 01:00;1,5", "25/10/2026 01:30;2", "25/10/2026 01:00;3",
            "25/10/2026 01:30;1.004", "29/03/2026 01:30;9"]  # fmt: skip
    events, bad, _ = read("at;v\n" + "\n".join(rows) + "\n", told)
    assert [(e["time"][11:16], e["data"]["value"]) for e in events] == [
        ("23:30", Decimal("1.5")), ("00:00", 2), ("00:30", 3), ("01:00", 1004),
    ]  # fmt: skip
    assert "skips" in bad[0]
    assert len({e["id"] for e in events}) == 4


@pytest.mark.parametrize(
    ("date", "count"), [("2026-03-29", 46), ("2026-10-25", 50), ("2026-11-01", 48)]
)
def test_a_wide_row_has_as_many_intervals_as_its_local_day(date, count):
    told = Columns(meter="mpan", time="date", values={"v1": "kWh"}, shape="wide",
                   zone="Europe/London", scale="0.1")  # fmt: skip
    heading = "mpan,date," + ",".join(f"v{n}" for n in range(1, 51))
    cells = ["1"] * count + [""] * (50 - count)
    events, bad, _ = read(f"{heading}\nm,{date},{','.join(cells)}\n", told)
    assert not bad
    assert len(events) == count
    assert sum(values(events)) == Decimal(count) / 10
    over = ",".join(["1"] * 50)
    _, bad, _ = read(f"{heading}\nm,{date},{over}\nm,x,{over}\n,{date},{over}\n", told)
    assert len(bad) == (2 if count == 50 else 3)
    empty = read(f"{heading}\nm,{date},x{',' * 49}\n", told)
    assert "value 1" in empty[1][0]


@pytest.mark.parametrize(
    "told",
    [
        {"time": "t", "values": {"v": "kWh"}},
        {"time": "t", "values": {}, "meter": "m"},
        {"time": "t", "values": {"a": "x", "b": "x"}, "meter": "m", "shape": "wide"},
        {"time": "t", "values": {"v": "kWh"}, "meter": "m", "minutes": 7},
        {"time": "t", "values": {"v": "kWh"}, "meter": "m", "scale": "x"},
        {"time": "t", "values": {"v": "kWh"}, "meter": "m", "delimiter": ";;"},
        {"time": "t", "values": {"v": "kWh"}, "meter": "m", "zone": "Mars/Base"},
        {"time": "t", "values": {"v": "kWh"}, "meter": "m", "zone": "+99:00"},
    ],
)
def test_declarations_that_cannot_be(told):
    with pytest.raises(Invalid):
        Columns(**told)


def test_a_heading_without_a_column_and_a_row_that_is_no_csv():
    with pytest.raises(Invalid, match="no one column 'at'"):
        read("id,import,export,site\n", LONG)
    told = Columns(meter_name="m", time="t", values={"v": "kWh"}, zone="+10:00")
    events, bad, work = read(
        't,v\n"x"y,1\n2026-01-01T00:00:00,1\n2026-01-01T00:00:00-05:00,2', told
    )
    assert "not CSV" in bad[0]
    assert [e["time"] for e in events] == ["2025-12-31T14:00:00Z", "2026-01-01T05:00:00Z"]
    with pytest.raises(Unavailable, match="line end"):
        work.check_whole()


@given(st.lists(st.decimals(0, 10**6, places=4), min_size=48, max_size=48))
def test_whatever_the_values_their_sum_is_exact(drawn):
    events, _, _ = read(nem(day("20040201", values=[str(value) for value in drawn])))
    assert sum(values(events)) == sum(drawn)


@given(st.text(max_size=300))
def test_no_content_raises_but_as_said(text):
    for columns in (None, LONG):
        try:
            read(text, columns)
        except Invalid:
            continue

"""The report as pages, and profiles as text."""

import msgspec

from bench.__main__ import HERE, README, TITLES, commands, read_report
from bench.figures.numbers import Spread, spread
from bench.figures.page import (
    BEGIN,
    END,
    number,
    page,
    section_lines,
    speed_table,
    with_speed_table,
)
from bench.figures.report import Bound, Figure, Report, Section, Table, Verdict
from bench.figures.stacks import function, parse, top_text, tree, tree_text

RATE = Figure(
    name="accept",
    spread=Spread(200_000, 150_000, 250_000, 3),
    unit="events/s",
    target="1,000,000 events/s",
    reached=False,
    bounds=(Bound(name="append", value=1_000_000),),
    headline=True,
)
TIME = Figure(
    name="query", spread=spread([20.0]), unit="ms", less_is_better=True,
    bounds=(Bound(name="scan", value=4),),
)  # fmt: skip
SECTION = Section(
    name="scenarios",
    title="Accepting",
    measured_at="2026-11-21T15:00:00Z",
    took_seconds=61.2,
    commit="abc+",
    machine="2 cores",
    versions="Python 3.11",
    load=0.4,
    parameters={"rounds": "3"},
    figures=(RATE, TIME),
    verdicts=(
        Verdict(demand="memory is flat", held=True, found="0"),
        Verdict(demand="lag is flat", held=False, found="9"),
    ),
    tables=(Table(title="Details", head=("a", "b"), rows=(("1", "2"),)),),
    text="Words.",
)


def test_a_bound_is_so_many_times_better_whichever_way_is_better() -> None:
    assert RATE.ratio(RATE.bounds[0]) == 5
    assert TIME.ratio(TIME.bounds[0]) == 5


def test_a_section_says_when_where_with_what_and_beside_which_bound() -> None:
    text = "\n".join(section_lines(SECTION))
    for part in (
        "Measured 2026-11-21 15:00 UTC, in 61 s, at commit abc+. 2 cores. Python 3.11.",
        "Load before it began: 0.4. Parameters: rounds 3.",
        "| accept | 200,000 events/s (150,000 to 250,000, 3 rounds) | append 1,000,000 (5×) |",
        "| 1,000,000 events/s (not reached) |",
        "| query | 20.0 ms | scan 4.00 (5×) |",
        "* Held: memory is flat: 0.",
        "* **Not held**: lag is flat: 9.",
        "| 1 | 2 |",
        "Words.",
    ):
        assert part in text
    assert [verdict.demand for verdict in SECTION.failed] == ["lag is flat"]


def test_a_new_section_replaces_its_older_self_alone() -> None:
    other = msgspec.structs.replace(SECTION, name="soak", title="A soak")
    newer = msgspec.structs.replace(SECTION, measured_at="2026-11-22T15:00:00Z")
    report = Report().with_section(SECTION).with_section(other).with_section(newer)
    assert list(report.sections) == ["scenarios", "soak"]
    assert report.sections["scenarios"] == newer
    text = page(report, ["soak", "scenarios"])
    assert text.index("## A soak") < text.index("## Accepting")
    again = msgspec.json.decode(msgspec.json.encode(report), type=Report)
    assert again == report


def test_the_table_of_readme_has_what_has_a_target_and_nothing_else_is_touched() -> None:
    table = speed_table(Report().with_section(SECTION), ["scenarios"])
    assert "| accept |" in table
    assert "| query |" not in table
    readme = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert with_speed_table(readme, table) == f"before\n{table}\nafter\n"
    assert with_speed_table("no marks", table) == "no marks"


def test_numbers_have_three_digits_that_count() -> None:
    shown = [number(n) for n in (1234567, 99.96, 12.3, 1.234, 0.0123, 0, -250.4)]
    assert shown == ["1,234,567", "100.0", "12.3", "1.23", "0.0123", "0.00", "-250"]


def test_the_pages_in_the_tree_are_those_of_the_report() -> None:
    report, order = read_report(), list(TITLES)
    what_to_do = "run `python -m bench render`"
    assert (HERE / "REPORT.md").read_text() == page(report, order), what_to_do
    assert speed_table(report, order) in README.read_text(), what_to_do


def test_a_quick_run_has_other_parameters_and_every_section_has_some() -> None:
    full, quick = (commands(list(TITLES), quick=quick) for quick in (False, True))
    assert [command.name for command in full] == [command.name for command in quick]
    assert full[0].told["rounds"] > quick[0].told["rounds"]


# ---------------------------------------------------------------- stacks

COLLAPSED = """\
main (bench/x.py:1);run (/usr/lib/tallybook/serve/a.py:10);write (tallybook/log.py:5) 60
main (bench/x.py:1);run (/usr/lib/tallybook/serve/a.py:12);write (tallybook/log.py:9) 20
main (bench/x.py:1);run (/usr/lib/tallybook/serve/a.py:12) 19
main (bench/x.py:2);rare (tallybook/r.py:1) 1
"""


def test_lines_of_one_function_are_one_function() -> None:
    assert function("run (/x/lib/tallybook/a.py:10)") == "run (tallybook/a.py)"
    assert function("get (/x/site-packages/msgspec/json.py:1)") == "get (msgspec/json.py)"
    stacks = parse(COLLAPSED)
    assert sum(count for _, count in stacks) == 100
    assert stacks[0][0] == ["main (bench/x.py)", "run (tallybook/serve/a.py)", "write (tallybook/log.py)"]  # fmt: skip  # noqa: E501


def test_a_tree_has_shares_and_leaves_out_what_is_rare_and_what_only_calls() -> None:
    lines = list(tree_text(tree(parse(COLLAPSED))))
    assert lines[1:] == [
        " 100.0     0.0  main (bench/x.py)",
        "  99.0    19.0    run (tallybook/serve/a.py)",
        "  80.0    80.0      write (tallybook/log.py)",
    ]
    chain = list(tree_text(tree(parse("a (x);b (y);c (z) 4\n"))))
    assert chain[1:] == [" 100.0   100.0  c (z)"]


def test_the_functions_in_which_time_is_spent_stand_first() -> None:
    lines = list(top_text(parse(COLLAPSED), top=2))
    assert lines[1:] == [
        "  80.0    80.0  write (tallybook/log.py)",
        "  19.0    99.0  run (tallybook/serve/a.py)",
    ]


def test_threads_that_only_wait_are_left_out() -> None:
    waits = "run (a.py:1);wait (threading.py:320) 70\nrun (a.py:1);work (a.py:2) 30\n"
    assert [count for _, count in parse(waits)] == [30]


def test_lines_that_are_no_stack_are_passed_over() -> None:
    assert parse("\nnonsense\na (b);c (d) x\n") == []
    assert list(tree_text(tree([]))) == ["total %   self %"]

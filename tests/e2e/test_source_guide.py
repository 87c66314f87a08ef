"""The page of sources: its tables are settings, its commands run, its example counts."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tallybook.serve.agent.settings import AgentSettings, load_settings
from tallybook.serve.agent.sources.registry import sources_of
from tests.support.edge_server import EdgeServer

PAGE = Path(__file__).parents[2] / "docs" / "guides" / "edge-sources.md"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
TABLES = [body for kind, body in FENCE.findall(PAGE.read_text()) if kind == "toml"]
COMMANDS = [
    shlex.split(line)[1:]
    for kind, body in FENCE.findall(PAGE.read_text())
    if kind == ""
    for line in body.splitlines()
]
LINE = '10.0.0.1 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 5 "-" "x"\n'
DAY = ",".join(["0.125"] * 48)
SLOTS = [f"{n // 2:02}:{n % 2 * 3}0" for n in range(48)]


def settings(tmp_path: Path, text: str) -> AgentSettings:
    (tmp_path / "edge.toml").write_text(text)
    return load_settings(tmp_path / "edge.toml", {})


@pytest.mark.parametrize("text", TABLES, ids=range(len(TABLES)))
def test_every_table_is_a_source(tmp_path, text):
    found = sources_of(settings(tmp_path, "host = false\n" + text))
    assert len(found) == len(re.findall(r"^\[\[\w+\]\]", text, re.MULTILINE))
    assert len({source.name for source in found}) == len(found)
    for source in found:
        source.close()


def test_all_tables_together(tmp_path):
    assert len(sources_of(settings(tmp_path, "host = false\n" + "\n".join(TABLES)))) == 11


def test_every_command_runs(tmp_path):
    (tmp_path / "access.log").write_text(LINE)
    (tmp_path / "meters.csv").write_text(
        f"100,NEM12,200405011135,A,B\n200,N1,E1,1,E1,N1,M,kWh,30,\n300,20261101,{DAY},A,,,\n900\n"
    )
    (tmp_path / "half-hours.csv").write_text(f"mpan,date,{','.join(SLOTS)}\nm,2026-11-01,{DAY}\n")
    columns = next(text for text in TABLES if "columns" in text).split("columns]\n")[1]
    (tmp_path / "columns.toml").write_text(columns)
    with EdgeServer() as server:
        for words in COMMANDS:
            done = subprocess.run(
                [sys.executable, "-m", "tallybook", *words, "--url", server.url, "--key", "tb_k"],
                cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            assert done.returncode == 0, f"{shlex.join(words)}: {done.stderr}"
        kinds = [event["type"] for event in server.stored.values()]
    assert kinds.count("http.server.request") == 1
    assert kinds.count("meter.interval") == 96


@pytest.mark.parametrize(
    "text",
    [
        "[[prometheus]]\nurl='http://x'\nseries=[]", "[[prometheus]]\nurl='ftp://x'\nseries=[{}]",
        "[[prometheus]]\nurl='http://x'\nseries=[{}]\ninterval_seconds=0",
        "[[status_page]]\nurl='http://x'\nkind='apache'\npid_file='x'",
        "[[mqtt]]\nhost='x'\nrules=[]", "[[mqtt]]\nhost=''\nrules=[{topic='a',type='t',keep=true}]",
        "[[interval_file]]\npath='x'\nformat='csv'", "[[interval_file]]\npath='x'\ntype=''",
        "[[statsd]]\nlisten=[]", "[[access_log]]\npath='x'\nformat='nginx'",
    ],
)  # fmt: skip
def test_tables_that_cannot_be_are_refused_at_the_start(tmp_path, text):
    from tallybook.kernel.errors import Invalid

    with pytest.raises((Invalid, msgspec.ValidationError)):
        sources_of(settings(tmp_path, "host = false\n" + text))

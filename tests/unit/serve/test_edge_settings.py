"""What the agent is told, and that it needs nothing beside the base install."""

import subprocess
import sys
from pathlib import Path

import click
import pytest

from tallybook.kernel.errors import Invalid
from tallybook.serve.agent.settings import AccessLog, access_log, load_settings
from tallybook.serve.agent.voice import Voice
from tallybook.serve.cli.edge import Duration

SERVER_ONLY = [
    *("altair", "babel", "deltalake", "duckdb", "granian", "jinja2", "litestar", "numpy"),
    *("prometheus_client", "pyarrow", "sqlalchemy", "structlog", "typst", "vl_convert", "xxhash"),
]
HEAVY = [*SERVER_ONLY, "rich", "asyncio"]


def test_the_agent_loads_nothing_of_the_server_extra() -> None:
    program = (
        "import sys, tallybook.serve.agent.loop, tallybook.serve.agent.trial,"
        " tallybook.serve.agent.status, tallybook.serve.cli.main, tallybook.serve.cli.edge,"
        " tallybook.serve.cli.ingest\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_options_overrule_the_file(tmp_path: Path) -> None:
    config = tmp_path / "edge.toml"
    config.write_text(
        'url = "https://a"\ninterval_seconds = 5\n'
        '[[access_log]]\npath = "/a.log"\nformat = "json"\n'
    )
    found = load_settings(config, {"interval_seconds": 2.0, "url": None})
    assert (found.url, found.interval_seconds) == ("https://a", 2.0)
    assert found.access_log == (AccessLog(path=Path("/a.log"), format="json"),)
    logs = (access_log("/b.log"),)
    assert load_settings(config, {"access_log": logs}).access_log == logs


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("interval = 5", "interval"),
        ("interval_seconds = 0", "interval"),
        ('interval_seconds = "x"', "interval"),
        ("spool_bytes_max = 1", "1 MiB"),
        ("drain_seconds = -1", "drain"),
        ('host_name = ""', "host_name"),
        ("host = false", "nothing to collect"),
        ("[[access_log]]\npath = 'a'\nformat = 'elf'", "elf"),
        ("[[access_log]]\npath = 'a'\nsource = ''", "source"),
        ("[[access_log]]\npath = 'a'\n[[access_log]]\npath = 'a'", "twice"),
        ("= 5", "TOML"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(tmp_path: Path, text: str, word: str) -> None:
    config = tmp_path / "edge.toml"
    config.write_text(text)
    with pytest.raises(Invalid, match=word):
        load_settings(config, {})


def test_a_missing_file_is_invalid(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="No such file"):
        load_settings(tmp_path / "none.toml", {})


def test_a_log_is_named_with_its_format() -> None:
    assert access_log("/a:b.log") == AccessLog(path=Path("/a:b.log"))
    assert access_log("/a.log:json") == AccessLog(path=Path("/a.log"), format="json")


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("5m", 300), ("2h", 7200), ("1d", 86400), ("0.5", 0.5)]
)
def test_durations(text: str, seconds: float) -> None:
    assert Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1s", "5w", "nan", "inf"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(click.BadParameter):
        Duration().convert(text, None, None)


def test_a_complaint_is_said_once_while_it_holds(capsys: pytest.CaptureFixture[str]) -> None:
    voice = Voice()
    for _ in range(3):
        voice.complain("server", "down")
    voice.complain("server", "still down, otherwise")
    assert voice.last_complaint == "server: still down, otherwise"
    voice.settle("server")
    voice.settle("server")
    assert voice.last_complaint is None
    said = capsys.readouterr().err.splitlines()
    assert [line.split(" ", 1)[1] for line in said] == [
        "server: down",
        "server: still down, otherwise",
        "server: works again",
    ]

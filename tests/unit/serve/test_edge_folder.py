"""Files of meters that arrive: read once, told where they cannot be, tried again when changed."""

import os
from pathlib import Path

import pytest

from tallybook.adapters.files.folder import Folder, content_of
from tallybook.collect.aggregate.rule import RuleSet
from tallybook.kernel.errors import Invalid, Unavailable
from tallybook.serve.agent.settings import load_settings
from tallybook.serve.agent.sources.folder import FolderSource
from tallybook.serve.agent.sources.registry import sources_of
from tallybook.serve.agent.sources.tables import IntervalFiles
from tallybook.serve.agent.trial import OneStep

DAY = ",".join(["1"] * 48)
FILE = (
    f"100,NEM12,1,A,B\n200,N,E1,1,E1,N1,M,kWh,30,\n300,20261101,{DAY},A,,,\n"
    f"300,20261102,{DAY},E,,,\n900\n"
)


class Around(OneStep):
    """A dry run that may go on."""

    def may_go_on(self) -> bool:
        return True


def test_a_file_is_read_once_and_again_only_when_it_changes(tmp_path, capsys):
    source = FolderSource(IntervalFiles(path=tmp_path / "*.csv", rest_seconds=0))
    around = Around({}, "edge", RuleSet())
    (tmp_path / "a.csv").write_text(FILE)
    (tmp_path / "b.csv").mkdir()
    assert source.read(around) == 48
    assert "48 intervals do not count: quality E" in capsys.readouterr().err
    assert source.read(around) == 0
    (tmp_path / "a.csv").write_text(FILE + "\n")
    assert source.read(around) == 48
    first, second = around.pieces()[:48], around.pieces()
    assert len(first) == 48
    assert not second
    source.close()


def test_a_file_that_cannot_be_read_is_told_once_and_holds_up_nothing(tmp_path, capsys):
    source = FolderSource(IntervalFiles(path=tmp_path / "*.csv", rest_seconds=0))
    around = Around({}, "edge", RuleSet())
    (tmp_path / "bad.csv").write_text("hello\n900\n")
    (tmp_path / "cut.csv").write_text(FILE[:-4])
    (tmp_path / "good.csv").write_text(FILE)
    for _ in range(3):
        with pytest.raises(Unavailable):
            source.read(around)
    assert len(around.pieces()) == 48
    said = capsys.readouterr().err
    assert said.count("bad.csv") == 1
    assert said.count("900 record") == 1
    (tmp_path / "bad.csv").unlink()
    (tmp_path / "cut.csv").write_text(FILE)
    assert source.read(around) == 48


def test_files_at_rest_and_their_bytes(tmp_path):
    file = tmp_path / "a.csv"
    file.write_bytes(b"x" * 10)
    assert not Folder(tmp_path / "*.csv", 60).files()
    os.utime(file, (0, 0))
    assert [Path(found.path).name for found in Folder(tmp_path / "*.csv", 60).files()] == ["a.csv"]
    with pytest.raises(Unavailable, match="MiB"):
        content_of(str(file), 5)
    (tmp_path / "b.gz").write_bytes(b"no gzip")
    with pytest.raises(Unavailable, match="cannot be read"):
        content_of(str(tmp_path / "b.gz"), 5)


def test_two_sources_of_one_name_are_refused(tmp_path):
    (tmp_path / "edge.toml").write_text(
        "host = false\n" + '[[status_page]]\nkind = "apache"\nurl = "http://127.0.0.1:1/"\n' * 2
    )
    with pytest.raises(Invalid, match="two sources"):
        sources_of(load_settings(tmp_path / "edge.toml", {}))
